"""Check before a launch: run it, and print its report if a check failed, else one line and the warnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fanout.checks.engine import check_report
from fanout.checks.engine.definition import CheckFinding
from fanout.model.frozen import frozen
from fanout.model.host_facts import HostFacts
from fanout.model.hosts import fold_names
from fanout.model.outcome import RunOutcome
from fanout.model.planner import Planner
from fanout.model.state import RunState
from fanout.model.subscriber import View
from fanout.remote.transports.select import resolve_addresses
from fanout.run import check_request
from fanout.run.machine_agents import open_machine_agents
from fanout.run.run_context import RunContext
from fanout.run.session import Session
from fanout.run.task_files import TaskFiles
from fanout.sharing.wait_policy import PASSING_CHECKS
from fanout.text.sanitize import to_single_line
from fanout.text.units import count_noun

if TYPE_CHECKING:
    from fanout.preflight.run_checks import Preflight

#: Checks between two attempts: what an ended attempt, a fault or another user may have changed. Each takes one question.
RECHECKS = frozenset(
    "master-addr master-port leftovers gpu gpu-busy gpu-memory gpu-ecc gpu-rows gpu-recovery gpu-xid space shm stuck mount "
    "file-server workdir task script config mesh reached answer".split()
)


@frozen
class CheckRefusal:
    """Checks that refused a start, hosts with a fault of their own, and hosts that were refused only because others use them."""

    checks: frozenset[str] = frozenset()
    faulty: frozenset[str] = frozenset()
    in_use: frozenset[str] = frozenset()


def summarize_failures(failures: Sequence[CheckFinding]) -> CheckRefusal:
    """Return what the failed checks mean for the next start."""
    faulty = frozenset(name for each in failures if each.check not in PASSING_CHECKS for name in each.hosts)
    in_use = frozenset(name for each in failures for name in each.hosts) - faulty
    return CheckRefusal(checks=frozenset(each.check for each in failures), faulty=faulty, in_use=in_use)


def list_absent_hosts(refusal: CheckRefusal, outcome: RunOutcome, state: RunState) -> frozenset[str]:
    """Return the hosts that prevented a start, but may take part later: they do not answer, or others use them."""
    busy = {host.name for host in state.all_hosts if host.trouble is not None and host.trouble.kind == "busy"}
    return refusal.in_use | busy | {host.host for host in outcome.hosts if host.verdict in ("unreached", "lost")}


def list_faulty_hosts(refusal: CheckRefusal, outcome: RunOutcome, state: RunState) -> frozenset[str]:
    """Return the hosts that prevented a start by a fault of their own, which the check or the host found."""
    found = refusal.faulty | {host.host for host in outcome.hosts if host.verdict == "refused"}
    return found - list_absent_hosts(refusal, outcome, state)


def check_hosts(
    context: RunContext,
    files: TaskFiles,
    planner: Planner,
    session: Session,
    view: View,
) -> Preflight | None:
    """Check the hosts, and print the result unless the user interrupted the check (None).

    Before a restart, only RECHECKS run.
    """
    from fanout.preflight import run_checks  # 35 ms that --skip-check does not pay

    only = RECHECKS if planner.attempt.number else frozenset[str]()
    earlier = frozenset(run for run, _ in planner.attempt.before.values())
    asked = check_request.build_check_request(context, files, session, only=only, earlier_attempts=earlier)
    with open_machine_agents(context, session) as machines:
        result = run_checks.run(asked, session, planner=planner, machines=machines)
    if session.state.interrupts:
        return None
    if result.failures and (context.settings.force or only):
        for finding in result.failures:
            view.note(f"check {finding.check} failed: {fold_names(finding.hosts)}: {finding.saw}")
        if not only:
            view.note("launching although a check failed: --force")
    elif result.failures:
        view.close()
        stderr = context.process.stderr
        title = f"fanout check {context.request.hosts}"
        stderr.write(check_request.render_report(title, result, context, stderr))
        context.process.print_message("not launched: the check failed (--force launches anyway)")
    else:
        lines = check_request.format_warnings(result) if not only else []
        also = f", {len(lines)} warning{'s' if len(lines) > 1 else ''}" if lines else ""
        view.note(f"check ok in {result.seconds:.1f} s{also}")
        for line in lines:
            view.note(line)
    if result.case.request.default_port_holder:
        port, holder = result.case.request.master_port, result.case.request.default_port_holder
        view.note(f"{holder} holds the default port {context.settings.master_port}: MASTER_PORT is {port}")
    for text in check_request.describe_exports(result.host_facts.exports):
        view.note(text)
    return result


def describe_refusal(failures: Sequence[CheckFinding]) -> str:
    """Return the failed checks in one line: a single one with its cause, several by name and hosts."""
    merged = check_report.merge_findings(failures)
    if len(merged) == 1:
        return f"the check failed: {merged[0].check} on {fold_names(merged[0].hosts)}: {to_single_line(merged[0].saw)}"
    hosts: dict[str, dict[str, None]] = {}
    for finding in merged:
        hosts.setdefault(finding.check, {}).update(dict.fromkeys(finding.hosts))
    named = ", ".join(f"{check} on {fold_names(names)}" for check, names in hosts.items())
    return f"{count_noun(len(hosts), 'check')} failed: {named}" if named else "the check was interrupted"


def resolve_first_host(context: RunContext) -> HostFacts:
    """Return the facts that this machine can find without a check: the address of the first host."""
    first = context.hosts[0]
    if len(context.hosts) == 1 or first.addr or context.settings.master_addr:
        return HostFacts()
    name = context.selector.resolve_address(first)
    found = sorted(
        resolve_addresses(name), key=lambda address: ":" in address
    )  # scripts write HOST:PORT without brackets
    return HostFacts(addresses={first.name: found[0] if found else name})
