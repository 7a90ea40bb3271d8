"""Verdicts on launcher calls: do the calls of all hosts form one group, with the plan's port, processes and task? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.engine.comparison import find_outlier_groups
from fanout.checks.engine.definition import CheckContext, CheckResult, fail, ok, warn
from fanout.checks.gpu.accelerators import count_gpus
from fanout.checks.network.addresses import find_interface
from fanout.checks.rehearsal.launcher_command import (
    LauncherCall,
    explain_single_host,
    parse_launcher_call,
    starts_all_hosts,
)
from fanout.model.frozen import frozen
from fanout.model.task_words import get_arguments, get_program


@frozen
class RecordedCall:
    """The last call of a launcher on one host: the recorded call, its options, and the rehearsal."""

    host: str
    recorded: Mapping[str, Any]
    seen: LauncherCall
    rehearsal: Mapping[str, Any]

    @property
    def given(self) -> Mapping[str, Any]:
        given: Mapping[str, Any] = self.rehearsal["given"]
        return given

    @property
    def program(self) -> str:
        return self.seen.launcher.program

    @property
    def last_program(self) -> str:
        """Return what train.sh called last: the launcher, or after ``ray start`` the task itself."""
        last = str(self.rehearsal["calls"][-1]["program"])
        return "the task" if last == "task" else last

    @property
    def advice(self) -> str:
        return f"pass the exported variables:  {self.seen.launcher.example}"

    @property
    def lists_hosts(self) -> bool:
        """Return whether the call names hosts to which the launcher logs in."""
        return "hosts" in self.seen.options or bool(self.recorded.get("file", {}).get("lines"))


def list_launcher_calls(case: CheckContext) -> list[RecordedCall]:
    """Return the last call of a launcher for each host whose train.sh called one."""
    found = []
    for name, rehearsal in case.get_section("rehearsal").items():
        for recorded in reversed(rehearsal["calls"]):
            seen = parse_launcher_call(recorded)
            if seen is not None:
                found.append(RecordedCall(host=name, recorded=recorded, seen=seen, rehearsal=rehearsal))
                break
    return found


def judge_group(case: CheckContext) -> Iterator[CheckResult]:
    """Yield failures for calls that do not form one group of all hosts, and warnings for other differences from the plan."""
    calls = list_launcher_calls(case)
    script, many = case.request.script, len(case.request.hosts) > 1
    differing = _find_differing_rendezvous(calls) if many else {}
    for call in calls:
        does_all = call.seen.launcher.reach == "all" and "no_ssh" not in call.seen.options
        if many and (does_all or starts_all_hosts(call.seen)):
            yield _judge_call_for_all(case, call, len(calls))
            continue
        if many and call.seen.launcher.reach == "cluster":
            yield _judge_ray(case, call, calls)
            continue
        wrong = list(_find_group_errors(case, call)) if many else []
        wrong += differing.get(call.host, []) if not wrong else []
        deviations = list(_find_deviations(case, call))
        if wrong:
            yield fail(call.host, f"{script} calls {call.program} with {', '.join(wrong)}", call.advice)
        elif deviations:
            yield warn(call.host, f"{script} {', '.join(deviations)}", f'{call.advice} "$@"')
        else:
            values = f"NNODES={call.given['NNODES']}, MASTER_ADDR, MASTER_PORT and its rank"
            yield ok(call.host, f"{script} passes {values} to {call.program}")


def _judge_call_for_all(case: CheckContext, call: RecordedCall, count: int) -> CheckResult:
    """Return the verdict on a launcher that starts the ranks of all hosts by itself."""
    script = f"{case.request.script} calls {call.program}"
    use = f"start the ranks of one host in {case.request.script}:  {call.seen.launcher.example}"
    file = call.recorded.get("file", {})
    if file.get("error"):
        flag = call.seen.launcher.spell_option("file")
        return fail(call.host, f"{script} with {flag} {file['path']}, which does not exist", use)
    if not call.lists_hosts and call.seen.launcher.without_hosts:
        saw = f"{script} {call.seen.launcher.without_hosts}"
        is_sure = call.seen.launcher.rules != "mpirun"  # such a task may itself compute its rank from NODE_RANK
        return (fail if is_sure else warn)(call.host, saw, use)
    if count > 1:
        return fail(
            call.host,
            f"{script} on {count} hosts: each call starts the ranks of all hosts again, by its own login",
            use,
        )
    saw = f"{script}, which starts ranks on other hosts by its own login: fanout neither shows nor stops them"
    return warn(call.host, saw, use)


def _judge_ray(case: CheckContext, call: RecordedCall, calls: list[RecordedCall]) -> CheckResult:
    """Return the verdict on ``ray start``: one head on host 0, all others join it, and the script waits for it."""
    script, options = case.request.script, call.seen.options
    heads = [one.host for one in calls if "head" in one.seen.options]
    if "head" in options and len(heads) > 1:
        return fail(
            call.host,
            f"{script} starts a Ray head on {len(heads)} hosts: each host is a cluster of its own",
            call.advice,
        )
    address = call.seen.endpoint[0]
    if "head" not in options and not _is_host_0(case, address, call.given["MASTER_ADDR"]):
        saw = f"{script} calls ray start with {call.seen.spell_value('rdzv_endpoint')}"
        return fail(call.host, f"{saw} where MASTER_ADDR={call.given['MASTER_ADDR']}", call.advice)
    if "block" not in options and call.rehearsal["calls"][-1] is call.recorded:
        saw = f"{script} ends after ray start, and fanout then ends the Ray processes of this host"
        return warn(call.host, saw, "let the script wait for Ray:  ray start --block")
    return ok(call.host, f"{script} starts Ray for one cluster at {call.given['MASTER_ADDR']}")


def _find_differing_rendezvous(calls: list[RecordedCall]) -> dict[str, list[str]]:
    """Return for each host the values of the rendezvous that differ from those of the other hosts."""
    found: dict[str, list[str]] = {}
    for name in ("rdzv_backend", "rdzv_id", "master_port"):
        values = {}
        for call in calls:
            value = call.seen.endpoint[1] if name == "master_port" else call.seen.options.get(name, "")
            if call.seen.launcher.reach == "host" and not (name == "rdzv_id" and call.seen.is_static):
                values[call.host] = value
        flags = {call.host: call.seen.launcher.spell_option(name) for call in calls}
        for group in find_outlier_groups(values):
            for host in group.hosts:
                text = f"{flags[host]} {group.value or '(none)'} where the other hosts have {group.usual or '(none)'}"
                found.setdefault(host, []).append(text)
    return found


def _find_group_errors(case: CheckContext, call: RecordedCall) -> Iterator[str]:
    seen, given = call.seen, call.given
    if call.recorded.get("file", {}).get("error"):
        yield f"{seen.launcher.spell_option('file')} {call.recorded['file']['path']}, which does not exist"
        return
    hosts = str(call.recorded.get("file", {}).get("lines") or "")
    by_file = seen.launcher.reach == "all" and bool(hosts)
    if (hosts if by_file else seen.nnodes) != given["NNODES"]:
        how = f"a hostfile of {hosts} hosts" if by_file else seen.spell_value("nnodes")
        yield f"{'--standalone' if seen.is_standalone else how} where NNODES={given['NNODES']}"
    elif seen.is_static and seen.options.get("node_rank") != given["NODE_RANK"]:
        yield f"{seen.spell_value('node_rank')} where NODE_RANK={given['NODE_RANK']}"
    elif alone := explain_single_host(seen, count_gpus(case.facts[call.host])):
        yield alone
    address = seen.endpoint[0]
    if not seen.is_standalone and not _is_host_0(case, address, given["MASTER_ADDR"]):
        place = f"the rendezvous at {address}" if address else seen.spell_value("master_addr")
        yield f"{place} where MASTER_ADDR={given['MASTER_ADDR']}"


def _is_host_0(case: CheckContext, address: str, master: str) -> bool:
    """Return whether ``address`` is a name or address of host 0."""
    first = case.request.first_host
    plain = address.strip("[]")
    facts = case.facts.get(first.name, {})
    names = {master, first.name, first.hostname, first.addr, facts.get("identity", {}).get("hostname")}
    return plain in names or bool(
        find_interface([row for row in facts.get("interfaces", ()) if not row["loopback"]], plain)
    )


def _find_deviations(case: CheckContext, call: RecordedCall) -> Iterator[str]:
    seen, given = call.seen, call.given
    port = seen.endpoint[1]
    if len(case.request.hosts) > 1 and port and port != given["MASTER_PORT"]:
        yield f"uses port {port} and ignores MASTER_PORT (the check tested {given['MASTER_PORT']})"
    count = seen.nproc_per_node
    if count.isdigit() and given.get("NPROC_PER_NODE", count) != count:
        yield f"starts {count} process{'es' * (count != '1')} where NPROC_PER_NODE={given['NPROC_PER_NODE']}"
    elif (
        not count and seen.launcher.rules == "accelerate" and len(case.request.hosts) > 1 and not seen.has_built_in_file
    ):
        yield f"calls {call.program} with no {seen.launcher.spell_option('nproc')}: it divides the GPUs of one host by NNODES"
    if seen.script and get_program(given["task"]) not in (seen.script, *seen.words):
        yield f"starts {seen.script} instead of {get_program(given['task'])}"
    elif lost := [word for word in get_arguments(given["task"]) if word not in seen.words and " " not in word]:
        yield f"drops the argument{'s' * (len(lost) > 1)} {' '.join(lost[:3])}"
