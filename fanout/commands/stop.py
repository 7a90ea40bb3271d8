"""``fanout stop``: stop a run on all of its hosts."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence

from fanout.model import policy
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.hosts import fold_names
from fanout.model.request import Request
from fanout.model.state import HostState, RunState
from fanout.record import follow, writer_lock
from fanout.record.index import read_run_handle
from fanout.record.run_handle import RunHandle
from fanout.record.run_reader import RunReader
from fanout.run import observe, takeover
from fanout.run.command_context import load_command_context
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import select_hosts
from fanout.text.units import count_noun

REPORT_SECONDS = 15.0  # between two messages about a long wait


def run_stop(request: Request, process: ProcessContext) -> int:
    """Run ``fanout stop``; return 0 if every host was reached and nothing is left, else 255."""
    context = load_command_context(request, process)
    try:
        path = context.find_active_run()
    except UsageError:
        if not context.can_ask_hosts:
            raise
        return _print_state(observe.stop_on_hosts(select_hosts(context)), process)
    order = read_run_handle(path)
    living = writer_lock.read_owner(path)
    if living is not None and living.machine == process.machine and living.pid > 0:
        return _stop_by_launcher(living, RunReader(path), order, process)
    if living is None and RunReader(path).read_result() is not None:
        process.print_message(
            f"run {order.run_id} has ended; checking again {fold_names([host.name for host in order.hosts])}"
        )
    else:
        where = count_noun(len(order.hosts), "host")
        process.print_message(
            f"stopping run {order.run_id} on {where}: SIGTERM, then SIGKILL after {order.settings.grace:g} s"
        )
    by, agent = process.login, process.has_ssh_agent
    state = takeover.end_run(order, by=by, agent=agent, reason="stop-command", why=f"stopped by {by}")
    return _print_state(state, process)


def _stop_by_launcher(
    living: writer_lock.LockOwner, recorded: RunReader, order: RunHandle, process: ProcessContext
) -> int:
    """Signal the launcher to stop the run, wait for its end, and print the recorded result of each host."""
    run = recorded.heading.run_id
    if living.ending:
        process.print_message(f"run {run}: {living.user} (pid {living.pid}) is already stopping it")
    else:
        process.print_message(f"stopping run {run}: signalled its launcher (pid {living.pid})")
    try:
        if not living.ending:
            os.kill(living.pid, living.signal)
    except ProcessLookupError:
        pass  # it exited in this moment
    except PermissionError:
        raise UsageError(f"its launcher (pid {living.pid}) belongs to another user ({living.user})") from None
    if not _wait_for_launcher(living, recorded, order, process):
        return ExitStatus.UNREACHABLE
    result = recorded.read_result()
    if result is None:
        process.print_message(f"run {run}: the launcher died without a result; its guardian is stopping the run")
        process.stderr.write(f"        try:  fanout stop {run}   # in a minute, to confirm\n")
        return ExitStatus.UNREACHABLE
    came = []
    for host in result["hosts"]:
        left = host["left"]
        some = f"{count_noun(left or 0, 'process')} {'is' if left == 1 else 'are'} left"
        remainder = "nothing is left" if left == 0 else "not verified that nothing is left" if left is None else some
        remainder += _describe_outside_calls(host.get("outside_calls", ""))
        came.append((host["host"], f"{host['verdict']} ({host['reason']}); {remainder}", left == 0))
    return _print_results(came, process)


def _wait_for_launcher(
    living: writer_lock.LockOwner, recorded: RunReader, order: RunHandle, process: ProcessContext
) -> bool:
    """Wait until the launcher has ended the run, at most as long as its own deadlines; report the wait."""
    grace, lease = order.settings.grace, order.settings.lease
    most = lease + 2 * (grace + policy.STOP_MARGIN_SECONDS) + takeover.MARGIN_SECONDS
    began = reported_at = time.monotonic()
    while writer_lock.read_owner(recorded.path) is not None:
        select.select([], [], [], follow.PAUSE_SECONDS)
        now = time.monotonic()
        if now - began > most:
            process.print_message(f"the launcher (pid {living.pid}) has not ended the run within {most:.0f} s")
            process.stderr.write(f"        try:  kill -KILL {living.pid}    # then its guardian stops the run\n")
            return False
        if now - reported_at >= REPORT_SECONDS:
            reported_at = now
            process.print_message(
                f"the launcher is still stopping the run: {now - began:.0f} s so far, at most {most:.0f} s"
            )
    return True


def _print_state(state: RunState, process: ProcessContext) -> int:
    return _print_results([(host.name, *_describe_result(host)) for host in state.all_hosts], process)


def _print_results(came: Sequence[tuple[str, str, bool]], process: ProcessContext) -> int:
    """Print one line per result with all its hosts; ``came`` has (host, result, good). Return the exit status."""
    same: dict[str, list[str]] = {}
    for host, text, _ in came:
        same.setdefault(text, []).append(host)
    for text, hosts in same.items():
        process.print_message(f"{fold_names(hosts)}: {text}")
    return ExitStatus.SUCCESS if all(good for _, _, good in came) else ExitStatus.UNREACHABLE


def _describe_result(host: HostState) -> tuple[str, bool]:
    """Return the result of a stop on one host, and whether it is verified that nothing is left."""
    if host.cleaned_up is not None:
        left = len(host.cleaned_up.left)
        killed = f", {count_noun(host.cleaned_up.killed, 'process')} had to be killed" if host.cleaned_up.killed else ""
        return (
            f"{count_noun(left, 'process')} could not be killed" if left else f"stopped, nothing is left{killed}"
        ) + _describe_outside_calls(host.outside_calls), not left
    if host.trouble is not None and host.trouble.loss == "no-run":
        return "nothing of the run is left", True
    return (host.trouble.message if host.trouble else "unreachable: timed out"), False


def _describe_outside_calls(calls: str) -> str:
    """Return what a stop did not verify: processes that train.sh started elsewhere."""
    return f" here; train.sh calls {calls}: what that starts is not verified" if calls else ""
