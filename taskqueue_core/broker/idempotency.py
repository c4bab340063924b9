"""Requests that may be sent twice: which tasks they made, told by a key that the sender chose.

Tasks of a request with a key go to partitions that the key names, up to 100 to each, so that the
request finds them there when it comes again. A record beside them keeps what was in the request
and how their ids begin; ``submit.lua`` reads and writes it.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from taskqueue_core.broker.intake import BATCH
from taskqueue_core.keys import new_task_id
from taskqueue_core.models import Idempotency, NewTask


class IdempotencyKey:
    """The key of one request, whose ``body`` tells it from another request with the same key.

    Keys of one ``owner`` mean nothing to another.
    """

    def __init__(self, key: str, body: bytes, *, owner: str, partitions: int) -> None:
        self._scope = f"{owner}\0{key}\0"
        self._fingerprint = sha256(body).digest()
        self._partitions = partitions
        self._chunks: dict[int, tuple[Idempotency, str]] = {}

    def apply(self, task: NewTask, position: int = 0) -> NewTask:
        """Return the task that is in this place of the request, with its id and its record."""
        chunk, place = divmod(position, BATCH)
        idempotency, first_id = self._chunk(chunk)
        # Tasks of a chunk differ in the byte before the partition: a record keeps what is alike.
        task_id = f"{first_id[:-4]}{place:02x}{first_id[-2:]}"
        return msgspec.structs.replace(task, id=task_id, idempotency=idempotency)

    def _chunk(self, chunk: int) -> tuple[Idempotency, str]:
        found = self._chunks.get(chunk)
        if found is None:
            digest = sha256(f"{self._scope}{chunk}".encode())
            name = digest.hexdigest()[:32]
            partition = int.from_bytes(digest.digest(), "big") % self._partitions
            idempotency = Idempotency(name, self._fingerprint)
            found = self._chunks[chunk] = (idempotency, new_task_id(partition))
        return found
