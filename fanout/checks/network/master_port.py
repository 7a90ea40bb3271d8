"""Network checks before the mesh: MASTER_PORT on host 0, its reachability from all hosts, and name lookups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Any

from fanout.checks.engine.definition import (
    Check,
    CheckContext,
    CheckResult,
    fail,
    get_single_host_reason,
    info,
    ok,
    skip,
    warn,
)
from fanout.checks.network import dial_outcomes
from fanout.checks.network.addresses import find_interface, list_usable_addresses, parse_address
from fanout.checks.system import live_runs, services
from fanout.text.parse_ranges import parse_ranges
from fanout.text.units import format_duration

_SLOW_NAME = 0.5


def _judge_master_port(case: CheckContext) -> Iterator[CheckResult]:
    first = case.request.first_host.name
    test = case.port
    ours = live_runs.find_port_holders(case, test.port if test else case.request.master_port)
    for run, names in ours.items():
        yield fail(
            names,
            f"port {case.request.master_port} is held by your run {run}, which is still running",
            f"choose another port:  --master-port {_find_free_port(case)}   or stop that run:  {case.commands.build_fanout_command('stop', run)}",
        )
    others = live_runs.find_others_on_port(case, case.request.master_port)
    for holder, names in others.items():
        held = f"port {case.request.master_port} is held by {holder}"
        yield fail(names, held, f"choose another port:  --master-port {_find_free_port(case)}")
    reported = {name for names in (*ours.values(), *others.values()) for name in names}
    yield skip([name for name in case.hosts if name != first and name not in reported], "")
    if first in reported or first not in case.hosts:
        return
    if test is None or test.unasked:
        yield skip(first, test.unasked if test else "not asked")
    elif test.problem:
        yield fail(first, _describe_port_holder(test.port, test.problem), _advise_port(case, first, test.problem))
    elif case.request.default_port_holder:
        yield info(
            first, f"{case.request.default_port_holder} holds the default port; a run uses MASTER_PORT {test.port}"
        )
    else:
        yield ok(first, f"port {test.port} free on {first}")


def _find_free_port(case: CheckContext) -> int:
    """Return a port that no process holds on host 0 and no run holds on any host."""
    runs = [run for facts in case.facts.values() for run in (*facts.get("runs", ()), *facts.get("other_runs", ()))]
    claimed = {claim for run in runs for claim in run["claims"]}
    port = (case.port.problem.get("free") if case.port else 0) or case.request.master_port + 11
    while f"port-{port}" in claimed:
        port += 1
    return int(port)


def _describe_port_holder(port: int, problem: Mapping[str, Any]) -> str:
    """Return what is known as ``port 29500 is held by pid 4711  python train.py  (user ann, since 2 h 5 min)``."""
    holder = problem.get("holder") or {}
    if problem["error"] != "EADDRINUSE":
        return f"port {port} cannot be bound: {problem.get('text') or problem['error']}"
    if not holder:
        return f"port {port} is in use by a process that this user cannot see"
    since = format_duration(holder["age"]) if holder.get("age") is not None else ""
    who = f"user {holder['user']}" + (f", since {since}" if since else "")
    what = "" if holder.get("listening", True) else " as the local port of an outgoing connection"
    if "pid" in holder:
        return f"port {port} is held{what} by pid {holder['pid']}  {holder['command']}  ({who})"
    return f"port {port} is held{what} by a process of {who}"


def _advise_port(case: CheckContext, host: str, problem: Mapping[str, Any]) -> str:
    if problem["error"] == "EACCES":
        return "ports below 1024 need root: choose another with  --master-port 29500"
    holder = problem.get("holder") or {}
    command = (
        f"see what it is:  {case.format_remote_command(host, 'ps -fp ' + str(holder['pid']))}   or "
        if "pid" in holder
        else ""
    )
    return f"{command}choose another port with  --master-port {_find_free_port(case)}"


def _judge_master_addr(case: CheckContext) -> Iterator[CheckResult]:
    first, test = case.request.first_host.name, case.port
    yield skip(tuple({first} & set(case.hosts)), "")
    workers = tuple(name for name in case.hosts if name != first)
    if test is None or test.unasked or test.problem:
        why = (
            "not asked"
            if test is None
            else test.unasked or f"port {test.port} of {first} could not be opened for the test"
        )
        yield skip(workers, why)
        return
    if not test.candidates:
        yield fail(
            first, "it has no address that another host can reach", f"name one:  {first} addr=ADDRESS  in the hostfile"
        )
        yield skip(workers, f"{first} has no address to connect to")
        return
    target = test.chosen or find_best_candidate(case)
    for name in workers:
        dial = test.dials.get((name, target), {"outcome": "unknown", "text": "no answer"})
        if dial["outcome"] == "ok":
            yield ok(name, f"reaches {first} at {target}:{test.port} in {1000 * dial.get('connect', 0):.1f} ms")
            passed_over = test.candidates[: test.candidates.index(target)]
            for address in passed_over:
                yield from _note_skipped_address(case, name, address, target)
        elif misnamed := _judge_name_resolution(case, name, target):
            yield misnamed
        else:
            where = f"{first} at {target}:{test.port}"
            source = dial.get("source") or case.request.connected_addresses.get(name) or name
            opens = services.build_firewall_commands(case.facts.get(first, {}), target, source, str(test.port))
            cure = dial_outcomes.build_advice(case, dial, host=first, other=name, opens=opens)
            others = any(test.dials.get((other, target), {}).get("outcome") == "ok" for other in workers)
            if others and dial["outcome"] in ("dropped", "rejected", "refused"):
                cure = (
                    f"{dial_outcomes.build_own_side_advice(case, name, first, str(dial.get('peer', '')))}   or {cure}"
                )
            yield fail(name, dial_outcomes.describe_outcome(dial, where), cure + _hint_reachable_address(case, name))


def _judge_name_resolution(case: CheckContext, name: str, target: str) -> CheckResult | None:
    """Return the failure if this host resolves the name of host 0 to another machine; None if it does not."""
    assert case.port is not None
    first = case.request.first_host.name
    peer = str(case.port.dials.get((name, target), {}).get("peer", ""))
    rows = case.facts.get(first, {}).get("interfaces", ())
    if parse_address(target) or not parse_address(peer) or not rows or find_interface(rows, peer):
        return None
    command = case.format_remote_command(name, f"getent ahosts {quote(target)}; grep -n {quote(target)} /etc/hosts")
    return fail(
        name,
        f"{target} resolves to {peer} on this host, which is no address of {first}",
        f"correct the name on that host:  {command}   or name an address of {first} with  --master-addr ADDRESS",
    )


def _note_skipped_address(case: CheckContext, name: str, address: str, target: str) -> Iterator[CheckResult]:
    """Yield a note for a better address that was not chosen because this worker did not reach it."""
    assert case.port is not None
    dial = case.port.dials.get((name, address), {"outcome": "unknown"})
    if dial["outcome"] != "ok":
        yield info(
            name,
            f"does not reach {case.request.first_host.name} at {address} ({dial['outcome']}): MASTER_ADDR is {target}",
        )


def find_best_candidate(case: CheckContext) -> str:
    """Return the candidate that most hosts reach, which is reported if no candidate is reached by all."""
    assert case.port is not None
    reached = {
        address: sum(dial["outcome"] == "ok" for (_, dialled), dial in case.port.dials.items() if dialled == address)
        for address in case.port.candidates
    }
    return max(reached, key=lambda address: reached[address])


def _hint_reachable_address(case: CheckContext, name: str) -> str:
    """Return a hint about another address of host 0 that this worker reaches; "" if there is none."""
    assert case.port is not None
    works = [to for (host, to), dial in case.port.dials.items() if host == name and dial["outcome"] == "ok"]
    return f"   (it does reach {works[0]}:  addr={works[0]} in the hostfile)" if works else ""


def _judge_port_range(case: CheckContext) -> Iterator[CheckResult]:
    first, port = case.request.first_host.name, case.request.master_port
    ranges = case.get_section("ports").get(first)
    if ranges and ranges["low"] <= port <= ranges["high"] and not _is_reserved_port(ranges["reserved"], port):
        yield warn(
            first,
            f"port {port} is in the kernel's range for outgoing connections ({ranges['low']}-{ranges['high']})",
            f"in rare cases it is in use at the start: choose a port below, for instance  --master-port {min(29500, ranges['low'] - 1)}",
        )


def _is_reserved_port(text: str, port: int) -> bool:
    return any(port in part for part in parse_ranges(text) or ())


def _judge_proxy(case: CheckContext) -> Iterator[CheckResult]:
    for name, environment in case.get_section("environment").items():
        proxies = [key for key in environment if key.lower() in ("http_proxy", "https_proxy")]
        if proxies and not any(key.lower() == "no_proxy" for key in environment):
            yield info(
                name,
                f"{' '.join(proxies)} without no_proxy",
                "downloads from hosts of the lab also go through the proxy",
            )


def _judge_reverse_names(case: CheckContext) -> Iterator[CheckResult]:
    for name in case.hosts:
        why = case.missing.get(name, {}).get("reverse", "")
        rows = case.facts[name].get("reverse", [])
        slow = [row for row in rows if row["seconds"] > _SLOW_NAME]
        if slow or case.is_late(name, "reverse"):
            took = f"{slow[0]['seconds']:.1f} s for {slow[0]['address']}" if slow else why
            yield warn(
                name,
                f"the reverse lookup of another host's address is slow: {took}",
                f"torch makes this lookup for each connection: add all hosts to /etc/hosts there, or fix the name server of {name}",
            )
        elif why or not rows:
            yield skip(name, why or "no address of another host is known")


def _judge_own_name(case: CheckContext) -> Iterator[CheckResult]:
    for name, found in case.get_section("own_name").items():
        facts = case.facts[name]
        own = facts.get("identity", {}).get("hostname") or name
        address = next(iter(list_usable_addresses(facts.get("interfaces", ()), facts.get("route", {}))), "127.0.1.1")
        repair = f"add it to /etc/hosts there:  {case.format_remote_command(name, f'echo {address} {own} | sudo tee -a /etc/hosts')}"
        if found["error"] or not found["addresses"]:
            yield warn(name, f"its own name {own} does not resolve: {found['error'] or 'no address'}", repair)
        elif found["seconds"] > _SLOW_NAME:
            yield warn(name, f"resolving its own name {own} took {found['seconds']:.1f} s", repair)
        else:
            yield ok(name, f"{own} resolves to {found['addresses'][0]}")


CHECKS = (
    Check(
        name="master-port", group="network", worst="fail",
        verifies="MASTER_PORT on host 0 can be bound the way torch binds it (the wildcard address, both families).",
        why="torchrun on host 0 opens its store on this port. If the port is in use, the run ends with EADDRINUSE, or workers "
        "connect to another program.",
        fix="Stop the process that the finding names, or choose another port with --master-port.",
        judge=_judge_master_port,
    ),
    Check(
        name="master-addr", group="network", worst="fail", unless=get_single_host_reason,
        verifies="Every other host reaches MASTER_ADDR:MASTER_PORT, and host 0 answers there (verified by a secret).",
        why="A worker that cannot reach it retries for 15 minutes without a message. The final message is the same for a "
        "firewall, a wrong route and a wrong name.",
        fix="Open the port on host 0 for the other hosts, or name another address of it: HOST addr=ADDRESS.",
        judge=_judge_master_addr,
    ),
    Check(
        name="port-range", group="network", worst="warn", needs=("ports",),
        verifies="MASTER_PORT is outside the range from which the kernel takes ports for outgoing connections.",
        why="Inside this range, any connection of host 0 may hold the port when the run starts.",
        fix="Choose a port below the range, such as the default 29500.",
        judge=_judge_port_range,
    ),
    Check(
        name="reverse-names", group="network", worst="warn", unless=get_single_host_reason,
        verifies="A reverse lookup of another host's address is answered within half a second, with or without a name.",
        why="torch makes this lookup for every connection. If the name server does not answer, the start takes minutes longer.",
        fix="Add all hosts to /etc/hosts on every host, or fix the name server.",
        judge=_judge_reverse_names,
    ),
    Check(
        name="own-name", group="network", worst="warn", needs=("own_name",),
        verifies="The host resolves its own name within half a second.",
        why="Many programs connect to their own machine by its name. The workers of torchrun --standalone wait 15 minutes "
        "for it (fanout exports PET_LOCAL_ADDR, which torch 2.4 ignores); a c10d rendezvous ends with socket.gaierror.",
        fix="Add the name and an address of the host to /etc/hosts on that host.",
        judge=_judge_own_name,
    ),
    Check(
        name="proxy", group="network", worst="info", needs=("environment",),
        verifies="Hosts with an HTTP proxy in their environment also have no_proxy.",
        why="Otherwise libraries that download from a server in the lab use the proxy, and hang.",
        fix="Set no_proxy to the networks of the lab.",
        judge=_judge_proxy,
    ),
)  # fmt: skip
