"""What train.sh will do with what fanout gives it: seen in a rehearsal with a torchrun that only writes down its call.

Where no rehearsal could be had, the script is read for the names that it has to pass on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from shlex import quote
from typing import Any

from fanout.checks.addresses import interface_of
from fanout.checks.compare import outliers
from fanout.checks.model import Case, Check, CheckRequest, Verdict, fail, info, ok, skip, warn
from fanout.checks.torchrun import Call, call

RECORDED = 86  # how the recording torchrun ends
_OFFLINE = re.compile(
    r"(?i)resolv|network is unreachable|connection (?:refused|timed out|error)|no route to host|name or service not known"
    r"|temporary failure|cannot connect|could not connect|unable to access|read-only file system|operation not permitted"
)
_PASSED_ON = ("NNODES", "NODE_RANK", "MASTER_ADDR")
_CALL = "torchrun --nnodes=$NNODES --node-rank=$NODE_RANK --nproc-per-node=$NPROC_PER_NODE --rdzv-endpoint=$MASTER_ADDR:$MASTER_PORT"


def _calls(case: Case) -> Iterator[tuple[str, Mapping[str, Any], Call]]:
    """(host, its rehearsal, its last torchrun) where train.sh came to one."""
    for name, played in case.of("rehearsal").items():
        if played["calls"] and played["calls"][-1]["program"] == "torchrun":
            last = played["calls"][-1]
            yield name, played, call(last["argv"], last["env"])


def _starts(case: Case) -> Iterator[Verdict]:
    for name, played in case.of("rehearsal").items():
        if not played["calls"]:
            yield _never_called(case, name, played)
            continue
        program = played["calls"][-1]["program"]
        by = f" by {played['calls'][-1]['python']}" if played["calls"][-1]["python"] else ""
        errors = played.get("errors", ())
        if errors:
            yield info(
                name, f"{case.request.script} goes on after an error: {errors[0]}", "set -e at its top ends it there"
            )
        else:
            does = "the task without torchrun" if program == "task" else program
            yield ok(name, f"{case.request.script} starts {does}{by}")


def _never_called(case: Case, name: str, played: Mapping[str, Any]) -> Verdict:
    """A script that did not come to torchrun: by an error of its own, or because the box has no network."""
    script, status = case.request.script, played["status"]
    words = " ".join(played["words"].split())[-160:]
    errors = played.get("errors", ())
    offline = _OFFLINE.search(played["words"])
    if status is None:
        return skip(name, f"the rehearsal was ended after {played['seconds']:.0f} s, before {script} came to torchrun")
    if not status:
        return skip(name, _silence(case, name))
    saw = f"{script} ends with status {status} before it comes to torchrun: {errors[0] if errors else words or '(it prints nothing)'}"
    if offline or not (errors or status in (2, 126, 127)):
        return skip(name, f"without a network {saw}")
    sure = status == 127 or "syntax error" in saw
    if status == 2 or "syntax error" in saw:
        cure = f"see the line:  {case.on(name, f'cd {quote(case.workdir(name))} && bash -n {quote(script)}')}"
    elif "No such file" in saw:
        cure = f"bring the file there, or mend the line in {script}; if it activates an environment:  --venv DIR"
    else:
        cure = "install what it names there, or use an environment that has it:  --venv DIR"
    return (fail if sure else warn)(name, saw, cure)


def _unseen(case: Case, hosts: Iterable[str], else_: str) -> Iterator[Verdict]:
    """Why there was nothing to judge, in the same words whatever was to be judged."""
    for name in hosts:
        yield skip(name, _silence(case, name) or else_)


def _silence(case: Case, name: str) -> str:
    """Why no call of torchrun was seen in the rehearsal; "" if one was."""
    played = case.facts[name]["rehearsal"]
    if played["calls"]:
        return ""
    return f"{case.request.script} {'calls no' if played['status'] == 0 else 'did not come to'} torchrun"


def _passes(case: Case) -> Iterator[Verdict]:
    """Wrong is what makes another group than all hosts together; told is what differs from the plan, and works."""
    quiet = set(case.hosts)
    for name, played, seen in _calls(case):
        quiet.discard(name)
        given = played["given"]
        wrong = list(_strays(case, seen, given)) if len(case.request.hosts) > 1 else []
        if wrong:
            yield fail(
                name,
                f"{case.request.script} calls torchrun with {', '.join(wrong)}",
                f"pass on what fanout exports:  {_CALL}",
            )
            continue
        odd = list(_oddities(case, seen, given))
        if odd:
            yield warn(name, f"{case.request.script} {', '.join(odd)}", f'pass on what fanout exports:  {_CALL} "$@"')
        else:
            yield ok(
                name,
                f"{case.request.script} hands torchrun NNODES={given['NNODES']}, MASTER_ADDR, MASTER_PORT and its rank",
            )
    yield from _unseen(case, quiet_in_order(case, quiet), "it did not end")


def quiet_in_order(case: Case, names: set[str]) -> tuple[str, ...]:
    return tuple(name for name in case.hosts if name in names)


def _strays(case: Case, seen: Call, given: Mapping[str, str]) -> Iterator[str]:
    if seen.nnodes != given["NNODES"]:
        how = "--standalone" if seen.standalone else f"--nnodes={seen.nnodes}"
        yield f"{how} where NNODES={given['NNODES']}"
    elif seen.static and seen.options["node_rank"] != given["NODE_RANK"]:
        yield f"--node-rank={seen.options['node_rank']} where NODE_RANK={given['NODE_RANK']}"
    address = seen.endpoint[0]
    if not seen.standalone and not _is_first(case, address, given["MASTER_ADDR"]):
        yield f"the meeting at {address} where MASTER_ADDR={given['MASTER_ADDR']}"


def _is_first(case: Case, address: str, master: str) -> bool:
    """Whether ``address`` is another way to say host 0."""
    first = case.request.first
    plain = address.strip("[]")
    facts = case.facts.get(first.name, {})
    names = {master, first.name, first.hostname, first.addr, facts.get("identity", {}).get("hostname")}
    return plain in names or bool(
        interface_of([row for row in facts.get("interfaces", ()) if not row["loopback"]], plain)
    )


def _oddities(case: Case, seen: Call, given: Mapping[str, str]) -> Iterator[str]:
    port = seen.endpoint[1]
    if len(case.request.hosts) > 1 and port and port != given["MASTER_PORT"]:
        yield f"takes port {port} whatever MASTER_PORT says (the check looked at {given['MASTER_PORT']})"
    count = seen.options["nproc_per_node"]
    if count.isdigit() and given.get("NPROC_PER_NODE", count) != count:
        yield f"starts {count} process{'es' * (count != '1')} where NPROC_PER_NODE={given['NPROC_PER_NODE']}"
    if seen.script and given["task"][0] not in (seen.script, *seen.words):
        yield f"starts {seen.script} instead of {given['task'][0]}"
    elif lost := [word for word in given["task"][1:] if word not in seen.words and " " not in word]:
        yield f"drops the argument{'s' * (len(lost) > 1)} {' '.join(lost[:3])}"


def _status(case: Case) -> Iterator[Verdict]:
    quiet = set(case.hosts)
    for name, played, _ in _calls(case):
        if played["status"] is None:
            continue
        quiet.discard(name)
        if played["status"] == 0:
            yield warn(
                name, f"{case.request.script} ends with status 0 although torchrun failed",
                "a run that fails would look like one that did its work: let torchrun be its last command, or end with its "
                "status (set -e, or exit $?)",
            )  # fmt: skip
        else:
            yield ok(name, "a failure of torchrun is a failure of train.sh")
    yield from _unseen(case, quiet_in_order(case, quiet), "it did not end")


def _python(case: Case) -> Iterator[Verdict]:
    """The checks of the software looked at the Python of the login's PATH; train.sh may activate another."""
    used = {name: played["calls"][-1]["python"] for name, played, _ in _calls(case) if played["calls"][-1]["python"]}
    for odd in outliers(used):
        yield info(odd.hosts, f"train.sh runs {odd.against()}", "the same path everywhere saves surprises")
    for name, python in used.items():
        looked = case.facts[name].get("software", {}).get("executable", "")
        if looked and python.rpartition("/")[0] != looked.rpartition("/")[0] and len(set(used.values())) == 1:
            yield info(
                name, f"train.sh activates an environment of its own: {python}; the checks of torch and packages looked at {looked}",
                f"have them look there:  --venv {python.rpartition('/bin/')[0]}",
            )  # fmt: skip
    yield from _unseen(case, quiet_in_order(case, set(case.hosts) - set(used)), "no python was seen in the rehearsal")


