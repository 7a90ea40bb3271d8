"""Rows of the reports of a run: the other hosts, the logs, what is left, the exit status, and the next commands. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from fanout.logs.line_filters import get_host_ranks
from fanout.logs.rank_prefix import parse_stream_rank
from fanout.logs.tail import LogTail
from fanout.model.exit_status import ExitStatus
from fanout.model.failure_summary import FailureSummary
from fanout.model.frozen import frozen
from fanout.model.host_state import HostState
from fanout.model.hosts import fold_names
from fanout.model.outcome import RunOutcome
from fanout.model.planned_stop import find_sent_save
from fanout.model.process_names import get_container, name_process
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.record.paths import LogFileNames
from fanout.text.home_path import shorten_home
from fanout.text.paint import BOLD, RED, YELLOW, Painter
from fanout.text.sanitize import sanitize_line, sanitize_lines, to_single_line
from fanout.text.units import count_noun, format_duration, name_all
from fanout.ui.background_text import describe_background, describe_outside_calls, describe_separate_groups
from fanout.ui.equal_messages import join_pids, split_pid
from fanout.ui.planned_stop_text import describe_planned_stop

LABEL_WIDTH = 13
_LONGEST_HOW = 60


@frozen
class ReportFacts:
    """All that a report shows.

    ``log_tails`` needs only the host that failed first; without it, the report quotes no log. ``diagnosis`` holds the
    lines of the whole verdict, ``summary`` its summary. ``slow`` lists slow hosts or ranks, also for a good run.
    ``missing`` lists the gaps in the record. ``attempts`` holds the lines about the attempts of the run.
    """

    heading: RunInfo
    state: RunState
    outcome: RunOutcome
    log_tails: Mapping[str, LogTail] = field(default_factory=dict)
    diagnosis: Sequence[str] = ()
    summary: FailureSummary | None = None
    slow: Sequence[str] = ()
    missing: Sequence[str] = ()
    attempts: Sequence[str] = ()


@frozen
class ReportRow:
    """One row ``  name         text``; ``name`` is "" below the first row of a name. ``colour`` is an SGR code."""

    name: str
    text: str
    colour: str = ""

    @property
    def lead(self) -> str:
        """Return the text before the row's own."""
        return f"  {self.name:<{LABEL_WIDTH}}"

    def format_line(self, paint: Painter) -> str:
        """Return the row as one line."""
        return self.lead + (paint(self.colour, self.text) if self.colour else self.text)


def label_rows(name: str, texts: Iterable[str], colour: str = "") -> list[ReportRow]:
    """Return one row for each text; the first one has the name."""
    return [
        ReportRow(name="" if at else name, text=sanitize_line(text, colour=False), colour=colour)
        for at, text in enumerate(texts)
    ]


def choose_title_word(state: RunState, outcome: RunOutcome) -> str:
    """Return how the run ended, in capital letters."""
    if outcome.is_success:
        return "SUCCEEDED"
    verdicts = {host.verdict for host in outcome.hosts}
    if outcome.exit_code == ExitStatus.REFUSED and all(host.started_at is None for host in state.all_hosts):
        return "NOT LAUNCHED"
    if outcome.exit_code == ExitStatus.UNREACHABLE and not any(host.may_have_started for host in state.all_hosts):
        return "NOT LAUNCHED"
    if verdicts == {"ok"} and outcome.first is None and state.first_stop is None and not state.interrupts:
        return "ENDED, LOG INCOMPLETE"
    if outcome.hung:
        return "HUNG, STOPPED BY YOU" if outcome.exit_code == ExitStatus.INTERRUPTED else "HUNG, STOPPED"
    was_stopped = outcome.origin == "user" or outcome.first is None or outcome.before_attempt is not None
    return "STOPPED" if was_stopped else "FAILED"


def list_other_hosts(facts: ReportFacts) -> list[ReportRow]:
    """Return how the other hosts ended: one row for each way. A host that only lost a peer is called a victim."""
    outcome = facts.outcome
    victims = facts.summary.victims if facts.summary is not None and outcome.first is not None else {}
    groups: dict[tuple[str, str, bool], list[tuple[str, str]]] = {}
    for host in outcome.hosts:
        if host.host != outcome.first:
            reason, pid = split_pid(host.reason)
            groups.setdefault((host.verdict, reason, host.host in victims), []).append((host.host, pid))
    also = " too" if outcome.first is not None else ""
    texts = []
    for (verdict, reason, is_victim), those in groups.items():
        how = _describe_verdict(verdict, join_pids(reason, [pid for _, pid in those]), facts.state, also)
        part = f"{_describe_victims([victims[name] for name, _ in those])}, " if is_victim else ""
        texts.append(f"{fold_names(name for name, _ in those)}: {part}{how}")
    return label_rows("the others" if outcome.first is not None else "the hosts", texts)


