"""Redis over TLS, as ``redis.url`` says it: whom to trust, and which certificate to show.

One server speaks TLS itself; the embedded one cannot, so that TLS ends before it.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from crowd import new_task
from topology import EMBEDDED, Alone, binary, free_port

from taskqueue_core.broker import Broker, located, open_broker, open_redis
from taskqueue_core.errors import BrokerUnavailableError, SettingsError
from taskqueue_core.plugin import PluginHost, TaskContext, handler
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings
from taskqueue_core.verification.proxy import Proxy, dialer
from taskqueue_core.worker import Worker

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True)
class Papers:
    """PEM files: authorities, and a certificate of ``127.0.0.1`` with its key."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def issue(cls, folder: Path, authority: trustme.CA, *names: str) -> Papers:
        """Write the papers of a server or client with these names."""
        folder.mkdir()
        papers = cls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
        issued = authority.issue_cert(*names)
        authority.cert_pem.write_to_path(papers.ca)
        issued.private_key_pem.write_to_path(papers.key)
        issued.cert_chain_pems[0].write_to_path(papers.certificate)
        return papers

    def as_options(self) -> str:
        """Return what makes a client trust the authority and show the certificate."""
        return f"ssl_ca_certs={self.ca}&ssl_certfile={self.certificate}&ssl_keyfile={self.key}"


class TlsProxy(Proxy):
    """Speaks TLS with clients that show a certificate, and plainly with the server."""

    papers: Papers

    async def start(self) -> None:
        """Listen."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.papers.ca)
        context.load_cert_chain(self.papers.certificate, self.papers.key)
        context.verify_mode = ssl.CERT_REQUIRED
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]


@asynccontextmanager
async def proxied(papers: Papers, url: str) -> AsyncIterator[int]:
    """Yield the port of TLS before a server that speaks none."""
    dial = dialer(url)
    assert dial is not None
    proxy = TlsProxy(dial)
    proxy.papers = papers
    await proxy.start()
    yield proxy.port
    await proxy.close()


@asynccontextmanager
async def native(papers: Papers, folder: Path) -> AsyncIterator[int]:
    """Yield the TLS port of a Redis."""
    port = free_port()
    place = Alone(
        binary("redis"),
        folder,
        *("--tls-port", str(port), "--tls-auth-clients", "yes"),
        *("--tls-ca-cert-file", str(papers.ca)),
        *("--tls-cert-file", str(papers.certificate), "--tls-key-file", str(papers.key)),
    )
    yield port
    place.close()


@pytest.fixture
def authority() -> trustme.CA:
    """Return a throw-away authority."""
    return trustme.CA()


@pytest.fixture
def papers(tmp_path: Path, authority: trustme.CA) -> Papers:
    """Return papers of 127.0.0.1."""
    return Papers.issue(tmp_path / "papers", authority, "127.0.0.1")


@pytest.fixture(params=["native", "proxied"])
async def port(
    request: pytest.FixtureRequest, papers: Papers, tmp_path: Path, url_of: Callable[[str], str]
) -> AsyncIterator[int]:
    """Yield the port of a server that speaks TLS with who shows a certificate."""
    is_native = request.param == "native"
    place = native(papers, tmp_path) if is_native else proxied(papers, url_of(EMBEDDED))
    async with place as port:
        yield port


def settings_for(url: str, namespace: str) -> Settings:
    """Return settings for a URL, impatient ones."""
    redis = RedisSettings(url=url, max_retries=0)
    return Settings(redis=redis, queue=QueueSettings(namespace=namespace))


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Broker]:
    """Yield a broker that is not prepared yet."""
    broker = open_broker(settings)
    yield broker
    await broker.close()


@handler("echo")
async def echo(ctx: TaskContext, payload: object) -> str:
    """Answer the task's id."""
    return ctx.id


async def test_a_task_is_submitted_and_runs(port: int, papers: Papers, namespace: str) -> None:
    """All of a worker's connections, blocking ones and the heartbeat's too, are made so."""
    settings = settings_for(f"rediss://127.0.0.1:{port}/0?{papers.as_options()}", namespace)
    async with opened(settings) as broker:
        await broker.prepare()
        task = new_task(broker)
        worker = Worker(settings, PluginHost.of(echo), worker_id="w1", rng=random.Random("tls"))
        running = asyncio.create_task(worker.run())
        await broker.submit(task)
        feed = broker.event_feed()
        seen: set[str] = set()
        async with asyncio.timeout(20):
            async for events in feed.follow({0: 0}):
                seen |= {event.type for event in events}
                if "task.completed" in seen:
                    break
        await feed.close()
        worker.stop()
        assert await running == 0
        assert (await broker.inspection.get(task.id)).result == f'"{task.id}"'.encode()
        assert await broker.inspection.audit() == []


async def test_a_stranger_is_not_trusted(
    port: int, papers: Papers, tmp_path: Path, namespace: str
) -> None:
    """Another authority, or none but those of the machine: an error that says so."""
    stranger = Papers.issue(tmp_path / "stranger", trustme.CA(), "127.0.0.1")
    own = f"ssl_certfile={papers.certificate}&ssl_keyfile={papers.key}"
    for options in (own, f"{own}&ssl_ca_certs={stranger.ca}"):
        settings = settings_for(f"rediss://127.0.0.1:{port}/0?{options}", namespace)
        async with opened(settings) as broker:
            with pytest.raises(BrokerUnavailableError, match="certificate verify failed"):
                await broker.prepare()


async def test_the_name_must_be_the_hosts(port: int, papers: Papers, namespace: str) -> None:
    """A certificate of another host is taken only by who asks for it."""
    url = f"rediss://localhost:{port}/0?{papers.as_options()}"
    async with opened(settings_for(url, namespace)) as broker:
        with pytest.raises(BrokerUnavailableError, match="Hostname mismatch"):
            await broker.prepare()
    for option in ("ssl_check_hostname=false", "ssl_cert_reqs=none"):
        async with opened(settings_for(f"{url}&{option}", namespace)) as broker:
            await broker.prepare()


async def test_without_tls_nobody_answers(port: int, namespace: str) -> None:
    """A forgotten s in the URL is a broker that cannot be reached."""
    async with opened(settings_for(f"redis://127.0.0.1:{port}/0", namespace)) as broker:
        with pytest.raises(BrokerUnavailableError):
            await broker.prepare()


@pytest.mark.parametrize("scheme", ["rediss", "rediss+sentinel", "rediss+cluster"])
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
@pytest.mark.parametrize("content", [None, "no PEM"])
def test_files_are_looked_at_first(
    papers: Papers, tmp_path: Path, scheme: str, option: str, content: str | None
) -> None:
    """One that is missing or no certificate is a setting that is wrong, not a broker away."""
    path = tmp_path / "file.pem"
    if content:
        path.write_text(content)
    others = [part for part in papers.as_options().split("&") if not part.startswith(option)]
    query = "&".join([*others, f"{option}={path}"])
    service = "/tasks" if "sentinel" in scheme else ""
    settings = settings_for(f"{scheme}://127.0.0.1:1{service}?{query}", "tls")
    with pytest.raises(SettingsError, match=option):
        open_redis(settings)
    # Before any process is started.
    with pytest.raises(SettingsError, match=option) as caught, located(settings):
        pass
    assert content or str(path) in str(caught.value)
