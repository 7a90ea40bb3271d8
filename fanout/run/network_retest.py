"""Network retest after a failure: if the verdict blames the network between the hosts, test it again at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from fanout.checks.engine.definition import MeshTest
from fanout.checks.network import dial_outcomes, mesh
from fanout.diagnose.verdict import Cause, Verdict
from fanout.model import answers, schema
from fanout.model.errors import UsageError
from fanout.model.hosts import fold_names
from fanout.model.schema import ListOf, MapOf, Text, TupleOf
from fanout.model.state import RunState
from fanout.preflight.run_checks import probe_connections
from fanout.run.connections import open_connections
from fanout.run.run_context import RunContext
from fanout.run.session import Session

RETEST_FILE = "retest.json"
_NAME = Text(4096)
_KEPT = {
    "ways": ListOf(TupleOf((_NAME, _NAME, answers.DIAL_RESULT))),
    "addresses": MapOf(_NAME),
    "unreached": ListOf(_NAME),
}
_SUSPICIOUS = ("network", "meeting", "store-timeout", "store-refused")


def is_network_suspected(verdict: Verdict) -> bool:
    """Return whether the verdict blames the network."""
    return verdict.cause is not None and verdict.confidence != "high" and verdict.cause.signature in _SUSPICIOUS


def retest_network(
    verdict: Verdict,
    context: RunContext,
    state: RunState,
    *,
    keep: Callable[[str, str], None],
) -> Verdict:
    """Test the network between the hosts; return the verdict with the result. ``keep`` writes the test to a file."""
    names = context.host_names
    places = {name: str(state.hosts[name].hello.get("peer") or "") for name in names}
    places = {name: place for name, place in places.items() if place}
    if len(places) < 2 or state.interrupts:
        return verdict
    context.process.print_message(
        "every rank timed out waiting for a peer: testing the network between the hosts again"
    )
    with open_connections(context) as pool:
        session = Session(pool, names, [])
        session.connect_hosts()
        reached = [name for name in names if session.state.hosts[name].connected and name in places]
        tested = probe_connections(reached, places, session) if len(reached) > 1 else MeshTest(addresses=places)
        session.release_hosts()
    unreached = [name for name in names if name not in reached]
    ways = [[start, end, dict(dial)] for (start, end), dial in tested.dials.items()]
    kept = {"v": 1, "addresses": dict(tested.addresses), "ways": ways, "unreached": unreached}
    keep(RETEST_FILE, json.dumps(kept) + "\n")
    return add_retest(verdict, tested, unreached)


def add_recorded_retest(verdict: Verdict, directory: str) -> Verdict:
    """Return the verdict with the recorded test, or unchanged without one. Raises UsageError."""
    try:
        with open(os.path.join(directory, RETEST_FILE), "rb") as file:
            kept = schema.parse_json(file.read(), _KEPT)
        dials = {(start, end): dial for start, end, dial in kept["ways"]}
        return add_retest(verdict, MeshTest(addresses=kept["addresses"], dials=dials), kept["unreached"])
    except FileNotFoundError:
        return verdict
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{directory}/{RETEST_FILE}: cannot read it: {error}") from None


def add_retest(verdict: Verdict, tested: MeshTest, unreached: Sequence[str]) -> Verdict:
    """Return the verdict with the result of the test. If one of several hosts is cut off both ways, name it. Pure."""
    failing = {pair: dial for pair, dial in tested.dials.items() if dial["outcome"] != "ok"}
    lines = [f"network retest: no answer from {fold_names(unreached)}"] if unreached else []
    if not failing:
        if tested.dials:
            lines.append(f"network retest: all {len(tested.dials)} paths between the hosts carry data now")
        code = "the network works now: check the code, or look for an outage that is over"
        advice = (*verdict.advice, code) if tested.dials and not unreached else verdict.advice
        return replace(verdict, evidence=(*verdict.evidence, *lines), advice=advice)
    blamed = list(mesh.attribute_failures(failing, tested.dials))
    lines.append(f"network retest: {len(failing)} of {len(tested.dials)} paths between the hosts fail")
    for host, inward, culprits in blamed[:3]:
        (_, end), dial = culprits[0]
        others = fold_names(pair[0 if inward else 1] for pair, _ in culprits)
        where = f"{end} at {tested.addresses.get(end, '?')}"
        lines.append(f"{host}, {'from' if inward else 'to'} {others}: {dial_outcomes.describe_outcome(dial, where)}")
    guilty = {host for host, _, _ in blamed}
    seen = {name for pair in tested.dials for name in pair}
    cause = verdict.cause
    if len(guilty) == 1 and len(seen) > 2:
        (host,) = guilty
        cause = Cause(signature="cut-off", says="cannot exchange data with the other hosts", host=host, hosts=(host,))
    return replace(
        verdict,
        cause=cause,
        confidence="medium" if cause is not None and cause.signature in ("network", "cut-off") else verdict.confidence,
        doubts=() if cause is not verdict.cause else verdict.doubts,
        evidence=(*verdict.evidence, *lines),
        refutes=(),
        advice=("fanout check HOSTS --only network",),
    )
