"""``fanout stop``: stop a run on all of its hosts."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Sequence

from fanout.model import policy
from fanout.model.errors import UsageError
from fanout.model.events import Event
from fanout.model.exit_status import ExitStatus
from fanout.model.hosts import fold_names
from fanout.model.planned_stop import DEFAULT_SIGNAL
from fanout.model.request import Request
from fanout.model.settings import SAVE_BEFORE_SECONDS
from fanout.model.state import HostState, RunState
from fanout.record import follow, writer_lock
from fanout.record.index import is_launched, read_run_handle, split_attempt_path
from fanout.record.recorded_attempts import find_launched_attempt
from fanout.record.run_handle import RunHandle
from fanout.record.run_reader import RunReader, apply_recorded_event
from fanout.record.save_request import SaveRequest, write_request
from fanout.record.stop_request import write_requester
from fanout.record.waiting_runs import WaitingRun, find_waiting_run, wait_for_wait_end
from fanout.run import observe, takeover
from fanout.run.command_context import CommandContext, load_command_context
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import select_hosts
from fanout.text.units import count_noun
from fanout.ui.planned_stop_text import PlannedStopMessages

REPORT_SECONDS = 15.0  # between two messages about a long wait
CHECK_END_SECONDS = 60.0  # for the launcher to end a check; nothing runs on the hosts
WAIT_END_SECONDS = 30.0  # for a run that waits to close its connections
ANSWER_SECONDS = 10.0  # for the launcher to record a request to save


def run_stop(request: Request, process: ProcessContext) -> int:
    """Run ``fanout stop``; return 0 if every host was reached and nothing is left, else 255."""
    context = load_command_context(request, process)
    saves = request.given["save"]
    waiting = _find_waiting(request.given["run"], context)
    if waiting is not None:
        return _end_waiting(waiting, process)
    try:
        path = context.find_active_run()
    except UsageError:
        if not context.can_ask_hosts:
            raise
        if saves:
            raise UsageError(
                "stop --save needs the record of the run, which is on the machine that launched it",
                hint=f"stop it without a save: {context.build_host_command('stop', request.given['run'])}",
            ) from None
        return _print_state(observe.stop_on_hosts(select_hosts(context)), process)
    path = find_launched_attempt(path)
    living = writer_lock.read_owner(path)
    is_here = living is not None and living.machine == process.machine and living.pid > 0
    if living is not None and is_here and not is_launched(path):
        return _stop_by_launcher(living, RunReader(path), process)
    order = read_run_handle(path)
    save = _build_save_request(saves, order, process) if saves else None
    if save is not None and living is not None and not living.ending:
        return _save_by_launcher(save, living, RunReader(path), order, process)
    if living is not None and is_here:
        return _stop_by_launcher(living, RunReader(path), process)
    if living is None and RunReader(path).read_result() is not None:
        process.print_message(
            f"run {order.run_id} has ended; checking again {fold_names([host.name for host in order.hosts])}"
        )
    else:
        where = count_noun(len(order.hosts), "host")
        first = f"SIG{save.signal}, " if save is not None else ""
        process.print_message(
            f"stopping run {order.run_id} on {where}: {first}SIGTERM, then SIGKILL after {order.settings.grace:g} s"
        )
    by, agent = process.login, process.has_ssh_agent
    views = [PlannedStopPrinter(process)] if save is not None else []
    why = f"stopped by {by} with fanout stop"
    state = takeover.end_run(
        order, process.environ, by=by, agent=agent, reason="stop-command", why=why, save=save, views=views
    )
    return _print_state(state, process)


def _find_waiting(word: str, context: CommandContext) -> WaitingRun | None:
    """Return the waiting run that the user means. Without a word, a run that is active is meant first."""
    waiting = find_waiting_run(word, context.find_runs_directory())
    if waiting is None or word or context.request.hosts:
        return waiting
    try:
        context.find_active_run()
    except UsageError:
        return waiting
    raise UsageError("a run is active, and another one waits for hosts", hint=f"fanout stop {waiting.run}")


def _end_waiting(waiting: WaitingRun, process: ProcessContext) -> int:
    """End the wait of a run that was not started."""
    if waiting.machine != process.machine:
        raise UsageError(f"run {waiting.run} waits on {waiting.machine}", hint=f"kill {waiting.pid}   # there")
    try:
        os.kill(waiting.pid, waiting.signal)
    except ProcessLookupError:
        pass  # it has just ended
    if not wait_for_wait_end(waiting, WAIT_END_SECONDS):
        process.print_message(f"run {waiting.run}: its process (pid {waiting.pid}) does not end the wait")
        process.stderr.write(f"        try:  kill -KILL {waiting.pid}    # nothing was started\n")
        return ExitStatus.UNREACHABLE
    process.print_message(f"run {waiting.run} was waiting for hosts; the wait has ended")
    return ExitStatus.SUCCESS


def _build_save_request(given: str, order: RunHandle, process: ProcessContext) -> SaveRequest:
    settings = order.settings
    seconds = (settings.save_before or SAVE_BEFORE_SECONDS) if given == "auto" else float(given)
    return SaveRequest(signal=settings.save_signal or DEFAULT_SIGNAL, seconds=seconds, by=process.login)


class PlannedStopPrinter:
    """Subscriber that prints what the ranks do in a planned stop."""

    broken = False

    def __init__(self, process: ProcessContext) -> None:
        self._process, self._messages = process, PlannedStopMessages()

    def __call__(self, event: Event, state: RunState) -> None:
        for text in self._messages.handle_event(event, state):
            self._process.print_message(text)


def _save_by_launcher(
    save: SaveRequest, living: writer_lock.LockOwner, recorded: RunReader, order: RunHandle, process: ProcessContext
) -> int:
    """Send the request to the launcher, and print what the ranks do until the run has ended."""
    run = recorded.heading.run_id
    try:
        write_request(split_attempt_path(recorded.path)[0], save)
    except OSError as error:
        raise UsageError(f"cannot write the request into {recorded.path}: {error.strerror}") from None
    process.print_message(f"run {run}: sent its launcher (pid {living.pid}) the request to save and stop")
    asked_at, began, printer = time.time(), time.monotonic(), PlannedStopPrinter(process)
    state = RunState.initial(recorded.heading.hosts, at=recorded.began_at)
    for event in follow.follow_events(recorded, reads_log=False):
        if event is not None:
            state = apply_recorded_event(state, event)
            if event.at >= asked_at - ANSWER_SECONDS:
                printer(event, state)
        elif state.save_request is None and not state.interrupts and time.monotonic() - began > ANSWER_SECONDS:
            process.print_message(f"run {run}: its launcher did not take the request within {ANSWER_SECONDS:g} s")
            process.stderr.write(f"        try:  fanout stop {run}    # stops it without a save\n")
            return ExitStatus.UNREACHABLE
    return _print_recorded_result(recorded, process)


def _compute_longest_end(path: str) -> float:
    """Return the seconds after which a launcher has ended its run, or its check, by its own deadlines."""
    if not is_launched(path):
        return CHECK_END_SECONDS
    settings = read_run_handle(path).settings
    return settings.lease + 2 * (settings.grace + policy.STOP_MARGIN_SECONDS) + takeover.MARGIN_SECONDS


def _stop_by_launcher(living: writer_lock.LockOwner, recorded: RunReader, process: ProcessContext) -> int:
    """Signal the launcher to stop the run, wait for its end, and print the recorded result of each host."""
    run = recorded.heading.run_id
    if living.ending:
        process.print_message(f"run {run}: {living.user} (pid {living.pid}) is already stopping it")
    else:
        process.print_message(f"stopping run {run}: signalled its launcher (pid {living.pid})")
    try:
        if not living.ending:
            _record_requester(recorded, process)
            os.kill(living.pid, living.signal)
    except ProcessLookupError:
        pass  # it exited in this moment
    except PermissionError:
        raise UsageError(f"its launcher (pid {living.pid}) belongs to another user ({living.user})") from None
    if not _wait_for_launcher(living, recorded, process):
        return ExitStatus.UNREACHABLE
    return _print_recorded_result(recorded, process)


def _record_requester(recorded: RunReader, process: ProcessContext) -> None:
    """Leave the user and the machine for the launcher. A full disk prevents no stop: the report then names the signal only."""
    with contextlib.suppress(OSError):
        write_requester(split_attempt_path(recorded.path)[0], process.login)


def _print_recorded_result(recorded: RunReader, process: ProcessContext) -> int:
    """Print the recorded result of each host; return the exit status of the command."""
    run, result = recorded.heading.run_id, recorded.read_result()
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


def _wait_for_launcher(living: writer_lock.LockOwner, recorded: RunReader, process: ProcessContext) -> bool:
    """Wait until the launcher has ended the run, at most as long as its own deadlines; report the wait."""
    most = _compute_longest_end(recorded.path)
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
