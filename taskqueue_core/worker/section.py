"""What a worker does in one partition; a worker has a section for each and shares its slots."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from taskqueue_core.broker import Broker
from taskqueue_core.broker.clients import Client
from taskqueue_core.logs import Throttle
from taskqueue_core.plugin import PluginHost
from taskqueue_core.settings import Settings
from taskqueue_core.worker import control
from taskqueue_core.worker.desk import Desk
from taskqueue_core.worker.executor import Executor
from taskqueue_core.worker.fetcher import LANES, Fetcher
from taskqueue_core.worker.heartbeat import Heartbeat, HeartbeatCalls
from taskqueue_core.worker.loop import Backoff
from taskqueue_core.worker.measurements import Measurements
from taskqueue_core.worker.progress import Progress
from taskqueue_core.worker.recovery import Recovery
from taskqueue_core.worker.registration import Registration
from taskqueue_core.worker.routing import Misrouted
from taskqueue_core.worker.scheduler import Scheduler
from taskqueue_core.worker.slots import Slots

T = TypeVar("T")


class Post(Protocol):
    """Makes of a call one that another thread may make: it runs on the worker's loop."""

    def __call__(self, call: Callable[[T], None], /) -> Callable[[T], None]:
        """Return the other call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the sections of a worker have in common."""

    settings: Settings
    host: PluginHost
    worker_id: str
    instance: str
    broker: Broker
    blocking: Client
    slots: Slots
    executor: Executor
    misrouted: Misrouted
    measurements: Measurements
    throttle: Throttle
    backoff: Callable[[str], Backoff]
    post: Post
    on_hang: Callable[[], None]


class Section:
    """The session, the desk and the loops of one partition."""

    def __init__(self, shared: Shared, partition: int) -> None:
        settings, broker = shared.settings.worker, shared.broker
        self.partition = partition
        self.session = broker.session(shared.worker_id, shared.instance, partition)
        self.desk = desk = Desk(
            shared.worker_id, shared.throttle, shared.executor, shared.misrouted
        )
        self.fetcher = desk.fetcher = Fetcher(
            self.session,
            desk,
            slots=shared.slots,
            share=len(broker.partitions),
            backoffs=[shared.backoff(f"fetcher {partition}.{lane}") for lane in range(LANES)],
            # A heartbeat gives back what was handed out two intervals ago and is not named.
            trust_seconds=settings.heartbeat_interval_seconds,
        )
        desk.scheduler = Scheduler(broker, self.fetcher, partition)
        desk.recovery = Recovery(
            broker, self.session, self.fetcher, desk, lease_seconds=settings.lease_seconds
        )
        self.registration = desk.registration = Registration(
            broker,
            self.session,
            settings,
            shared.host.infos(),
            shared.host.schemas,
            on_queues=self._serve,
            throttle=shared.throttle,
        )
        self.bell = control.Bell(
            shared.blocking, self.session, self.fetcher, is_choosy=bool(settings.queues)
        )
        self.control = control.Control(shared.blocking, self.session, self.desk.heard)
        self.heartbeat = self._make_heartbeat(shared)
        self.progress = Progress(self.session, shared.executor, shared.post)

    def _make_heartbeat(self, shared: Shared) -> Heartbeat:
        return Heartbeat(
            shared.settings,
            shared.executor,
            shared.measurements,
            types=sorted(shared.host.handlers),
            calls=HeartbeatCalls(
                beat=shared.post(self.desk.beat),
                lost=shared.post(self.desk.lost),
                cancelled=shared.post(self.desk.cancelled),
                failed=shared.post(self.desk.beat_failed),
                hung=shared.on_hang,
            ),
        )

    def loops(self) -> dict[str, Callable[[], Awaitable[float]]]:
        """Return what is repeated until the worker is told to stop; it has more, see ``Worker``."""
        return {
            f"scheduler {self.partition}": self.desk.scheduler.run_once,
            f"bell {self.partition}": self.bell.run_once,
            f"progress {self.partition}": self.progress.run_once,
        }

    def _serve(self, queues: Sequence[str]) -> None:
        """Serve these queues from now on, critical tasks of all of them first."""
        keys = self.session.keys
        streams = [keys.stream(queue, priority) for priority in (3, 2, 1, 0) for queue in queues]
        self.bell.serve(queues)
        self.fetcher.streams = streams
        self.heartbeat.streams = streams
        self.fetcher.wake()
