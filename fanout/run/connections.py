"""Connections of a command to its hosts, with this process's signals as events."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from fanout.model.events import Interrupted
from fanout.model.hosts import Host
from fanout.model.settings import Settings
from fanout.remote.fd_limit import raise_file_limit
from fanout.remote.login import HEARTBEAT_SECONDS, ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.remote.transports.select import TransportSelector
from fanout.run.process_context import ProcessContext
from fanout.run.stop_signals import SIGNALS, STOP_INSTEAD, Handler, choose_stop_signal, filter_handled_signals


def print_notices(picker: TransportSelector, process: ProcessContext) -> None:
    """Print the notices of the logins, each once."""
    for notice in picker.notices.take_new():
        process.print_message(notice)


@contextmanager
def open_connections(
    hosts: Sequence[Host],
    settings: Settings,
    picker: TransportSelector,
    process: ProcessContext,
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
    picker.check_config(hosts)
    raise_file_limit(len(hosts), by_program=settings.transport == "openssh")
    options = ConnectionOptions(
        dials=settings.fanout,
        connect_timeout=settings.connect_timeout,
        by=f"{process.user}@{process.machine}",
        beat=min(HEARTBEAT_SECONDS, settings.lease / 3) if settings.lease else HEARTBEAT_SECONDS,
        command=command,
    )
    clock = Clock()
    fan = ConnectionPool(hosts, picker, options, clock)
    if before is not None:
        before(fan)

    def handle_signal(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and hung_up is not None:
            hung_up()
        else:
            fan.post_event(Interrupted(at=clock(), signal=number))

    handler = once(handle_signal) if once is not None else handle_signal
    wanted = dict.fromkeys(filter_handled_signals(SIGNALS), handler)
    if choose_stop_signal() == STOP_INSTEAD:
        wanted[STOP_INSTEAD] = lambda number, frame: handle_signal(signal.SIGTERM, frame)
    handlers = {number: signal.signal(number, action) for number, action in wanted.items()}
    try:
        fan.start()
        yield fan
    finally:
        fan.close()
        for number, before_us in handlers.items():
            signal.signal(number, before_us)
