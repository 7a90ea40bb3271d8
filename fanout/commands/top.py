"""``fanout top``: show who uses which GPU on all hosts, live in a terminal, or once."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fanout.model.exit_status import ExitStatus, status_of_signal
from fanout.model.request import Request
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import RunContext, load_run_context
from fanout.run.usage_screen import build_usage_view
from fanout.run.usage_watch import UsageWatch, watch_usage
from fanout.sharing.host_usage import HostUsage
from fanout.sharing.usage_order import UsageFilter, select_usage
from fanout.ui.display_mode import choose_display_mode
from fanout.ui.usage_text import render_usage

WAIT_SECONDS = 0.1
PAUSE_SECONDS = 0.25  # between two looks at what the hosts have sent; a key ends it
MARGIN_SECONDS = 15.0  # for the first sample, after the login


def run_top(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0, 255 if no host answered, or 130 after Ctrl-C. Raises UsageError."""
    context = load_run_context(request, process)
    given = request.given
    users = tuple(name for name in given["usage_user"].split(",") if name)
    chosen = UsageFilter(sort=given["sort"], users=users, only_free=given["only_free"])
    look = choose_display_mode(
        process.environ,
        isatty=process.stdout.isatty(),
        encoding=getattr(process.stdout, "encoding", None),
        settings=context.settings,
    )
    with watch_usage(context) as watch:
        if given["once"] or given["as_json"] or look.mode != "live":
            return _print_once(context, watch, chosen)
        view = build_usage_view(process, look, watch.read_hosts, watch.read_clock, chosen)
        try:
            while not watch.interrupts and not view.is_over:
                view.wait_for_key(PAUSE_SECONDS)
                watch.process_arrived()
                view.update()
        finally:
            view.close()
        context.print_notices()
        return status_of_signal(watch.interrupts[0]) if watch.interrupts else ExitStatus.SUCCESS


def _print_once(context: RunContext, watch: UsageWatch, chosen: UsageFilter) -> int:
    """Print the first sample of all hosts."""
    process = context.process
    until = time.monotonic() + context.settings.connect_timeout + MARGIN_SECONDS
    while not watch.is_complete and not watch.interrupts and time.monotonic() < until:
        watch.process_event(WAIT_SECONDS)
    if watch.interrupts:
        return status_of_signal(watch.interrupts[0])
    context.print_notices()
    hosts = watch.read_hosts()
    shown = select_usage(hosts, chosen)
    if context.request.given["as_json"]:
        process.stdout.write(json.dumps([_usage_to_dict(host) for host in shown], indent=2) + "\n")
    else:
        width = max(80, process.columns) if process.stdout.isatty() else None
        _print_lines(render_usage(shown, watch.read_clock(), width), process)
    return ExitStatus.SUCCESS if any(host.is_up for host in hosts) else ExitStatus.UNREACHABLE


def _print_lines(lines: Sequence[str], process: ProcessContext) -> None:
    process.stdout.write("".join(f"{line}\n" for line in lines))


def _usage_to_dict(host: HostUsage) -> dict[str, Any]:
    return asdict(host) | {"reach": host.reach.value, "free_gpus": list(host.free_gpus), "is_free": host.is_free}
