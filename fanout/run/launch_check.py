"""Check before a launch: run it, and print its report if a check failed, else one line and the warnings.

It imports all checks, which --skip-check does not need: ``launch`` imports it while the hosts log in.
"""

from __future__ import annotations

from collections.abc import Sequence

from fanout.checks.engine import check_report
from fanout.checks.engine.definition import CheckFinding
from fanout.model.host_facts import HostFacts
from fanout.model.hosts import fold_names
from fanout.model.planner import Planner
from fanout.model.subscriber import View
from fanout.preflight import run_checks
from fanout.preflight.run_checks import Preflight
from fanout.run import check_request
from fanout.run.check_refusal import RECHECKS, CheckRefusal, summarize_failures
from fanout.run.machine_agents import open_machine_agents
from fanout.run.run_context import RunContext
from fanout.run.session import Session
from fanout.run.task_files import TaskFiles
from fanout.text.sanitize import to_single_line
from fanout.text.units import count_noun


def check_launch(
    context: RunContext, files: TaskFiles, planner: Planner, session: Session, view: View
) -> HostFacts | CheckRefusal:
    """Check the hosts before a launch; return what the check learned about them, or why it refused the launch."""
    result = _check_hosts(context, files, planner, session, view)
    if result is not None and (context.settings.force or not result.failures):
        return result.host_facts
    failures = result.failures if result is not None else ()
    return summarize_failures(failures, _describe_refusal(failures))


def _check_hosts(
    context: RunContext, files: TaskFiles, planner: Planner, session: Session, view: View
) -> Preflight | None:
    """Check the hosts, and print the result unless the user interrupted the check (None).

    Before a restart, only RECHECKS run.
    """
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


def _describe_refusal(failures: Sequence[CheckFinding]) -> str:
    """Return the failed checks in one line: a single one with its cause, several by name and hosts."""
    merged = check_report.merge_findings(failures)
    if len(merged) == 1:
        return f"the check failed: {merged[0].check} on {fold_names(merged[0].hosts)}: {to_single_line(merged[0].saw)}"
    hosts: dict[str, dict[str, None]] = {}
    for finding in merged:
        hosts.setdefault(finding.check, {}).update(dict.fromkeys(finding.hosts))
    named = ", ".join(f"{check} on {fold_names(names)}" for check, names in hosts.items())
    return f"{count_noun(len(hosts), 'check')} failed: {named}" if named else "the check was interrupted"
