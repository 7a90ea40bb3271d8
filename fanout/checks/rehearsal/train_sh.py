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
from fanout.checks.rehearsal.launcher_command import parse_launcher_call
from fanout.checks.rehearsal.plain_ranks import judge_plain_tasks
from fanout.checks.rehearsal.process_group import judge_group, list_launcher_calls
from fanout.text.table import cut_text

_OFFLINE = re.compile(
    r"(?i)resolv|network is unreachable|connection (?:refused|timed out|error)|no route to host|name or service not known"
    r"|temporary failure|cannot connect|could not connect|unable to access|read-only file system|operation not permitted"
)
_HIDDEN = re.compile(r"(?: |^|')(?:/run|/var/run|/dev/shm)/")  # empty in the sandbox
_PASSED_ON = ("NNODES", "NODE_RANK", "MASTER_ADDR")
_FILE_ERROR = re.compile(
    r"No such file or directory|can't open file|ModuleNotFoundError: |ImportError: |FileNotFoundError: |NotADirectoryError: "
)
_ACTIVATION = re.compile(
    r"\b(?:conda|mamba|micromamba|module|ml|pyenv|workon): (?:command )?not found|Run 'conda init'"
)
_ACTIVATE = (
    "a login without a terminal has no such function: name the environment with  --venv DIR, or read its file first:  "
    "source DIR/etc/profile.d/conda.sh"
)


def _judge_starts(case: CheckContext) -> Iterator[CheckResult]:
    for name, rehearsal in case.get_section("rehearsal").items():
        if not rehearsal["calls"]:
            yield _judge_missing_call(case, name, rehearsal)
            continue
        program = rehearsal["calls"][-1]["program"]
        by = f" by {rehearsal['calls'][-1]['python']}" if rehearsal["calls"][-1]["python"] else ""
        errors = rehearsal.get("errors", ())
        if activation := next((error for error in errors if _ACTIVATION.search(error)), ""):
            yield warn(name, f"{case.request.script} does not activate its environment: {activation}", _ACTIVATE)
        elif errors:
            yield info(
                name,
                f"{case.request.script} continues after an error: {errors[0]}",
                "add  set -e  at its top to stop there",
            )
        else:
            does = "the task without torchrun" if program == "task" else program
            yield ok(name, f"{case.request.script} starts {does}{by}")


def _join_last_lines(text: str, columns: int = 160) -> str:
    """Return the last lines of an output that fit into ``columns`` as one line, and at least the beginning of the last one."""
    joined = ""
    for line in reversed([" ".join(line.split()) for line in text.splitlines() if line.strip()]):
        longer = f"{line} {joined}".rstrip()
        if joined and len(longer) > columns:
            break
        joined = cut_text(longer, columns)
    return joined


def _judge_missing_call(case: CheckContext, name: str, rehearsal: Mapping[str, Any]) -> CheckResult:
    """Return the verdict for a script that did not call torchrun: an error of its own, or no network in the sandbox."""
    script, status = case.request.script, rehearsal["status"]
    words = _join_last_lines(rehearsal["words"])
    errors = rehearsal.get("errors", ())
    offline = _OFFLINE.search(rehearsal["words"])
    if status is None:
        return skip(name, _explain_missing_call(case, name), "unseen-call")
    if not status:
        return skip(name, _explain_missing_call(case, name), "unseen-call")
    saw = f"{script} ends with status {status} before it calls torchrun: {errors[0] if errors else words or '(it prints nothing)'}"
    lacks_file = _FILE_ERROR.search(rehearsal["words"]) and not _HIDDEN.search(rehearsal["words"])
    if offline or not (errors or lacks_file or status in (2, 126, 127)):
        where = "without a network" if offline else "in the sandbox"
        return skip(name, f"{where} {saw}", "unseen-call")
    is_certain = status == 127 or "syntax error" in saw
    if _ACTIVATION.search(saw):
        cure = _ACTIVATE
    elif lacks_module := re.search(r"(?:ModuleNotFound|Import)Error: .*", rehearsal["words"]):
        saw = f"{script} ends with status {status} before it calls torchrun: {lacks_module[0][:160]}"
        cure = "install the module there, or use an environment that has it:  --venv DIR"
    elif (status == 2 and "can't open file" not in saw) or "syntax error" in saw:
        cure = f"see the line:  {case.format_remote_command(name, f'cd {quote(case.get_workdir(name))} && bash -n {quote(script)}')}"
    elif lacks_file or "No such file" in saw:
        cure = f"copy the file there, or fix the line in {script}; if it activates an environment:  --venv DIR"
    else:
        cure = "install the missing program there, or use an environment that has it:  --venv DIR"
    return (fail if is_certain else warn)(name, saw, cure)


def _skip_unseen_calls(case: CheckContext, hosts: Iterable[str]) -> Iterator[CheckResult]:
    """Yield a skip for each host without a call of a launcher, with the same reason in every check."""
    for name in hosts:
        yield skip(name, _explain_missing_call(case, name))


