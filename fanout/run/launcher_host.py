"""Launcher host: warn if the launcher of a run with restarts is on one of the run's hosts, because it fails with it."""

from __future__ import annotations

from fanout.model.errors import FanoutError
from fanout.model.hosts import Host, fold_names
from fanout.run.run_context import RunContext


def describe_launcher_host(context: RunContext) -> str:
    """Return the warning for a run with restarts, "" if the launcher is on none of its hosts."""
    here = [host.name for host in (*context.hosts, *context.spares) if _is_this_machine(context, host)]
    if not here:
        return ""
    return (
        f"warning: {fold_names(here)} is this machine: if it fails, the launcher fails too, and nothing restarts the run; "
        "launch from a machine that is no host of the run"
    )


def _is_this_machine(context: RunContext, host: Host) -> bool:
    if context.settings.transport == "local":
        return True
    try:
        return context.selector.is_here(host)
    except FanoutError:
        return False  # the connection reports the invalid ssh configuration
