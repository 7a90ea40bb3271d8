"""``fanout attach``: return to a run, on its own machine or on another one, and follow it to its end.

On the machine that launched the run, attach follows the record. If the launcher died, a new process replaces it first.
On another machine, attach asks the hosts for the run and for its log from the first byte.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from fanout import holder, rejoin
from fanout.arguments import Request
from fanout.errors import UsageError
from fanout.guardian import Guardian
from fanout.settings import Settings
from fanout.verbs import detach, explain, follow, onlook
from fanout.verbs.common import Edge, heeded, runs_directory, settings_of
from fanout.verbs.pacing import PaceTeller
from fanout.verbs.runs import find_live, order_of
from fanout.verbs.showing import look_of, view_of, wishes_of
from fanout.views.recorded import Recorded
from fanout.views.report import report
from fanout.views.tail import Tails

LEFT = 130


def attach(request: Request, edge: Edge) -> int:
    """Run the command; return the exit status of the run."""
    settings = settings_of(request, edge)
    request = _named(request)
    try:
        if request.hosts and not request.given["run"]:
            return onlook.attach(request, settings, edge)
        path = find_live(request.given["run"], runs_directory(settings, edge), "attach")
    except UsageError:
        if not request.hosts:
            raise
        return onlook.attach(request, settings, edge)
    recorded = Recorded(path)
    if follow.over(recorded) and not recorded.ended:
        status = _take_its_place(path, settings, edge)
        if status is not None:
            return status
    return _follow(recorded, settings, edge)


def _named(request: Request) -> Request:
    """Return the request with RUN as HOSTS if RUN is a file: ``attach hosts.txt`` means the hosts."""
    run = request.given["run"]
    if run and not request.hosts and os.path.isfile(run):
        return dataclasses.replace(request, hosts=run, given={**request.given, "run": ""})
    return request


def _follow(recorded: Recorded, settings: Settings, edge: Edge) -> int:
    look, wish = look_of(settings, edge), detach.Wish()
    pace = PaceTeller(muted=True)
    wishes = wishes_of(settings, metric=recorded.metric)
    witness = explain.witness_of(recorded.heading, explain.book_of(settings, edge), recorded=True)
    explain.learn_again(witness, recorded.path)
    hangs, so_far = explain.HangTeller(witness, muted=True), partial(explain.so_far, witness)
    view = view_of(
        recorded.heading,
        look,
        edge,
        wishes,
        so_far=so_far,
        slow=pace.brief,
        hung=hangs.brief,
        detach=wish,
        viewing="attach",
    )
    pace.says.append(view.note)
    hangs.says.append(view.note)
    try:
        result = follow.watch(recorded, view, lambda: wish.asked, learners=[witness], tellers=[hangs, pace])
    except KeyboardInterrupt:
        wish.heard = True
    view.close()
    if wish.asked or wish.heard:
        edge.say(f"left; the run goes on: fanout attach {recorded.heading.run_id}")
        return 0 if wish.asked else LEFT
    if view.broken:
        return 141
    if recorded.damage:
        edge.say(recorded.damage)
    return _told(recorded, result, edge)


def _told(recorded: Recorded, result: Mapping[str, Any] | None, edge: Edge) -> int:
    """Print the recorded report; return the exit status of the run."""
    run = recorded.heading.run_id
    if result is None:
        edge.say(f"run {run}: the record has no end: the launcher died")
        edge.stderr.write(f"        try:  fanout attach {run}   # resumes it; or:  fanout stop {run}\n")
        return 255
    try:
        with open(os.path.join(recorded.path, "report.txt"), encoding="utf-8") as file:
            edge.stderr.write(file.read())
    except OSError as error:
        edge.say(f"run {run}: {result['headline']} (cannot read its report: {error.strerror})")
    return int(result["exit_code"])


def _take_its_place(path: str, settings: Settings, edge: Edge) -> int | None:
    """Start a process that replaces the launcher, without a terminal. Return None if it runs, else an exit status."""
    order = order_of(path)
    edge.say(f"run {order.run_id}: the launcher died: starting a new one")
    taken: list[int] = []

    def work(door: detach.Door) -> int:
        taken.append(os.getpid())
        return _in_its_place(order, settings, edge, door)

    status = detach.apart(edge, work)
    return status if taken or status else None


def _in_its_place(order: rejoin.Order, settings: Settings, edge: Edge, door: detach.Door) -> int:
    """Do the launcher's work from now on, in a process of its own; return the exit status."""
    ends = signal.SIGTERM if heeded([signal.SIGTERM]) else signal.SIGKILL  # after SIGKILL the guardian stops the run
    ours = holder.Holder(
        pid=os.getpid(), user=edge.user, machine=edge.machine, since=time.time(), detached=True, signal=ends
    )
    hold = holder.take(order.directory, ours)
    if hold is None or not door.shut():
        return 0  # another process was faster, or the command that started this one is gone
    guardian = Guardian()
    detach.redirect(order.directory)
    guardian.watch(order.to_json())
    recorded = Recorded(order.directory)
    tails, pace = Tails(), PaceTeller(muted=True)
    witness = explain.witness_of(recorded.heading, explain.book_of(settings, edge), recorded=True)
    explain.learn_again(witness, recorded.path)

    def note(text: str) -> None:
        if taken.record:
            taken.record.note(text)

    taken = rejoin.TakenUp(
        order,
        by=f"{edge.user}@{edge.machine}",
        agent="SSH_AUTH_SOCK" in edge.environ,
        learners=[tails, witness, pace],
        views=[explain.HangTeller(witness, note)],
    )
    pace.says.append(note)
    pace.speak(taken.session.state)
    try:
        outcome = taken.go_on()
        outcome, verdict = explain.judged(witness, taken.session.state, outcome)
        if taken.record:
            if verdict is not None:
                taken.record.keep(explain.VERDICT, explain.as_json(verdict))
            text = report(
                recorded.heading,
                taken.session.state,
                outcome,
                explain.last_words(tails, outcome, verdict),
                diagnosis=explain.shown(verdict),
                blamed=explain.blamed(verdict),
                slow=pace.slow(),
            )
            taken.record.finish(outcome, text)
    finally:
        taken.close()
    if outcome.clean:
        guardian.dismiss()
    else:
        guardian.leave_to_it()
    return outcome.exit_code
