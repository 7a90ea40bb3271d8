"""The network between the hosts of a run that just failed, tested again at once where the verdict suspects it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from fanout import answers, schema
from fanout.checks import dials, mesh
from fanout.checks.model import MeshTest
from fanout.diagnose.verdict import Cause, Verdict
from fanout.errors import UsageError
from fanout.hosts import Host, fold
from fanout.launch import Session
from fanout.preflight import between
from fanout.schema import By, Each, Row, Text
from fanout.settings import Settings
from fanout.state import RunState
from fanout.transports.pick import Picker
from fanout.verbs.common import Edge, fan_of

KEPT = "retest.json"
_NAME = Text(4096)
_KEPT = {"ways": Each(Row((_NAME, _NAME, answers.DIALLED))), "addresses": By(_NAME), "unreached": Each(_NAME)}
_SUSPICIOUS = ("network", "meeting", "store-timeout", "store-refused")


def worth(verdict: Verdict) -> bool:
    """Is the network what is suspected?"""
    return verdict.cause is not None and verdict.confidence != "high" and verdict.cause.signature in _SUSPICIOUS


def retested(
    verdict: Verdict,
    hosts: Sequence[Host],
    state: RunState,
    settings: Settings,
    picker: Picker,
    edge: Edge,
    *,
    keep: Callable[[str, str], None],
) -> Verdict:
    """The verdict with what a test between the same hosts shows now; ``keep`` gets that test as a file."""
    names = [host.name for host in hosts]
    places = {name: str(state.hosts[name].hello.get("peer") or "") for name in names}
    places = {name: place for name, place in places.items() if place}
    if len(places) < 2 or state.interrupts:
        return verdict
    edge.say("everybody waited for somebody: testing the network between the hosts again")
    with fan_of(hosts, settings, picker, edge) as fan:
        session = Session(fan, names, [])
        session.connect()
        reached = [name for name in names if session.state.hosts[name].linked and name in places]
        tested = between(reached, places, session) if len(reached) > 1 else MeshTest(addresses=places)
        session.dismiss()
    unreached = [name for name in names if name not in reached]
    ways = [[start, end, dict(dial)] for (start, end), dial in tested.dials.items()]
    kept = {"v": 1, "addresses": dict(tested.addresses), "ways": ways, "unreached": unreached}
    keep(KEPT, json.dumps(kept) + "\n")
    return amended(verdict, tested, unreached)


def as_kept(verdict: Verdict, directory: str) -> Verdict:
    """The verdict of a record, with the test that was made then; as it is where none was."""
    try:
        with open(os.path.join(directory, KEPT), "rb") as file:
            kept = schema.parsed(file.read(), _KEPT)
        dials = {(start, end): dial for start, end, dial in kept["ways"]}
        return amended(verdict, MeshTest(addresses=kept["addresses"], dials=dials), kept["unreached"])
    except FileNotFoundError:
        return verdict
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{directory}/{KEPT}: cannot be read: {error}") from None


def amended(verdict: Verdict, tested: MeshTest, unreached: Sequence[str]) -> Verdict:
    """Pure: the verdict with what was seen. One host of several that is cut off both ways is named."""
    failing = {pair: dial for pair, dial in tested.dials.items() if dial["outcome"] != "ok"}
    told = [f"tested again at once: {fold(unreached)} does not answer any more"] if unreached else []
    if not failing:
        if tested.dials:
            told.append(f"tested again at once: all {len(tested.dials)} ways between the hosts carry data now")
        code = "it is not the network as it is now: look at the code, or for an outage that is over"
        advice = (*verdict.advice, code) if tested.dials and not unreached else verdict.advice
        return replace(verdict, evidence=(*verdict.evidence, *told), advice=advice)
    blamed = list(mesh.blamed(failing, tested.dials))
    told.append(f"tested again at once: {len(failing)} of {len(tested.dials)} ways between the hosts fail")
    for host, inward, culprits in blamed[:3]:
        (_, end), dial = culprits[0]
        others = fold(pair[0 if inward else 1] for pair, _ in culprits)
        where = f"{end} at {tested.addresses.get(end, '?')}"
        told.append(f"{host}, {'from' if inward else 'to'} {others}: {dials.saw(dial, where)}")
    guilty = {host for host, _, _ in blamed}
    seen = {name for pair in tested.dials for name in pair}
    cause = verdict.cause
    if len(guilty) == 1 and len(seen) > 2:
        (host,) = guilty
        cause = Cause(signature="network", says="cannot exchange data with the other hosts", host=host, hosts=(host,))
    return replace(
        verdict,
        cause=cause,
        confidence="medium" if cause is not None and cause.signature == "network" else verdict.confidence,
        evidence=(*verdict.evidence, *told),
        refutes=(),
        advice=("fanout check HOSTS --only network",),
    )
