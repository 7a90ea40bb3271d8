"""Attach or stop from a machine without the run's record: ask the hosts for the run and for all bytes of its log.

An attach changes nothing on the hosts: it stops and deletes nothing. Its heartbeats renew the lease, as a launcher's do.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial

from fanout import supervise
from fanout.arguments import Request
from fanout.errors import UsageError
from fanout.fan import Fan
from fanout.hosts import Host
from fanout.launch import Session
from fanout.rejoin import MARGIN_SECONDS, Order, plan_of
from fanout.settings import Settings
from fanout.state import RunState
from fanout.verbs import census, detach, explain
from fanout.verbs.census import RunHere
from fanout.verbs.common import Edge, fan_of, hosts_of, on_these_hosts, picker_of
from fanout.verbs.pacing import PaceTeller
from fanout.verbs.showing import look_of, view_of, wishes_of
from fanout.views.base import Heading
from fanout.views.report import report
from fanout.views.tail import Tails


def attach(request: Request, settings: Settings, edge: Edge) -> int:
    """Follow the run to its end; return its exit status, as far as the hosts report it."""
    parts = found(request, settings, edge)
    order = order_of(parts, settings, edge)
    heading = _heading(parts, order)
    look = look_of(settings, edge)
    wish, pace = detach.Wish(), PaceTeller()
    tails, witness = Tails(), explain.witness_of(heading, explain.book_of(settings, edge))
    hangs, so_far = explain.HangTeller(witness), partial(explain.so_far, witness)
    wishes = wishes_of(settings)
    view = view_of(
        heading, look, edge, wishes, so_far=so_far, slow=pace.brief, hung=hangs.brief, detach=wish, viewing="attach"
    )
    pace.says.append(view.note)
    hangs.says.append(view.note)
    with _joined(parts, order, edge, looking_on=True) as fan:
        session = Session(fan, heading.hosts, [tails, witness, view, hangs, pace])
        plan = plan_of(order, [run.node for run in parts.values()])
        outcome = session.look_on(plan, lambda: wish.asked, supervise.policy_of(settings, prepare=False))
    view.close()
    if session.state.interrupts or wish.asked:
        edge.say(f"left; the run goes on: {on_these_hosts(request, settings, 'attach', order.run_id)}")
        return 0 if wish.asked else outcome.exit_code
    outcome, verdict = explain.judged(witness, session.state, outcome)
    words = explain.last_words(tails, outcome, verdict)
    edge.stderr.write(
        report(
            heading,
            session.state,
            outcome,
            words,
            diagnosis=explain.shown(verdict),
            blamed=explain.blamed(verdict),
            slow=pace.slow(),
        )
    )
    return outcome.exit_code


def stop(request: Request, settings: Settings, edge: Edge) -> RunState:
    """Stop the run on these hosts and return the state. Its files stay there for its own launcher."""
    parts = found(request, settings, edge)
    order = order_of(parts, settings, edge)
    watched = any(run.launcher in ("attached", "detached") for run in parts.values())
    where = f"{len(parts)} host{'s' if len(parts) != 1 else ''}"
    edge.say(f"stopping run {order.run_id} on {where}: SIGTERM, then SIGKILL after {settings.grace:g} s")
    with _joined(parts, order, edge, looking_on=watched) as fan:
        session = Session(fan, [host.name for host in parts], [])
        until = fan.clock() + 2 * settings.grace + MARGIN_SECONDS
        session.end(grace=settings.grace, until=until, why=f"stopped by {edge.user}@{edge.machine}")
    return session.state


def _joined(
    parts: Mapping[Host, RunHere], order: Order, edge: Edge, *, looking_on: bool
) -> AbstractContextManager[Fan]:
    """Return connections that resume the run on these hosts and fetch its log from the first byte."""
    plan = plan_of(order, [run.node for run in parts.values()])

    def before(fan: Fan) -> None:
        fan.looking_on = looking_on
        for link in fan.links.values():
            link.resume(plan, {})

    settings = order.settings
    return fan_of(order.hosts, settings, picker_of(settings, edge), edge, before=before)


def found(request: Request, settings: Settings, edge: Edge) -> dict[Host, RunHere]:
    """Return each host's part in the requested run, in rank order. Raises UsageError."""
    hosts = {host.name: host for host in hosts_of(request, settings, edge)[1]}
    answers = census.take(list(hosts.values()), settings, edge)
    wanted = request.given["run"]
    runs = [run for answer in answers for run in answer.runs if wanted in run.run]
    going = sorted({run.run for run in runs if run.alive}) or sorted({run.run for run in runs})
    for answer in answers:
        if answer.error:
            edge.say(f"{answer.host}: {answer.error}")
    if not going:
        meant = f"run {wanted!r}" if wanted else "run"
        raise UsageError(f"these hosts have no {meant} of yours", hint=on_these_hosts(request, settings, "ps"))
    if len(going) > 1:
        hint = on_these_hosts(request, settings, request.verb, going[-1])
        raise UsageError(f"these hosts have {len(going)} runs: {', '.join(going)}", hint=hint)
    parts = sorted((run for run in runs if run.run == going[0]), key=lambda run: run.node)
    missing = int(parts[0].about.get("nodes") or len(parts)) - len(parts)
    if missing > 0:
        edge.say(f"run {going[0]}: {missing} of its hosts did not answer or are not in HOSTS; using the others")
    return {hosts[run.host]: run for run in parts}


def order_of(parts: Mapping[Host, RunHere], settings: Settings, edge: Edge) -> Order:
    run = next(iter(parts.values())).run
    return Order(run_id=run, hosts=tuple(parts), settings=settings, directory="", user=edge.user)


def _heading(parts: Mapping[Host, RunHere], order: Order) -> Heading:
    title = next((str(run.about["title"]) for run in parts.values() if run.about.get("title")), "?")
    ranks = {host.name: (run.node, run.about.get("nproc")) for host, run in parts.items()}
    return Heading(run_id=order.run_id, title=title, hosts=tuple(host.name for host in parts), ranks=ranks)
