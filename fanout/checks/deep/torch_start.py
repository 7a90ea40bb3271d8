"""Deep checks of torch: its import on every host, and the rendezvous of all hosts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.deep.pairwise import PairFault
from fanout.checks.deep.torch_result import RENDEZVOUS_STAGES, DeepTest, format_partners
from fanout.checks.engine.comparison import find_outlier_groups
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, fail, ok, skip, warn
from fanout.checks.gpu.accelerators import count_gpus


def get_deep_test(case: CheckContext) -> DeepTest | None:
    return case.deep if case.deep and not case.deep.unmade else None


def skip_unmade_test(case: CheckContext) -> CheckResult:
    return skip(case.hosts, case.deep.unmade if case.deep else "not asked")


# -- torch


def _judge_torch(case: CheckContext) -> Iterator[CheckResult]:
    test = get_deep_test(case)
    if test is None:
        yield skip_unmade_test(case)
        return
    for name, processes in test.began.items():
        error = next((one["error"] for one in processes if one.get("error")), "")
        if error:
            yield fail(name, f"torch cannot be imported: {error}", _advise_import_error(case, name, error))
        elif not processes[0]["distributed"]:
            yield fail(name, "its torch was built without torch.distributed", "install torch from pytorch.org on it")
        elif not processes[0]["gpu"] and count_gpus(case.facts[name]):
            yield warn(
                name,
                f"torch {processes[0]['torch']} sees no GPU, but nvidia-smi does",
                "this torch is for CPU or for a newer driver: install the build that fits the driver (see pytorch.org)",
            )
        else:
            yield ok(name, f"torch {processes[0]['torch']}")
    versions = {name: str(row[0]["torch"]) for name, row in test.began.items() if row[0].get("torch")}
    for odd in find_outlier_groups(versions):
        yield fail(
            odd.hosts,
            f"torch {odd.format_difference()}",
            f"install the same version on all hosts:  pip install torch=={odd.usual}",
        )


def _advise_import_error(case: CheckContext, name: str, error: str) -> str:
    if "No module named" not in error and "not found" not in error:
        return "see the whole error:  " + case.format_remote_command(name, "python3 -c 'import torch'")
    if case.request.venv:
        return f"install it:  {case.format_remote_command(name, f'{case.request.venv}/bin/pip install torch')}   or name another environment with  --venv DIR"
    return "name the environment that has it with  --venv DIR  (or the command that activates it with  --setup CMD)"


# -- the rendezvous


def _judge_rendezvous(case: CheckContext) -> Iterator[CheckResult]:
    test = get_deep_test(case)
    if test is None:
        yield skip_unmade_test(case)
        return
    first = case.request.first_host.name
    yield skip([name for name in case.hosts if name not in test.joined], _explain_not_joined(test, first))
    absent = _find_absent_hosts(test)
    named = set()
    for name in test.joined:
        trouble = test.get_first_error(name)
        if trouble.get("stage") == "store":
            named.add(name)
            yield _judge_store_error(case, test, name, trouble)
        elif trouble.get("died"):
            named.add(name)
            yield fail(
                name, f"its process was lost at {_get_stage(trouble)}: {trouble['error']}", _advise_retry(case, name)
            )
        elif name in absent:
            named.add(name)
            yield fail(name, "it never joined the rendezvous, where the other hosts waited", _advise_retry(case, name))
        elif trouble and name not in test.order:
            named.add(name)
            yield fail(
                name, f"its process hung at {_get_stage(trouble)}: {trouble['error']}", _advise_retry(case, name)
            )
    broken = [blame for blame in test.faults if blame.broken and test.pairs[blame.pairs[0]].stage in RENDEZVOUS_STAGES]
    for blame in broken:
        if set(blame.hosts) & named:
            continue  # a finding above already gives the reason
        named |= set(blame.hosts)
        yield _judge_group_failure(case, test, blame)
    rest = [name for name in test.joined if name not in named]
    for trouble in [test.get_first_error(name) for name in rest]:
        if not named and trouble and trouble.get("stage") in RENDEZVOUS_STAGES:
            saw = f"all hosts together fail at {_get_stage(trouble)}, although each pair works: {trouble['error']}"
            yield fail(rest, saw, _advise_retry(case, rest[0]))
            return
    yield ok(rest, f"{test.backend}, {len(test.order)} processes" if rest and test.order else "")


def _explain_not_joined(test: DeepTest, first: str) -> str:
    return "torch could not be imported" if first in test.joined else f"{first}, which is host 0, has no working torch"


def _find_absent_hosts(test: DeepTest) -> set[str]:
    """Return the hosts that other hosts, which joined, did not see."""
    seen = {test.order[rank] for name in test.joined for one in test.joined[name] for rank in one.get("absent", ())}
    return seen - {name for name in test.joined if any("absent" in one for one in test.joined[name])}


def _judge_store_error(case: CheckContext, test: DeepTest, name: str, trouble: Mapping[str, Any]) -> CheckResult:
    first = case.request.first_host.name
    if name == first:
        return fail(
            name,
            f"torch cannot open its store at {test.place}: {trouble['error']}",
            f"see which process has the port:  {case.format_remote_command(name, 'ss -ltnp')}   or choose another with  --master-port N",
        )
    return fail(
        name,
        f"it cannot reach torch's store at {test.place} on {first}: {trouble['error']}",
        f"see the checks master-addr and reverse-names, or test it:  {case.format_remote_command(name, 'nc -vz ' + test.place.replace(':', ' '))}",
    )


def _get_stage(trouble: Mapping[str, Any]) -> str:
    return str(trouble.get("stage") or "the start")


def _advise_retry(case: CheckContext, name: str) -> str:
    return f"run the check again; if it fails again:  {case.format_remote_command(name, 'uptime; dmesg | tail')}"


def _judge_group_failure(case: CheckContext, test: DeepTest, blame: PairFault) -> CheckResult:
    """Return the verdict for a host that forms no group with any host, or for two that form none together."""
    found = test.pairs[blame.pairs[0]]
    ports = case.facts[blame.hosts[0]].get("ports", {"low": 32768, "high": 60999})
    cure = (
        f"a firewall, or an interface that the others cannot reach: open the ports {ports['low']}-{ports['high']} "
        f"in both directions, or name the interface with iface=NAME  (fanout check --explain mesh)"
    )
    at = f"at {_get_stage({'stage': found.stage})}: {found.error}"
    if len(blame.hosts) == 1:
        return fail(
            blame.hosts, f"it forms no group with {format_partners(blame)}, which form groups with others; {at}", cure
        )
    one, other = blame.hosts
    alone = len(test.pairs) == 1
    reach = f"both reach the store at {test.place}" if alone else "each forms groups with others"
    return fail(blame.hosts, f"{one} and {other} form no group with each other, but {reach}; {at}", cure)


CHECKS = (
    Check(
        name="deep-torch", group="deep", worst="fail",
        verifies="The task's Python imports torch under the exports of a run, in the same version on every host.",
        why="A missing library, or a torch that does not fit the driver, fails only at import: on one host, while the "
        "others wait.",
        fix="Name the environment that has torch with --venv DIR, or the command that activates it with --setup CMD.",
        judge=_judge_torch,
    ),
    Check(
        name="deep-rendezvous", group="deep", worst="fail",
        verifies="All hosts connect to torch's store at MASTER_ADDR:MASTER_PORT, form one process group and all-reduce one "
        "element. If every host has GPUs, the group uses nccl with one process per GPU, else gloo with one per host.",
        why="torchrun does this first. If a host does not join, or two hosts cannot reach each other, all others wait for "
        "minutes. The final message names no host.",
        fix="Open the ports between the named hosts, or name the interface that connects them with iface=NAME.",
        judge=_judge_rendezvous,
    ),
)  # fmt: skip
