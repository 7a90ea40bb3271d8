"""Connections of a command to its hosts, with this process's signals as events."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from fanout.model.events import Interrupted
from fanout.record.stop_request import read_requester
from fanout.remote.fd_limit import raise_file_limit
from fanout.remote.login import HEARTBEAT_SECONDS, ConnectionOptions, choose_chunks
from fanout.remote.pool import Clock, ConnectionPool
from fanout.run.caller_signals import CallerSignals
from fanout.run.run_context import RunContext
from fanout.run.stop_signals import SIGNALS, STOP_INSTEAD, Handler, choose_stop_signal, filter_handled_signals

FEW_HOSTS = 64
RARE_HEARTBEAT_SECONDS = 10.0  # for more hosts: a third of the silence after which the relay on a host ends


class SignalRouter:
    """Makes this process's signals events of the newest connections. A signal that comes before them waits for them.

    Signals of a caller of the Python API come from other threads. The lock is reentrant, because a signal handler may
    interrupt each method.
    """

    def __init__(self, record: str = "") -> None:
        """Route signals. ``record`` is the directory of the run, in which ``fanout stop`` leaves who types it."""
        self._record = record
        self._lock = threading.RLock()
        self._pool: ConnectionPool | None = None
        self._hung_up: Callable[[], None] | None = None
        self._waiting: list[int] = []
        self._sent: list[int] = []  # to the current connections

    def keep_signals(self) -> None:
        """Keep signals from now on for the next connections, and those that the current ones have not handled.

        Call this while the state of the current connections has no interrupt.
        """
        with self._lock:
            self._pool = None
            self._waiting += self._sent

    def set_target(self, pool: ConnectionPool, hung_up: Callable[[], None] | None = None) -> None:
        """Send signals to ``pool`` from now on. ``hung_up`` handles SIGHUP if a closed terminal must not stop the run."""
        with self._lock:
            self._pool, self._hung_up, self._sent = pool, hung_up, []
            waiting, self._waiting = self._waiting, []
            for number in waiting:
                self.handle_signal(number, None)

    def handle_signal(self, number: int, frame: FrameType | None) -> None:
        with self._lock:
            if self._pool is None:
                self._waiting.append(number)
            elif number == signal.SIGHUP and self._hung_up is not None:
                self._hung_up()
            else:
                self._sent.append(number)
                by = read_requester(self._record) if number == signal.SIGTERM and self._record else ""
                self._pool.post_event(Interrupted(at=self._pool.clock(), signal=number, by=by))


@contextmanager
def route_signals(
    signals: CallerSignals | None = None,
    *,
    once: Callable[[Handler], Handler] | None = None,
    record: str = "",
) -> Iterator[SignalRouter]:
    """Yield the router of this process's signals; restore their handlers at the end. With ``signals``, install none.

    ``once`` wraps a handler so that it handles each signal once. ``record`` is the directory of the run, if it has one.
    """
    router = SignalRouter(record)
    if signals is not None:
        with signals.use_handler(router.handle_signal):
            yield router
        return
    handler = once(router.handle_signal) if once is not None else router.handle_signal
    wanted = dict.fromkeys(filter_handled_signals(SIGNALS), handler)
    if choose_stop_signal() == STOP_INSTEAD:
        wanted[STOP_INSTEAD] = lambda number, frame: router.handle_signal(signal.SIGTERM, frame)
    earlier = {number: signal.signal(number, action) for number, action in wanted.items()}
    try:
        yield router
    finally:
        for number, action in earlier.items():
            signal.signal(number, action)


@contextmanager
def open_connections(
    context: RunContext,
    command: str = "",
    *,
    before: Callable[[ConnectionPool], None] | None = None,
    router: SignalRouter | None = None,
    hung_up: Callable[[], None] | None = None,
    clock: Clock | None = None,
    retry_seconds: float = 0.0,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> Iterator[ConnectionPool]:
    """Yield the started connections; close them at the end. Without a ``router``, they get this process's signals.

    ``retry_seconds``: how long after a failure a host is tried again; 0: never. ``before`` gets the connections before they start. Raises UsageError, LauncherError.
    """
    hosts, settings, selector = context.hosts, context.settings, context.selector
    if len(hosts) > FEW_HOSTS:
        heartbeat_seconds = max(heartbeat_seconds, RARE_HEARTBEAT_SECONDS)
    selector.check_config(hosts)
    raise_file_limit(len(hosts), selector.open_files)
    options = ConnectionOptions(
        dials=settings.fanout,
        connect_timeout=settings.connect_timeout,
        by=context.process.login,
        heartbeat_seconds=min(heartbeat_seconds, settings.lease / 3) if settings.lease else heartbeat_seconds,
        command=command,
        retry_seconds=retry_seconds,
        creations=context.creations,
        chunks=choose_chunks(len(hosts)),
    )
    pool = ConnectionPool(hosts, selector, options, clock or Clock())
    if before is not None:
        before(pool)
    with ExitStack() as stack:
        target = router if router is not None else stack.enter_context(route_signals(context.process.signals))
        target.set_target(pool, hung_up)
        stack.callback(pool.close)
        pool.start()
        yield pool