def _describe_victims(hows: Sequence[str]) -> str:
    """Return what happened to the victims among the hosts of one row."""
    if len(hows) == 1 and 0 < len(hows[0]) <= _LONGEST_HOW:
        return f"victim ({to_single_line(hows[0])})"
    return f"victim{'s' * (len(hows) > 1)} (lost a peer or timed out)"


def _describe_verdict(verdict: str, reason: str, state: RunState, also: str) -> str:
    reason = to_single_line(reason)
    words = {
        "ok": "ended well",
        "failed": f"failed{also} ({reason})",
        "stopped": f"stopped by fanout{_describe_stop_delay(state)} ({reason})",
        "unreached": f"not reached: {reason}",
        "refused": f"refused: {reason}",
        "lost": f"lost: {reason}",
        "never-started": "never started",
    }
    return words.get(verdict, f"{verdict}: {reason}")


def _describe_stop_delay(state: RunState) -> str:
    """Return how long after the first failure fanout stopped the other hosts; "" if the stop has another reason."""
    stops = [host.stop_at for host in state.all_hosts if host.stop_at is not None]
    if state.interrupts or not state.failures or not stops or find_sent_save(state) is not None:
        return ""
    later = min(stops) - state.failures[0][1]
    if later < 0:
        return ""  # it was not for a failure
    return " at once" if later < 0.1 else f" {format_duration(later)} later"


def list_log_location(facts: ReportFacts) -> list[ReportRow]:
    """Return the directory of the record, with the log of the host that failed first."""
    heading, first = facts.heading, facts.outcome.first
    if heading.log_dir is None:
        return []
    if first is None or not facts.state.hosts[first].received:
        return label_rows("logs", [shorten_home(heading.log_dir)])
    file = LogFileNames(heading.hosts).get_path(first, 0)
    return label_rows("logs", [f"{shorten_home(heading.log_dir)}  ({file})"])


def list_notes(facts: ReportFacts) -> list[ReportRow]:
    """Return the rows about a planned stop, gaps of the record, separate groups, and background processes.

    A gap has bytes that the launcher's disk did not take; the files hold zeros there.
    """
    return [
        *label_rows("save", describe_planned_stop(facts.state)),
        *label_rows("not recorded", facts.missing, YELLOW),
        *label_rows("groups", describe_separate_groups(facts.state)),
        *label_rows("background", describe_background(facts.state)),
    ]


def list_leftovers(facts: ReportFacts) -> list[ReportRow]:
    """Return what is left on the hosts: "nothing" only if every host was verified."""
    state, outcome = facts.state, facts.outcome
    rows: list[ReportRow] = []
    for host in outcome.hosts:
        cleaned_up = state.hosts[host.host].cleaned_up
        container = get_container(state.hosts[host.host].hello)
        for process in cleaned_up.left if cleaned_up else ():
            where = f"{process.state}, {to_single_line(process.wchan)}"
            who = name_process(process.pid, container)
            text = f"{host.host}: {who} ({where}) {to_single_line(process.command)}"
            rows += label_rows("left behind", [text], RED)
    unknown = find_unverified(outcome)
    if unknown:
        rows += label_rows("left behind", [f"unknown: could not verify {fold_names(unknown)}"], YELLOW)
    if outcome.outside_calls:
        rows += label_rows("left behind", [f"unknown: {describe_outside_calls(outcome)}"], YELLOW)
    return rows or label_rows("left behind", [f"nothing: {_describe_proof(state, outcome)}"])


def describe_left(facts: ReportFacts) -> tuple[str, bool]:
    """Return in one clause what is left on the hosts, and whether it is certain that nothing is."""
    outcome, unknown = facts.outcome, find_unverified(facts.outcome)
    texts = [f"could not verify {fold_names(unknown)}"] if unknown else []
    number = sum(len(found.left) for host in facts.state.all_hosts if (found := host.cleaned_up) is not None)
    if number:
        texts.append(f"{count_noun(number, 'process')} left on {fold_names(find_unclean(outcome))}")
    if outcome.outside_calls:
        texts.append(describe_outside_calls(outcome))
    return "; ".join(texts) or f"nothing is left: {_describe_proof(facts.state, outcome)}", not texts


def _describe_proof(state: RunState, outcome: RunOutcome) -> str:
    """Return why it is certain that nothing is left."""
    if not any(state.hosts[host.host].may_have_started for host in outcome.hosts):
        return "train.sh was not started on any host"
    proofs: dict[str, list[str]] = {}
    for host in (state.hosts[each.host] for each in outcome.hosts):
        if host.cleaned_up is None and (host.restarted or host.has_empty_container):
            proofs.setdefault(_describe_restart(host), []).append(host.name)
    number = len(outcome.hosts) - sum(map(len, proofs.values()))
    if proofs:
        texts = [what.format(hosts=fold_names(names)) for what, names in proofs.items()]
        return "; ".join([*texts, *(["verified on the others"] if number else [])])
    return f"verified on {name_all(number, 'host')}"


