"""The HTTP side of taskqueue: the contract, its operations, the event stream."""
