"""Does torch come up on every host, and do all meet through it: judged from the steps of the deep check. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.compare import outliers
from fanout.checks.gpu import count
from fanout.checks.model import Case, Check, Verdict, fail, ok, skip, warn
from fanout.checks.pairs import Blame
from fanout.checks.together import MEETING, DeepTest, partners


def made(case: Case) -> DeepTest | None:
    return case.deep if case.deep and not case.deep.unmade else None


def unmade(case: Case) -> Verdict:
    return skip(case.hosts, case.deep.unmade if case.deep else "not asked")


# -- torch


def _torch(case: Case) -> Iterator[Verdict]:
    test = made(case)
    if test is None:
        yield unmade(case)
        return
    for name, processes in test.began.items():
        error = next((one["error"] for one in processes if one.get("error")), "")
        if error:
            yield fail(name, f"torch does not come up there: {error}", _without(case, name, error))
        elif not processes[0]["distributed"]:
            yield fail(name, "its torch was built without torch.distributed", "install the torch of pytorch.org there")
        elif not processes[0]["gpu"] and count(case.facts[name]):
            yield warn(
                name, f"torch {processes[0]['torch']} sees no GPU, nvidia-smi does",
                "a torch for CPU, or for a newer driver: install the one that fits there (pytorch.org tells which)",
            )  # fmt: skip
        else:
            yield ok(name, f"torch {processes[0]['torch']}")
    versions = {name: str(row[0]["torch"]) for name, row in test.began.items() if row[0].get("torch")}
    for odd in outliers(versions):
        yield fail(odd.hosts, f"torch {odd.against()}", f"install the same everywhere:  pip install torch=={odd.usual}")


def _without(case: Case, name: str, error: str) -> str:
    if "No module named" not in error and "not found" not in error:
        return "see the whole of it:  " + case.on(name, "python3 -c 'import torch'")
    if case.request.venv:
        return f"install it there:  {case.on(name, f'{case.request.venv}/bin/pip install torch')}   or name another environment with  --venv DIR"
    return "name the environment that has it with  --venv DIR  (or what activates it with  --setup CMD)"


# -- the meeting


def _rendezvous(case: Case) -> Iterator[Verdict]:
    test = made(case)
    if test is None:
        yield unmade(case)
        return
    first = case.request.first.name
    yield skip([name for name in case.hosts if name not in test.joined], _not_met(test, first))
    absent = _absent(test)
    named = set()
    for name in test.joined:
        trouble = test.trouble(name)
        if trouble.get("stage") == "store":
            named.add(name)
            yield _storeless(case, test, name, trouble)
        elif trouble.get("died"):
            named.add(name)
            yield fail(name, f"its process was lost at {_stage(trouble)}: {trouble['error']}", _by_hand(case, name))
        elif name in absent:
            named.add(name)
            yield fail(name, "it never came to the meeting; the others were there and waited", _by_hand(case, name))
        elif trouble and name not in test.order:
            named.add(name)
            yield fail(name, f"its process hangs at {_stage(trouble)}: {trouble['error']}", _by_hand(case, name))
    broken = [blame for blame in test.blames if blame.broken and test.pairs[blame.pairs[0]].stage in MEETING]
    for blame in broken:
        if set(blame.hosts) & named:
            continue  # it has been said why
        named |= set(blame.hosts)
        yield _apart(case, test, blame)
    rest = [name for name in test.joined if name not in named]
    for trouble in [test.trouble(name) for name in rest]:
        if not named and trouble and trouble.get("stage") in MEETING:
            saw = f"all together fail at {_stage(trouble)}, although the pairs work: {trouble['error']}"
            yield fail(rest, saw, _by_hand(case, rest[0]))
            return
    yield ok(rest, f"{test.backend}, {len(test.order)} processes" if rest and test.order else "")


def _not_met(test: DeepTest, first: str) -> str:
    return "torch did not come up there" if first in test.joined else f"{first} is not there to be met: it is host 0"


def _absent(test: DeepTest) -> set[str]:
    """Hosts that others, who came themselves, did not see."""
    seen = {test.order[rank] for name in test.joined for one in test.joined[name] for rank in one.get("absent", ())}
    return seen - {name for name in test.joined if any("absent" in one for one in test.joined[name])}


def _storeless(case: Case, test: DeepTest, name: str, trouble: Mapping[str, Any]) -> Verdict:
    first = case.request.first.name
    if name == first:
        return fail(
            name, f"torch cannot open its store at {test.place}: {trouble['error']}",
            f"see who has the port:  {case.on(name, 'ss -ltnp')}   or take another with  --master-port N",
        )  # fmt: skip
    return fail(
        name, f"it does not reach torch's store at {test.place} on {first}: {trouble['error']}",
        f"see the rows master-addr and reverse-names; by hand:  {case.on(name, 'nc -vz ' + test.place.replace(':', ' '))}",
    )  # fmt: skip


def _stage(trouble: Mapping[str, Any]) -> str:
    return str(trouble.get("stage") or "the start")


def _by_hand(case: Case, name: str) -> str:
    return f"run it again; if it stays, look there:  {case.on(name, 'uptime; dmesg | tail')}"


def _apart(case: Case, test: DeepTest, blame: Blame) -> Verdict:
    """A host that forms a group with nobody, or two that form none with each other."""
    found = test.pairs[blame.pairs[0]]
    ports = case.facts[blame.hosts[0]].get("ports", {"low": 32768, "high": 60999})
    cure = (
        f"a firewall, or an interface that the others do not reach: let the ports {ports['low']}-{ports['high']} through "
        f"both ways, or name the interface with iface=NAME  (fanout check --explain mesh)"
    )
    at = f"at {_stage({'stage': found.stage})}: {found.error}"
    if len(blame.hosts) == 1:
        return fail(blame.hosts, f"it forms no group with {partners(blame)}, which do with others; {at}", cure)
    one, other = blame.hosts
    alone = len(test.pairs) == 1
    reach = f"both reach the store at {test.place}" if alone else "each does with others"
    return fail(blame.hosts, f"{one} and {other} form no group with each other, {reach}; {at}", cure)


CHECKS = (
    Check(
        name="deep-torch", group="deep", worst="fail",
        verifies="The task's Python imports torch under the exports of a run, in the same version on every host.",
        why="A library that is missing, or a torch that is not for this machine's driver, shows when torch is imported: on "
        "one host, while the others wait.",
        fix="Name the environment that has torch with --venv DIR, or what activates it with --setup CMD.",
        judge=_torch,
    ),
    Check(
        name="deep-rendezvous", group="deep", worst="fail",
        verifies="All hosts meet in torch's store at MASTER_ADDR:MASTER_PORT, form one group (nccl where every host has "
        "GPUs, one process a GPU; else gloo, one a host) and add up one element.",
        why="It is what torchrun does first. A host that does not come, or two that cannot reach each other's ports, keep "
        "all others waiting for minutes, and the message at the end names neither.",
        fix="Open the ports between the hosts that are named, or name the interface on which they meet with iface=NAME.",
        judge=_rendezvous,
    ),
)  # fmt: skip
