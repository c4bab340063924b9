from enum import StrEnum


class SubscriptionUpdatedType(StrEnum):
    SUBSCRIPTION_UPDATED = "subscription.updated"

    def __str__(self) -> str:
        return self.value
