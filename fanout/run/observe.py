"""Attach or stop from a machine without the run's record: ask the hosts for the run and for all bytes of its log.

An attach changes nothing on the hosts: it stops and deletes nothing. Its heartbeats renew the lease, as a launcher's do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from fanout.logs.line_filters import parse_display_filters
from fanout.logs.tail import LogTails
from fanout.model import policy
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.hosts import Host
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.record.run_handle import RunHandle
from fanout.remote.pool import ConnectionPool
from fanout.run import closing_report, diagnosis, host_query
from fanout.run.attached_view import AttachedView
from fanout.run.connections import open_connections
from fanout.run.host_query import RunOnHost
from fanout.run.live_stacks import SessionStacks
from fanout.run.run_context import RunContext
from fanout.run.session import Session
from fanout.run.takeover import MARGIN_SECONDS, build_minimal_plan
from fanout.text.units import count_noun


def attach_to_hosts(context: RunContext) -> int:
    """Follow the run to its end; return its exit status, as far as the hosts report it."""
    settings = context.settings
    parts = find_run_on_hosts(context)
    order = build_run_handle(parts, context)
    heading = _build_run_info(parts, order)
    tails, collector = LogTails(), diagnosis.build_collector(heading, diagnosis.load_signatures(context))
    stacks = SessionStacks()
    shown = AttachedView(heading, context, parse_display_filters(settings), collector, stacks)
    view, reporters, detach_request = shown.view, shown.reporters, shown.detach_request
    with _connect_to_run(parts, order, context, looking_on=True) as pool:
        session = Session(pool, heading.hosts, [tails, collector, view, reporters.hangs, reporters.pace, stacks])
        stacks.use_session(session, order.run_id, {host.name: run.node for host, run in parts.items()})
        plan = build_minimal_plan(order, [run.node for run in parts.values()])
        outcome = session.observe_run(plan, lambda: detach_request.requested, policy.policy_of(settings, prepare=False))
    view.close()
    if session.state.interrupts or detach_request.requested:
        context.process.print_message(f"left; the run goes on: {context.build_host_command('attach', order.run_id)}")
        return ExitStatus.SUCCESS if detach_request.requested else outcome.exit_code
    outcome, verdict = diagnosis.diagnose_run(collector, session.state, outcome)
    facts = closing_report.build_facts(
        heading, session.state, outcome, verdict, tails, slow=reporters.pace.list_slow_ranks()
    )
    closing_report.print_report(facts, context, context.process.stderr, full=context.request.given["full"])
    return outcome.exit_code


def stop_on_hosts(context: RunContext) -> RunState:
    """Stop the run on these hosts and return the state. Its files stay there for its own launcher."""
    process, grace = context.process, context.settings.grace
    parts = find_run_on_hosts(context)
    order = build_run_handle(parts, context)
    watched = any(run.launcher in ("attached", "detached") for run in parts.values())
    where = count_noun(len(parts), "host")
    process.print_message(f"stopping run {order.run_id} on {where}: SIGTERM, then SIGKILL after {grace:g} s")
    with _connect_to_run(parts, order, context, looking_on=watched) as pool:
        session = Session(pool, [host.name for host in parts], [])
        until, why = pool.clock() + 2 * grace + MARGIN_SECONDS, f"stopped by {process.login} with fanout stop"
        session.end_run(grace=grace, until=until, reason="stop-command", why=why)
    return session.state


def _connect_to_run(
    parts: Mapping[Host, RunOnHost], order: RunHandle, context: RunContext, *, looking_on: bool
) -> AbstractContextManager[ConnectionPool]:
    """Return connections that resume the run on these hosts and fetch its log from the first byte."""
    plan = build_minimal_plan(order, [run.node for run in parts.values()])

    def before(pool: ConnectionPool) -> None:
        pool.is_observer = looking_on
        for link in pool.connections.values():
            link.resume_run(plan, {})

    return open_connections(replace(context, hosts=order.hosts), before=before)


def find_run_on_hosts(context: RunContext) -> dict[Host, RunOnHost]:
    """Return each host's part in the requested run, in rank order. Raises UsageError."""
    process, request = context.process, context.request
    hosts = {host.name: host for host in context.hosts}
    answers, wanted = host_query.ask_hosts(context), request.given["run"]
    entered = _enter_containers(hosts, answers, wanted)
    found = host_query.ask_hosts(replace(context, hosts=entered)) if entered else []
    inside = {(run.host, run.run): host for host, answer in zip(entered, found, strict=True) for run in answer.runs}
    answers += found
    # A container may share the state directory of its host: then both name the same run, and the last answer is inside.
    listed = {(run.host, run.run): run for answer in answers for run in answer.runs if wanted in run.run}
    runs = list(listed.values())
    going = sorted({run.run for run in runs if run.is_alive}) or sorted({run.run for run in runs})
    for answer in answers:
        if answer.error:
            process.print_message(f"{answer.host}: {answer.error}")
    if not going:
        meant = f"run {wanted!r}" if wanted else "run"
        raise UsageError(f"these hosts have no {meant} of yours", hint=context.build_host_command("ps"))
    if len(going) > 1:
        hint = context.build_host_command(request.verb, going[-1])
        raise UsageError(f"these hosts have {len(going)} runs: {', '.join(going)}", hint=hint)
    parts = sorted((run for run in runs if run.run == going[0]), key=lambda run: run.node)
    missing = int(parts[0].run_info.get("nodes") or len(parts)) - len(parts)
    if missing > 0:
        process.print_message(
            f"run {going[0]}: {missing} of its hosts did not answer or are not in HOSTS; using the others"
        )
    return {inside.get((run.host, run.run), hosts[run.host]): run for run in parts}


def _enter_containers(
    hosts: Mapping[str, Host], answers: Sequence[host_query.HostRuns], wanted: str
) -> tuple[Host, ...]:
    """Return the hosts with a container that fanout created for the requested run, as hosts whose login enters it."""
    return tuple(
        replace(hosts[answer.host], container=container.name, engine=container.engine)
        for answer in answers
        for container in answer.containers
        if container.runs and wanted in container.run
    )


def build_run_handle(parts: Mapping[Host, RunOnHost], context: RunContext) -> RunHandle:
    run = next(iter(parts.values())).run
    user = context.process.user
    return RunHandle(run_id=run, hosts=tuple(parts), settings=context.settings, directory="", user=user)


def _build_run_info(parts: Mapping[Host, RunOnHost], order: RunHandle) -> RunInfo:
    title = next((str(run.run_info["title"]) for run in parts.values() if run.run_info.get("title")), "?")
    ranks = {host.name: (run.node, run.run_info.get("nproc")) for host, run in parts.items()}
    return RunInfo(run_id=order.run_id, title=title, hosts=tuple(host.name for host in parts), ranks=ranks)