def _describe_restart(host: HostState) -> str:
    """Return why nothing outlived on a host that did not report it, with a place for the names of such hosts."""
    if host.has_empty_container:
        return "the container on {hosts} has ended"
    return "the container on {hosts} was restarted" if host.restarted == "container" else "{hosts} rebooted"


def find_unverified(outcome: RunOutcome) -> list[str]:
    """Return the hosts on which it is unknown what is left."""
    return [host.host for host in outcome.hosts if host.left is None]


def find_unclean(outcome: RunOutcome) -> list[str]:
    """Return the hosts on which processes are left."""
    return [host.host for host in outcome.hosts if host.left]


def list_exit_status(facts: ReportFacts) -> list[ReportRow]:
    """Return the exit status of fanout, with its origin."""
    outcome = facts.outcome
    origin = {
        "script": f"from {_get_program(facts.state, outcome)} on {outcome.first}",
        "ssh": f"{outcome.first} was unreachable or lost",
        "fanout": _describe_fanout_stop(outcome),
        "user": _describe_user_stop(outcome),
    }[outcome.origin]
    return label_rows("exit status", [f"{outcome.exit_code} ({origin})"])


def _describe_user_stop(outcome: RunOutcome) -> str:
    if outcome.exit_code == ExitStatus.INTERRUPTED:
        return "you stopped it"
    return f"stopped {to_single_line(outcome.stopped_why) or 'by a signal'}"


def _get_program(state: RunState, outcome: RunOutcome) -> str:
    """Return the program that the exit status comes from: torchrun if it failed and train.sh exited 0."""
    if outcome.first is not None and "waited" in state.hosts[outcome.first].background:
        return "the launcher that train.sh left running"
    first = next((host for host in outcome.hosts if host.host == outcome.first), None)
    return "torchrun" if first is not None and first.code == 0 else "train.sh"


def _describe_fanout_stop(outcome: RunOutcome) -> str:
    if outcome.exit_code == ExitStatus.TIME_LIMIT:
        return "the time limit"
    if any(host.host == outcome.first and host.verdict == "failed" for host in outcome.hosts):
        return "fanout ended what train.sh left running"
    if all(host.verdict == "ok" for host in outcome.hosts):
        return "part of the log could not be written to the launcher's disk"
    return "fanout stopped it" if outcome.first is None else "fanout refused to start"


def list_next_commands(facts: ReportFacts, *, short: bool = False) -> list[ReportRow]:
    """Return the commands to type next: the hint of the failed host, the log to read, and the cleanup.

    ``short``: without words that a command does not need.
    """
    outcome, run, summary = facts.outcome, facts.heading.run_id, facts.summary
    commands: list[str] = []
    first = next((host for host in outcome.hosts if host.host == outcome.first), None)
    if first is not None and first.hint:
        commands += sanitize_lines(first.hint)
    elif summary is not None and summary.host:
        host, rank = f" --host {shlex.quote(summary.host)}", f" --rank {summary.rank}" * _selects_lines(facts, summary)
        commands.append(f"fanout logs {run}{'' if short and rank else host}{rank}")
    elif first is not None and has_log(outcome):
        commands.append(f"fanout logs {run} --host {shlex.quote(first.host)}")
    elif outcome.origin == "fanout" and choose_title_word(facts.state, outcome) == "NOT LAUNCHED":
        commands.append(f"fanout rerun {run}    (after the failures are fixed)")
    if not outcome.is_clean and not any("kept" in facts.state.hosts[host.host].background for host in outcome.hosts):
        unknown = find_unverified(outcome)
        when = f"when {fold_names(unknown)} is reachable: " if unknown else ""
        commands.append(f"fanout stop {run}    ({when}checks again and kills what is left)")
    return label_rows("next", commands, BOLD)


def has_log(outcome: RunOutcome) -> bool:
    """Return whether the host that failed first ran train.sh, so that it may have a log."""
    verdict = next((host.verdict for host in outcome.hosts if host.host == outcome.first), "never-started")
    return verdict not in ("unreached", "refused", "never-started")


def _selects_lines(facts: ReportFacts, summary: FailureSummary) -> bool:
    """Return whether ``fanout logs --rank`` shows lines of the blamed rank.

    A rank of ``mp.spawn`` has no stream of its own. It prints in the stream of its host, which shows the ranks of the plan.
    """
    host = facts.state.hosts.get(summary.host)
    if host is None or summary.rank is None:
        return False
    ranks = {parse_stream_rank(name) for name in host.streams.values()} - {None}
    return summary.rank in (ranks or get_host_ranks(summary.host, facts.heading.ranks))
