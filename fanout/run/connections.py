"""Connections of a command to its hosts, with this process's signals as events."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fanout.model.events import Interrupted
from fanout.remote.fd_limit import raise_file_limit
from fanout.remote.login import HEARTBEAT_SECONDS, ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.run.run_context import RunContext
from fanout.run.stop_signals import SIGNALS, STOP_INSTEAD, Handler, choose_stop_signal, filter_handled_signals


@contextmanager
def open_connections(
    context: RunContext,
    command: str = "",
    *,
    hung_up: Callable[[], None] | None = None,
    before: Callable[[ConnectionPool], None] | None = None,
    once: Callable[[Handler], Handler] | None = None,
) -> Iterator[ConnectionPool]:
    """Yield the started connections, with this process's signals as events; undo both at the end.

    ``hung_up`` handles SIGHUP if a closed terminal must not stop the run. ``before`` gets the connections before they
    start. ``once`` wraps a handler so that it handles each signal once. Raises UsageError, LauncherError.
    """
    hosts, settings, selector = context.hosts, context.settings, context.selector
    selector.check_config(hosts)
    raise_file_limit(len(hosts), selector.open_files)
    options = ConnectionOptions(
        dials=settings.fanout,
        connect_timeout=settings.connect_timeout,
        by=context.process.login,
        heartbeat_seconds=min(HEARTBEAT_SECONDS, settings.lease / 3) if settings.lease else HEARTBEAT_SECONDS,
        command=command,
    )
    clock = Clock()
    pool = ConnectionPool(hosts, selector, options, clock)
    if before is not None:
        before(pool)

    def handle_signal(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and hung_up is not None:
            hung_up()
        else:
            pool.post_event(Interrupted(at=clock(), signal=number))

    handler = once(handle_signal) if once is not None else handle_signal
    wanted = dict.fromkeys(filter_handled_signals(SIGNALS), handler)
    if choose_stop_signal() == STOP_INSTEAD:
        wanted[STOP_INSTEAD] = lambda number, frame: handle_signal(signal.SIGTERM, frame)
    handlers = {number: signal.signal(number, action) for number, action in wanted.items()}
    try:
        pool.start()
        yield pool
    finally:
        pool.close()
        for number, before_us in handlers.items():
            signal.signal(number, before_us)
