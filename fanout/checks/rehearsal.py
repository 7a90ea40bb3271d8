"""What train.sh and the config will do with what fanout gives them, as far as reading them tells."""

from __future__ import annotations

from collections.abc import Iterator

from fanout.checks import config
from fanout.checks.gpu import count
from fanout.checks.model import Case, Check, CheckRequest, Verdict, info, ok, skip, warn

_PASSED_ON = ("NNODES", "NODE_RANK", "MASTER_ADDR")


def _script(case: Case) -> Iterator[Verdict]:
    for name, files in case.of("files").items():
        script = files.get("script", {})
        mentions = set(script.get("mentions", ()))
        if script.get("kind") != "file":
            yield skip(name, "no train.sh")
        elif not mentions & {"torchrun", "torch.distributed"}:
            yield skip(name, "train.sh does not call torchrun itself")
        elif len(case.request.hosts) > 1 and (lost := [word for word in _PASSED_ON if word not in mentions]):
            yield warn(
                name, f"{case.request.script} calls torchrun but never names {', '.join(lost)}",
                "each host may start a run of its own: pass on  --nnodes $NNODES --node-rank $NODE_RANK "
                "--master-addr $MASTER_ADDR --master-port $MASTER_PORT",
            )  # fmt: skip
        elif "| tee" in mentions and "pipefail" not in mentions:
            yield info(
                name,
                f"{case.request.script} ends in `| tee` without pipefail",
                "fanout runs it under bash -o pipefail, so that its exit status is torchrun's",
            )


def _batch(case: Case) -> Iterator[Verdict]:
    found = config.batches(case.request.config_values)
    counts = []
    for name in case.hosts:
        host = case.host(name)
        counts.append(host.slots if host.slots is not None else len(host.gpus) or count(case.facts[name]))
    if found is None or not counts or not all(counts):
        yield skip(
            case.hosts,
            "no global and micro batch size in the config" if found is None else "the number of processes is not known",
        )
        return
    whole, micro = found
    world = sum(counts)
    if whole % (world * micro):
        step = world * micro
        near = max(step, round(whole / step) * step)
        yield warn(
            case.hosts, f"global_batch_size {whole} is not divisible by {world} processes × micro_batch_size {micro}",
            f"take a multiple of {step}, for instance {near}",
        )  # fmt: skip
    else:
        yield ok(case.hosts, f"{whole} = {world} processes × {micro} × {whole // (world * micro)} steps")


def _unread(request: CheckRequest) -> str:
    if not request.config:
        return "no config given"
    return "" if request.config_values is not None else "the config was not read"


CHECKS = (
    Check(
        name="script-reads", group="rehearsal", worst="warn", needs=("files",),
        verifies="A train.sh that calls torchrun names NNODES, NODE_RANK and MASTER_ADDR (it is read, not run).",
        why="One that does not starts a run of its own on every host, and nobody notices until the results are poor.",
        fix="Pass them on to torchrun.",
        judge=_script,
    ),
    Check(
        name="batch", group="rehearsal", worst="warn", unless=_unread,
        verifies="The config's global batch size is divisible by processes × micro batch size.",
        why="Trainers stop with an assertion after the model has been loaded.",
        fix="Choose a multiple.",
        judge=_batch,
    ),
)  # fmt: skip
