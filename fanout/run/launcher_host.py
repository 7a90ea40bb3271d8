"""Host warnings: a launcher that fails with one of the run's hosts, and spare hosts that cannot take part."""

from __future__ import annotations

from fanout.model.errors import FanoutError
from fanout.model.hosts import Host, fold_names
from fanout.run.run_context import RunContext
from fanout.run.task_files import TaskFiles


def list_host_warnings(context: RunContext, files: TaskFiles) -> list[str]:
    """Return the warnings about the hosts of a run with restarts, before it starts."""
    if not context.settings.max_restarts:
        return []
    warnings = list(filter(None, [describe_launcher_host(context)]))
    if context.spares and not context.settings.skip_check:
        from fanout.run.spare_check import check_spares  # it imports all checks

        warnings += [f"warning: {text}" for text in check_spares(context, files)]
    return warnings


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
