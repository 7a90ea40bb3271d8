"""Restart planner: remember the attempts of a run and which hosts may take part, and decide what follows each attempt; pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fanout.model.hosts import fold_names
from fanout.recovery.attempt import AttemptEnd, Fleet, RecoveryOptions
from fanout.recovery.decision import Decision, EndRun, Restart, decide_next
from fanout.recovery.roster import choose_hosts


class RestartPlanner:
    """The attempts of one run that started, and its hosts that are out or away.

    A host with a fault of its own is out for the rest of the run. A host that is away was lost, unreachable or in use by
    others. It takes part again once it answers.
    """

    def __init__(self, options: RecoveryOptions, hosts: Sequence[str], spares: Sequence[str]) -> None:
        self.options = options
        self.history: list[AttemptEnd] = []
        self._names, self._spares = (*hosts, *spares), tuple(spares)
        self._out: set[str] = set()
        self._away: set[str] = set()
        self._missed: set[str] = set()  # hosts that are surely away: at the end of an attempt, or at its start

    def list_away(self) -> tuple[str, ...]:
        """Return the hosts that may have come back, in the order of the hostfile, without those that just were away."""
        return tuple(name for name in self._names if name in self._away - self._out - self._missed)

    def list_wanted(self) -> tuple[str, ...]:
        """Return the hosts of ``list_away`` if the attempt after the last one would lack a host without them, else none."""
        decision = decide_next(self.options, self.history, self._list_fleet(()))
        if isinstance(decision, EndRun):
            return self.list_away() if decision.reason == "no-hosts" else ()
        return self.list_away() if len(decision.roster.hosts) < len(self.history[0].hosts) else ()

    def record_end(self, end: AttemptEnd) -> None:
        """Remember an attempt that started, or whose end the user asked for."""
        self.history.append(end)
        self._away -= set(end.hosts)
        self._away |= set(end.lost)
        self._missed = set(end.lost)
        self._out |= set(end.unclean)

    def decide_after_end(self, answering: Collection[str]) -> Decision:
        """Return what follows the last attempt. ``answering`` are hosts of ``list_away`` that answer again."""
        decision = decide_next(self.options, self.history, self._list_fleet(answering))
        self._missed.clear()  # a start comes after the fence
        if isinstance(decision, Restart):
            self._out |= {old for old, _ in decision.roster.replaced} - self._away
        return decision

    def decide_after_refusal(
        self,
        number: int,
        hosts: Sequence[str],
        *,
        out: Collection[str],
        away: Collection[str],
        answering: Collection[str],
        used: int,
    ) -> Decision:
        """Return how to start attempt ``number`` again, after it could not start on ``hosts``.

        A check or the host itself refused the hosts in ``out``. Those in ``away`` did not answer or were in use. None of
        them is tried again before an attempt has started, so these starts end.
        """
        self._out |= set(out)
        self._away |= set(away)
        self._missed |= set(away)
        failing = {*out, *away}
        names = fold_names(name for name in hosts if name in failing) or "the hosts"
        size = len(self.history[0].hosts)
        roster = choose_hosts(hosts, failing, self._list_fleet(answering), size=size, min_hosts=self.options.min_hosts)
        if roster is None or not failing:
            why = f"attempt {number} could not start on {names}, and no spare host is left"
            return EndRun(reason="no-hosts", why=why)
        why = f"{names} cannot take part"
        return Restart(roster=roster, wait_seconds=0.0, used=used, failure_class="check-failed", why=why)

    def _list_fleet(self, answering: Collection[str]) -> Fleet:
        free = tuple(name for name in self._spares if name not in self._out | self._away)
        back = tuple(name for name in self.list_away() if name in answering)
        return Fleet(spares=free, returned=back)
