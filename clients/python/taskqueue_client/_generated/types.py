"""An optional field without a value is ``None``: the contract tells no difference."""

from types import NoneType

Unset = NoneType
UNSET = None
