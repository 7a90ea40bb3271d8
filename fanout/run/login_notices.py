"""Notices after the logins of a run: those of the transports, and earlier runs whose results were never fetched."""

from __future__ import annotations

from collections.abc import Iterator

from fanout.model.hosts import fold_names
from fanout.model.state import RunState
from fanout.run.run_context import RunContext


def iter_login_notices(context: RunContext, state: RunState) -> Iterator[str]:
    """Yield each notice as one line."""
    yield from context.selector.notices.take_new()
    where: dict[str, list[str]] = {}
    for host in state.all_hosts:
        for run in host.hello.get("stale", ()):
            where.setdefault(str(run), []).append(host.name)
    for run, names in where.items():
        text = f"{fold_names(names)}: the result of run {run} was never fetched: try:  fanout attach {run}   or "
        yield f"{text} {context.build_host_command('clean')}"
