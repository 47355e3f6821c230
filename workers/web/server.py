"""Runs a gateway in this process until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Awaitable, Iterator, Sequence

from workers.bootstrap import open_store
from workers.errors import SettingsError
from workers.gateway_settings import GatewaySettings
from workers.lists.policy_options import policy_options
from workers.runtime.event_loop import new_event_loop
from workers.runtime.health import Heartbeat
from workers.runtime.status import WorkerStatus
from workers.runtime.status_server import StatusServer
from workers.runtime.threads import limit_threads
from workers.settings import Settings
from workers.stream.model_sync import ModelFollower
from workers.stream.stored_models import StoredModels
from workers.stream.warm_up import compile_lists
from workers.web.access import Clients
from workers.web.app import build_app
from workers.web.bridge import Bridge
from workers.web.explainer import Explainer
from workers.web.gateway_metrics import GatewayMetrics
from workers.web.guard import App
from workers.web.held_lists import HeldLists
from workers.web.kafka_sender import KafkaSender
from workers.web.list_follower import ListFollower
from workers.web.live_state import LiveState
from workers.web.on_request import ListRequest, ListsOnRequest
from workers.web.parts import Parts
from workers.web.published import PublishedLists
from workers.web.related_items import RelatedItems

log = logging.getLogger(__name__)

STOP_S = 10
"""Seconds that requests in hand have after SIGTERM."""
KEEP_ALIVE_S = 65
"""Longer than the 60 s after which load balancers drop an idle connection, so that none sends on one that is being closed."""
BEAT_S = 1.0
LOOPS = "loops"
"""Name of the reason why the gateway is not ready while it loads compiled loops."""
BACKLOG = 2_048


def run_gateway(settings: Settings) -> None:
    """Answer requests until a signal comes. Raises SettingsError when the address cannot be bound."""
    status = WorkerStatus()
    server = StatusServer(status, settings.metrics, max_stall_s=settings.health.max_age_s)
    server.start()
    limit_threads(settings.stream.torch_threads)
    try:
        loop = new_event_loop()
        try:
            loop.run_until_complete(_serve(settings, status))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
    finally:
        server.stop()


async def _serve(settings: Settings, status: WorkerStatus) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as running:
        listening = running.enter_context(bound(settings.gateway))
        app = await start_gateway(settings, status, running)
        running.push_async_callback(cancel_all, [asyncio.ensure_future(load_loops(settings, status))])
        log.info("answering at http://%s:%d", settings.gateway.host, settings.gateway.port)
        await serve_until(stop, app, listening)


async def serve_until(stop: asyncio.Event, app: App, listening: socket.socket) -> None:
    """Answer requests on a bound socket until `stop` is set, and those in hand after it."""
    import uvicorn

    class Server(uvicorn.Server):
        """Leaves signals to the worker, which ends with exit code 0 after one."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    server = Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
            backlog=BACKLOG,
        )
    )
    serving = asyncio.ensure_future(server.serve([listening]))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await serving


def bound(settings: GatewaySettings) -> socket.socket:
    """Return a socket at the gateway's address. Raises SettingsError when it cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(settings.host.strip("[]"), settings.port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # head and body are two writes: without this the second waits up to 40 ms for an acknowledgement
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            found.bind(address)
        except OSError:
            found.close()
            raise
    except OSError as error:
        why = error.strerror or type(error).__name__
        at = f"{settings.host}:{settings.port}"
        raise SettingsError(f"setting gateway.port: {at} cannot be listened on ({why}): choose another port or host") from None
    return found


async def start_gateway(settings: Settings, status: WorkerStatus, running: contextlib.AsyncExitStack) -> App:
    """Start what follows Kafka and Redis until `running` is closed, and return the application."""
    metrics = GatewayMetrics(status)
    held = HeldLists(settings.gateway.held_mb << 20)
    lists = ListFollower(settings, held, metrics, status)
    stored = StoredModels(settings)
    state = LiveState(
        settings, lambda: open_store(settings), status, models=lambda opened: ModelFollower(opened, stored.load, stored.serving)
    )
    running.push_async_callback(state.close)
    made = ListsOnRequest(settings, state, metrics)
    size = settings.lists.size
    published = PublishedLists(
        settings, held, state, metrics, is_loaded=lambda: lists.is_loaded, make=lambda user_id: made.make(ListRequest(user_id, size))
    )
    sender = KafkaSender(settings, metrics)
    bridge = Bridge(settings, sender, metrics)
    related, explainer = RelatedItems(settings, state), Explainer(settings, state)
    parts = Parts(settings, Clients(settings.gateway), metrics, status, published, related, bridge, made, explainer)
    beat = keep_beating(status, Heartbeat(settings.health.heartbeat_file, status))
    running.push_async_callback(cancel_all, [asyncio.ensure_future(step) for step in (lists.run(), state.run(), sender.run(), beat)])
    return build_app(parts)


async def load_loops(settings: Settings, status: WorkerStatus) -> None:
    """Load the compiled loops of lists before the first request needs them: seconds, a minute the first time on a machine."""
    status.block(LOOPS, "compiled loops are loaded")
    await asyncio.to_thread(compile_lists, [policy_options(settings.lists)])
    status.clear(LOOPS)


async def keep_beating(status: WorkerStatus, heartbeat: Heartbeat) -> None:
    while True:
        status.beat()
        heartbeat.beat()
        await asyncio.sleep(BEAT_S)


async def cancel_all(tasks: Sequence[Awaitable[None]]) -> None:
    for task in tasks:
        assert isinstance(task, asyncio.Future)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