def _reads(case: Case) -> Iterator[Verdict]:
    for name, files in case.of("files").items():
        script = files.get("script", {})
        mentions = set(script.get("mentions", ()))
        if script.get("kind") != "file":
            yield skip(name, "no train.sh")
        elif case.facts[name].get("rehearsal", {}).get("calls"):
            yield skip(name, "")
        elif not mentions & {"torchrun", "torch.distributed"}:
            rehearsed = "rehearsal" in case.facts[name]
            yield skip(name, _silence(case, name) if rehearsed else f"{case.request.script} does not name torchrun")
        elif len(case.request.hosts) > 1 and (lost := [word for word in _PASSED_ON if word not in mentions]):
            yield warn(
                name, f"{case.request.script} calls torchrun but never names {', '.join(lost)}",
                "each host may start a run of its own: pass on  --nnodes $NNODES --node-rank $NODE_RANK "
                "--master-addr $MASTER_ADDR --master-port $MASTER_PORT",
            )  # fmt: skip


def _no_task(request: CheckRequest) -> str:
    return "" if request.task else "no task given"


CHECKS = (
    Check(
        name="script-starts", group="rehearsal", worst="fail", needs=("rehearsal",), unless=_no_task,
        verifies="train.sh comes to torchrun, in a rehearsal in a box that changes nothing; no file or program is missing on the way.",
        why="A missing program or a slip of syntax shows on all hosts, after everything else has been set up.",
        fix="bash -n train.sh; install what the message names.",
        judge=_starts,
    ),
    Check(
        name="passes-on", group="rehearsal", worst="fail", needs=("rehearsal",), unless=_no_task,
        verifies="torchrun gets NNODES, the node's rank, MASTER_ADDR and MASTER_PORT, NPROC_PER_NODE, the task and its arguments.",
        why="A train.sh with numbers of its own starts a run on every host, each for itself, or all wait for a stranger; "
        "nobody notices until the results are poor.",
        fix="Pass them on to torchrun.",
        judge=_passes,
    ),
    Check(
        name="exit-status", group="rehearsal", worst="warn", needs=("rehearsal",), unless=_no_task,
        verifies="A torchrun that fails makes train.sh fail (under bash -o pipefail, as fanout runs it).",
        why="A script that goes on after torchrun, or ends in `|| true`, turns every failure into a success.",
        fix="set -e, or exit $? behind torchrun.",
        judge=_status,
    ),
    Check(
        name="script-python", group="rehearsal", worst="info", needs=("rehearsal",), unless=_no_task,
        verifies="train.sh runs the Python that the checks of the software looked at, the same on every host.",
        why="A train.sh that activates an environment of its own makes them look at the wrong one.",
        fix="--venv DIR for both.",
        judge=_python,
    ),
    Check(
        name="script-reads", group="rehearsal", worst="warn", needs=("files",),
        verifies="A train.sh that could not be rehearsed names NNODES, NODE_RANK and MASTER_ADDR if it calls torchrun.",
        why="One that does not starts a run of its own on every host, and nobody notices until the results are poor.",
        fix="Pass them on to torchrun.",
        judge=_reads,
    ),
)  # fmt: skip