def _explain_missing_call(case: CheckContext, name: str) -> str:
    """Return why the rehearsal saw no ranks started by a launcher: what the script did instead."""
    rehearsal, script = case.facts[name].get("rehearsal"), case.request.script
    if rehearsal is None:
        return case.missing.get(name, {}).get("rehearsal", f"{script} was not rehearsed")
    if rehearsal["status"] is None and not rehearsal["calls"]:
        limit = f"the rehearsal was stopped after {rehearsal['seconds']:.0f} s, before {script} called a launcher"
        return limit + _describe_program(rehearsal, " while {} ran{}")
    if not rehearsal["calls"]:
        saw = f"{script} {'does' if rehearsal['status'] == 0 else 'did'} not call torchrun or another launcher"
        return saw + _describe_program(rehearsal, "; it starts {}, which fanout does not know as a launcher{}")
    last = rehearsal["calls"][-1]
    if last["program"] == "task":
        return f"{script} starts the task without a launcher"
    if parse_launcher_call(last) is not None:
        return f"the Python of {last['program']} is not known"
    return f"{script} calls {last['program']}, which starts no ranks in this form"


def _describe_program(rehearsal: Mapping[str, Any], text: str) -> str:
    """Return what is known of the last Python program that the script started: its name, and whether it names the group."""
    programs = rehearsal.get("programs", ())
    if not programs:
        return ""
    name, marks = programs[-1]["name"], programs[-1]["marks"]
    short = name.rpartition("/")[2]
    return text.format(short, f" ({short} names {', '.join(marks[:3])})" if marks else "")


def _judge_passed_variables(case: CheckContext) -> Iterator[CheckResult]:
    yield from judge_group(case)
    called = {call.host for call in list_launcher_calls(case)}
    plain = list(judge_plain_tasks(case))
    yield from (found for found in plain if not called.intersection(found.hosts))
    for name in order_hosts(case, set(case.hosts) - called - {host for found in plain for host in found.hosts}):
        yield _judge_quiet_host(case, name)


def _judge_quiet_host(case: CheckContext, name: str) -> CheckResult:
    """Return the verdict on a host whose train.sh called no launcher."""
    rehearsal, script = case.facts[name].get("rehearsal", {}), case.request.script
    others = [call for call in list_launcher_calls(case) if call.seen.launcher.reach == "host"]
    if others and not rehearsal.get("calls") and rehearsal.get("status") == 0:
        saw = f"{script} ends without a call of {others[0].program} here, but calls it on {others[0].host}"
        return warn(name, saw, f"call it on every host:  {others[0].seen.launcher.example}")
    return skip(name, _explain_missing_call(case, name))


def order_hosts(case: CheckContext, names: set[str]) -> tuple[str, ...]:
    return tuple(name for name in case.hosts if name in names)


def _judge_status(case: CheckContext) -> Iterator[CheckResult]:
    quiet = set(case.hosts)
    for call in list_launcher_calls(case):
        quiet.discard(call.host)
        if call.rehearsal["status"] is None:
            yield skip(call.host, f"the rehearsal was stopped after {call.rehearsal['seconds']:.0f} s")
        elif call.rehearsal["status"] == 0:
            yield warn(
                call.host,
                f"{case.request.script} ends with status 0 although {call.last_program} failed",
                f"a failed run would look successful: make {call.last_program} the last command, or end with its status "
                "(set -e, or exit $?)",
            )
        else:
            yield ok(call.host, f"if {call.last_program} fails, train.sh fails")
    yield from _skip_unseen_calls(case, order_hosts(case, quiet))


def _judge_python(case: CheckContext) -> Iterator[CheckResult]:
    """Yield notes if train.sh runs another Python than the software checks examined."""
    used = {call.host: call.recorded["python"] for call in list_launcher_calls(case) if call.recorded["python"]}
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
    yield from _skip_unseen_calls(case, order_hosts(case, set(case.hosts) - set(used)))


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
    return "" if request.has_task else "no task given"


CHECKS = (
    Check(
        name="script-starts", group="rehearsal", worst="fail", needs=("rehearsal",), unless=_get_missing_task_reason,
        verifies="train.sh calls torchrun or another launcher, in a rehearsal in a sandbox that changes nothing. No file or program that it needs is missing.",
        why="A missing program or a syntax error would otherwise show only after the whole set-up.",
        fix="Run bash -n train.sh, and install the program that the message names.",
        judge=_judge_starts,
    ),
    Check(
        name="passes-on", group="rehearsal", worst="fail", needs=("rehearsal",), unless=_get_missing_task_reason,
        verifies="train.sh passes NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT, NPROC_PER_NODE, the task and its arguments to torchrun or "
        "another launcher: accelerate, trl, axolotl, tune, swift, composer, fabric, deepspeed, llamafactory-cli, mpirun, horovodrun, srun, "
        "colossalai, ray. If it starts the task itself, it passes RANK and WORLD_SIZE.",
        why="With fixed values, train.sh starts a separate run on every host, or all hosts wait for a wrong one. Separate "
        "runs stay unnoticed until the results are poor.",
        fix="Pass the exported variables to the launcher.",
        judge=_judge_passed_variables,
    ),
    Check(
        name="exit-status", group="rehearsal", worst="warn", needs=("rehearsal",), unless=_get_missing_task_reason,
        verifies="If the launcher fails, train.sh fails (under bash -o pipefail, as fanout runs it).",
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
