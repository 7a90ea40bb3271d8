"""Checks of train.sh by a rehearsal: a replacement torchrun only records how the script calls it.

If a rehearsal is not possible, fanout reads the script for the variables that it must pass to torchrun.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from shlex import quote
from typing import Any

from fanout.checks.engine.comparison import find_outlier_groups
from fanout.checks.engine.definition import Check, CheckContext, CheckRequest, CheckResult, fail, info, ok, skip, warn
from fanout.checks.network.addresses import find_interface
from fanout.checks.rehearsal.torchrun_command import TorchrunCall, parse_torchrun_call

_OFFLINE = re.compile(
    r"(?i)resolv|network is unreachable|connection (?:refused|timed out|error)|no route to host|name or service not known"
    r"|temporary failure|cannot connect|could not connect|unable to access|read-only file system|operation not permitted"
)
_PASSED_ON = ("NNODES", "NODE_RANK", "MASTER_ADDR")
_CALL = "torchrun --nnodes=$NNODES --node-rank=$NODE_RANK --nproc-per-node=$NPROC_PER_NODE --rdzv-endpoint=$MASTER_ADDR:$MASTER_PORT"


def _iterate_torchrun_calls(case: CheckContext) -> Iterator[tuple[str, Mapping[str, Any], TorchrunCall]]:
    """Yield (host, its rehearsal, its last call of torchrun) for each host whose train.sh called torchrun."""
    for name, rehearsal in case.get_section("rehearsal").items():
        if rehearsal["calls"] and rehearsal["calls"][-1]["program"] == "torchrun":
            last = rehearsal["calls"][-1]
            yield name, rehearsal, parse_torchrun_call(last["argv"], last["env"])


def _judge_starts(case: CheckContext) -> Iterator[CheckResult]:
    for name, rehearsal in case.get_section("rehearsal").items():
        if not rehearsal["calls"]:
            yield _judge_missing_call(case, name, rehearsal)
            continue
        program = rehearsal["calls"][-1]["program"]
        by = f" by {rehearsal['calls'][-1]['python']}" if rehearsal["calls"][-1]["python"] else ""
        errors = rehearsal.get("errors", ())
        if errors:
            yield info(
                name,
                f"{case.request.script} continues after an error: {errors[0]}",
                "add  set -e  at its top to stop there",
            )
        else:
            does = "the task without torchrun" if program == "task" else program
            yield ok(name, f"{case.request.script} starts {does}{by}")


def _judge_missing_call(case: CheckContext, name: str, rehearsal: Mapping[str, Any]) -> CheckResult:
    """Return the verdict for a script that did not call torchrun: an error of its own, or no network in the sandbox."""
    script, status = case.request.script, rehearsal["status"]
    words = " ".join(rehearsal["words"].split())[-160:]
    errors = rehearsal.get("errors", ())
    offline = _OFFLINE.search(rehearsal["words"])
    if status is None:
        return skip(
            name, f"the rehearsal was stopped after {rehearsal['seconds']:.0f} s, before {script} called torchrun"
        )
    if not status:
        return skip(name, _explain_missing_call(case, name))
    saw = f"{script} ends with status {status} before it calls torchrun: {errors[0] if errors else words or '(it prints nothing)'}"
    if offline or not (errors or status in (2, 126, 127)):
        return skip(name, f"without a network {saw}")
    is_certain = status == 127 or "syntax error" in saw
    if status == 2 or "syntax error" in saw:
        cure = f"see the line:  {case.format_remote_command(name, f'cd {quote(case.get_workdir(name))} && bash -n {quote(script)}')}"
    elif "No such file" in saw:
        cure = f"copy the file there, or fix the line in {script}; if it activates an environment:  --venv DIR"
    else:
        cure = "install the missing program there, or use an environment that has it:  --venv DIR"
    return (fail if is_certain else warn)(name, saw, cure)


def _skip_unseen_calls(case: CheckContext, hosts: Iterable[str], else_: str) -> Iterator[CheckResult]:
    """Yield a skip for each host without a call of torchrun, with the same reason in every check."""
    for name in hosts:
        yield skip(name, _explain_missing_call(case, name) or else_)


def _explain_missing_call(case: CheckContext, name: str) -> str:
    """Return why the rehearsal saw no call of torchrun; "" if it saw one."""
    rehearsal = case.facts[name]["rehearsal"]
    if rehearsal["calls"]:
        return ""
    return f"{case.request.script} {'does' if rehearsal['status'] == 0 else 'did'} not call torchrun"


def _judge_passed_variables(case: CheckContext) -> Iterator[CheckResult]:
    """Yield failures for calls that do not form one group of all hosts, and warnings for other differences from the plan."""
    quiet = set(case.hosts)
    for name, rehearsal, seen in _iterate_torchrun_calls(case):
        quiet.discard(name)
        given = rehearsal["given"]
        wrong = list(_find_group_errors(case, seen, given)) if len(case.request.hosts) > 1 else []
        if wrong:
            yield fail(
                name,
                f"{case.request.script} calls torchrun with {', '.join(wrong)}",
                f"pass the exported variables to torchrun:  {_CALL}",
            )
            continue
        deviations = list(_find_deviations(case, seen, given))
        if deviations:
            yield warn(
                name,
                f"{case.request.script} {', '.join(deviations)}",
                f'pass the exported variables to torchrun:  {_CALL} "$@"',
            )
        else:
            yield ok(
                name,
                f"{case.request.script} passes NNODES={given['NNODES']}, MASTER_ADDR, MASTER_PORT and its rank to torchrun",
            )
    yield from _skip_unseen_calls(case, order_hosts(case, quiet), "it did not end")


def order_hosts(case: CheckContext, names: set[str]) -> tuple[str, ...]:
    return tuple(name for name in case.hosts if name in names)


def _find_group_errors(case: CheckContext, seen: TorchrunCall, given: Mapping[str, str]) -> Iterator[str]:
    if seen.nnodes != given["NNODES"]:
        how = "--standalone" if seen.is_standalone else f"--nnodes={seen.nnodes}"
        yield f"{how} where NNODES={given['NNODES']}"
    elif seen.is_static and seen.options["node_rank"] != given["NODE_RANK"]:
        yield f"--node-rank={seen.options['node_rank']} where NODE_RANK={given['NODE_RANK']}"
    address = seen.endpoint[0]
    if not seen.is_standalone and not _is_host_0(case, address, given["MASTER_ADDR"]):
        yield f"the rendezvous at {address} where MASTER_ADDR={given['MASTER_ADDR']}"


def _is_host_0(case: CheckContext, address: str, master: str) -> bool:
    """Return whether ``address`` is a name or address of host 0."""
    first = case.request.first_host
    plain = address.strip("[]")
    facts = case.facts.get(first.name, {})
    names = {master, first.name, first.hostname, first.addr, facts.get("identity", {}).get("hostname")}
    return plain in names or bool(
        find_interface([row for row in facts.get("interfaces", ()) if not row["loopback"]], plain)
    )


def _find_deviations(case: CheckContext, seen: TorchrunCall, given: Mapping[str, str]) -> Iterator[str]:
    port = seen.endpoint[1]
    if len(case.request.hosts) > 1 and port and port != given["MASTER_PORT"]:
        yield f"uses port {port} and ignores MASTER_PORT (the check tested {given['MASTER_PORT']})"
    count = seen.options["nproc_per_node"]
    if count.isdigit() and given.get("NPROC_PER_NODE", count) != count:
        yield f"starts {count} process{'es' * (count != '1')} where NPROC_PER_NODE={given['NPROC_PER_NODE']}"
    if seen.script and given["task"][0] not in (seen.script, *seen.words):
        yield f"starts {seen.script} instead of {given['task'][0]}"
    elif lost := [word for word in given["task"][1:] if word not in seen.words and " " not in word]:
        yield f"drops the argument{'s' * (len(lost) > 1)} {' '.join(lost[:3])}"


def _judge_status(case: CheckContext) -> Iterator[CheckResult]:
    quiet = set(case.hosts)
    for name, rehearsal, _ in _iterate_torchrun_calls(case):
        if rehearsal["status"] is None:
            continue
        quiet.discard(name)
        if rehearsal["status"] == 0:
            yield warn(
                name,
                f"{case.request.script} ends with status 0 although torchrun failed",
                "a failed run would look successful: make torchrun the last command, or end with its status (set -e, or "
                "exit $?)",
            )
        else:
            yield ok(name, "if torchrun fails, train.sh fails")
    yield from _skip_unseen_calls(case, order_hosts(case, quiet), "it did not end")


def _judge_python(case: CheckContext) -> Iterator[CheckResult]:
    """Yield notes if train.sh runs another Python than the software checks examined."""
    used = {
        name: rehearsal["calls"][-1]["python"]
        for name, rehearsal, _ in _iterate_torchrun_calls(case)
        if rehearsal["calls"][-1]["python"]
    }
    for deviations in find_outlier_groups(used):
        yield info(
            deviations.hosts, f"train.sh runs {deviations.format_difference()}", "use the same path on all hosts"
        )
    for name, python in used.items():
        checked_python = case.facts[name].get("software", {}).get("executable", "")
        if (
            checked_python
            and python.rpartition("/")[0] != checked_python.rpartition("/")[0]
            and len(set(used.values())) == 1
        ):
            yield info(
                name,
                f"train.sh activates its own environment: {python}; the checks of torch and packages used {checked_python}",
                f"make the checks use it:  --venv {python.rpartition('/bin/')[0]}",
            )
    yield from _skip_unseen_calls(
        case, order_hosts(case, set(case.hosts) - set(used)), "no python was seen in the rehearsal"
    )


def _judge_script_text(case: CheckContext) -> Iterator[CheckResult]:
    for name, files in case.get_section("files").items():
        script = files.get("script", {})
        mentions = set(script.get("mentions", ()))
        if script.get("kind") != "file":
            yield skip(name, "no train.sh")
        elif case.facts[name].get("rehearsal", {}).get("calls"):
            yield skip(name, "")
        elif not mentions & {"torchrun", "torch.distributed"}:
            rehearsed = "rehearsal" in case.facts[name]
            yield skip(
                name,
                _explain_missing_call(case, name) if rehearsed else f"{case.request.script} does not name torchrun",
            )
        elif len(case.request.hosts) > 1 and (lost := [word for word in _PASSED_ON if word not in mentions]):
            yield warn(
                name,
                f"{case.request.script} calls torchrun but never names {', '.join(lost)}",
                "each host may start a separate run: pass  --nnodes $NNODES --node-rank $NODE_RANK "
                "--master-addr $MASTER_ADDR --master-port $MASTER_PORT",
            )


def _get_missing_task_reason(request: CheckRequest) -> str:
    return "" if request.task else "no task given"


CHECKS = (
    Check(
        name="script-starts", group="rehearsal", worst="fail", needs=("rehearsal",), unless=_get_missing_task_reason,
        verifies="train.sh calls torchrun, in a rehearsal in a sandbox that changes nothing. No file or program that it needs is missing.",
        why="A missing program or a syntax error would otherwise show only after the whole set-up.",
        fix="Run bash -n train.sh, and install the program that the message names.",
        judge=_judge_starts,
    ),
    Check(
        name="passes-on", group="rehearsal", worst="fail", needs=("rehearsal",), unless=_get_missing_task_reason,
        verifies="train.sh passes NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT, NPROC_PER_NODE, the task and its arguments to torchrun.",
        why="With fixed values, train.sh starts a separate run on every host, or all hosts wait for a wrong one. Separate "
        "runs stay unnoticed until the results are poor.",
        fix="Pass the exported variables to torchrun.",
        judge=_judge_passed_variables,
    ),
    Check(
        name="exit-status", group="rehearsal", worst="warn", needs=("rehearsal",), unless=_get_missing_task_reason,
        verifies="If torchrun fails, train.sh fails (under bash -o pipefail, as fanout runs it).",
        why="A script that continues after torchrun, or ends in `|| true`, reports every failure as success.",
        fix="Add set -e at the top, or exit $? after torchrun.",
        judge=_judge_status,
    ),
    Check(
        name="script-python", group="rehearsal", worst="info", needs=("rehearsal",), unless=_get_missing_task_reason,
        verifies="train.sh runs the Python that the software checks examined, the same on every host.",
        why="If train.sh activates its own environment, these checks may examine the wrong one.",
        fix="Use --venv DIR for both.",
        judge=_judge_python,
    ),
    Check(
        name="script-reads", group="rehearsal", worst="warn", needs=("files",),
        verifies="If train.sh could not be rehearsed but calls torchrun, it names NNODES, NODE_RANK and MASTER_ADDR.",
        why="Otherwise it starts a separate run on every host, unnoticed until the results are poor.",
        fix="Pass these variables to torchrun.",
        judge=_judge_script_text,
    ),
)  # fmt: skip
