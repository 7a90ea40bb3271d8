"""Network interfaces: predict the interface that NCCL and gloo choose on each host, and whether all share a network. Pure.

Each library chooses on each host alone. NCCL takes the first interface that is neither loopback nor a container bridge.
gloo takes the address of the host's own name. If the choices do not share a network, fanout exports to all hosts the
interface by which they reached each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from ipaddress import ip_interface
from typing import Any

from fanout.checks.engine.comparison import find_differing_keys, find_outlier_groups, group_hosts_by_value
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
from fanout.checks.network.addresses import (
    find_interface,
    is_all_loopback,
    is_loopback,
    list_usable_addresses,
    parse_address,
)
from fanout.model.hosts import fold_names

_FEW, _SPOILT = 1000, 1e-4  # broken packets, number and share: fewer are no sign of a bad cable
GLOO, NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"


def find_addresses(case: CheckContext) -> dict[str, str]:
    """Return the address at which others reach each host: from the hostfile, else from its connection to host 0."""
    found: dict[str, str] = {}
    first, test = case.request.first_host.name, case.port
    loopback = is_all_loopback(case.request.connected_addresses, [host.name for host in case.request.reached_hosts])
    for name in case.hosts:
        given, connected = case.get_host(name).addr, case.request.connected_addresses.get(name, "")
        interfaces = case.facts[name].get("interfaces", ())
        sources = [dial for (host, _), dial in test.dials.items() if host == name] if test else []
        chosen = [dial for (host, to), dial in test.dials.items() if host == name and to == test.chosen] if test else []
        seen = next((dial["source"] for dial in [*chosen, *sources] if dial.get("source")), "")
        if given and parse_address(given):
            found[name] = given
        elif name == first and test and parse_address(test.chosen):
            found[name] = test.chosen
        elif loopback or (
            connected and not seen and not is_loopback(connected) and find_interface(interfaces, connected)
        ):
            found[name] = connected
        elif seen:
            found[name] = str(seen).removeprefix("::ffff:")
        else:
            found[name] = next(iter(list_usable_addresses(interfaces, case.facts[name].get("route", {}))), "")
    return {name: address for name, address in found.items() if address}


def find_interfaces(case: CheckContext) -> dict[str, str]:
    """Return host -> the interface that the hostfile names, else the interface that has the host's address."""
    found = {}
    for name, address in find_addresses(case).items():
        found[name] = case.get_host(name).iface or find_interface(case.facts[name].get("interfaces", ()), address)
    return {name: interface for name, interface in found.items() if interface}


# -- the choices of the libraries


def predict_nccl_interface(interfaces: Sequence[Mapping[str, Any]]) -> str:
    """Return the first interface of NCCL's search: ``ib*``, else any but docker, lo and virbr, else docker, else lo."""
    living = [row for row in interfaces if row["up"] and row["running"] and row["addresses"]]
    for accepts in (
        lambda name: name.startswith("ib"),
        lambda name: not name.startswith(("docker", "lo", "virbr")),
        lambda name: name.startswith("docker"),
        lambda name: name.startswith("lo"),
        lambda name: name.startswith("virbr"),
    ):
        for row in living:
            if accepts(str(row["name"])):
                return str(row["name"])
    return ""


def predict_gloo_interface(interfaces: Sequence[Mapping[str, Any]], own_name: Mapping[str, Any]) -> str:
    """Return the interface of the first address of the host's own name that the host has; ``lo`` if there is none."""
    for address in own_name["addresses"]:
        interface = find_interface(interfaces, address)
        if interface:
            return interface
    return "lo"


def _get_variable(case: CheckContext, name: str, variable: str) -> str:
    """Return the variable as train.sh sees it on that host, without the exports that fanout adds."""
    return _set_by_user(case, name, variable) or case.facts[name].get("environment", {}).get(variable, "")


def _set_by_user(case: CheckContext, name: str, variable: str) -> str:
    """Return the value from the hostfile or from --env; no finding may contain it."""
    return dict(case.get_host(name).env).get(variable) or case.request.env.get(variable) or ""


def _have_common_network(case: CheckContext, choices: Mapping[str, str]) -> bool:
    """Return whether the chosen interfaces share a network, have different addresses, and none is loopback."""
    networks = []
    seen: set[Any] = set()
    machines = {case.facts[name].get("identity", {}).get("host_id", name): name for name in choices}
    for name in machines.values():  # the check same-machine reports one machine under two names
        choice = choices[name]
        row = next((row for row in case.facts[name]["interfaces"] if row["name"] == choice), None)
        if row is None or row["loopback"]:
            return False
        here = [
            ip_interface(text) for text in row["addresses"] if not ip_interface(text.partition("%")[0]).is_link_local
        ]
        if seen & {address.ip for address in here}:
            return False
        seen |= {address.ip for address in here}
        networks.append({address.network for address in here})
    return bool(networks) and bool(set.intersection(*networks))


def predict_interfaces(case: CheckContext, variable: str) -> dict[str, str]:
    """Return host -> the interface that the library would choose without exports."""
    found = {}
    for name in case.hosts:
        facts = case.facts[name]
        if "interfaces" not in facts or "own_name" not in facts:
            continue
        if variable == NCCL:
            found[name] = predict_nccl_interface(facts["interfaces"])
        else:
            found[name] = predict_gloo_interface(facts["interfaces"], facts["own_name"])
    return found


def build_exports(case: CheckContext) -> dict[str, dict[str, str]]:
    """Return host -> variables to export so that all hosts share a network.

    It is empty if the libraries' own choices share a network or if the user set the variable.
    """
    result: dict[str, dict[str, str]] = {}
    here = find_interfaces(case)
    if len(case.request.hosts) == 1 or is_all_loopback(
        case.request.connected_addresses, [host.name for host in case.request.reached_hosts]
    ):
        return result
    for variable in (GLOO, NCCL):
        if any(_get_variable(case, name, variable) for name in case.hosts):
            continue
        own = predict_interfaces(case, variable)
        wished = any(case.get_host(name).iface for name in case.hosts)
        if own and (wished or not _have_common_network(case, own)) and set(here) >= set(own):
            for name in own:
                result.setdefault(name, {})[variable] = here[name]
    return result


# -- judges


def _judge_gloo(case: CheckContext) -> Iterator[CheckResult]:
    yield from _judge_library(case, GLOO, "gloo")


def _judge_nccl(case: CheckContext) -> Iterator[CheckResult]:
    lacking = tuple(name for name in case.hosts if "gpu" not in case.facts[name])
    if lacking:
        yield skip(lacking, "no GPU")
    if len(lacking) < len(case.hosts):
        yield from (verdict for verdict in _judge_library(case, NCCL, "NCCL") if not set(verdict.hosts) & set(lacking))


def _judge_library(case: CheckContext, variable: str, library: str) -> Iterator[CheckResult]:
    own, added = predict_interfaces(case, variable), build_exports(case)
    given = {name: value for name in case.hosts if (value := _get_variable(case, name, variable))}
    for name, value in given.items():
        names = [row["name"] for row in case.facts[name]["interfaces"]]
        shown = f"{variable} of the run" if _set_by_user(case, name, variable) else f"{variable}={value}"
        yield from _judge_user_value(name, variable, value, [str(name) for name in names], shown=shown)
    exported = {name: added[name][variable] for name in added if variable in added[name]}
    for interface, hosts in group_hosts_by_value(exported):
        alone = sorted({own[name] for name in hosts})
        why = (
            _describe_loopback_names(case, [name for name in hosts if own[name] != interface])
            if variable == GLOO
            else ""
        )
        yield info(hosts, f"{library} would use {' or '.join(alone)}; fanout exports {variable}={interface}{why}")
    loopback = is_all_loopback(case.request.connected_addresses, [host.name for host in case.request.reached_hosts])
    if not given and not exported and own and not loopback and not _have_common_network(case, own):
        taken = ", ".join(f"{choice} on {fold_names(hosts)}" for choice, hosts in group_hosts_by_value(own))
        yield warn(
            tuple(own),
            f"{library} would use {taken}, which may not reach each other",
            f"name the interface:  --env {variable}=NAME  or  iface=NAME in the hostfile",
        )


def _describe_loopback_names(case: CheckContext, names: Sequence[str]) -> str:
    """List the hosts whose own name resolves to loopback, as Debian's installer sets it up; "" if there are none."""
    bad = {name: case.facts[name]["own_name"]["addresses"][:1] for name in names}
    loopback = [name for name, found in bad.items() if found and is_loopback(found[0])]
    if not loopback:
        return ""
    return f" (/etc/hosts of {fold_names(loopback)} gives {'its' if len(loopback) == 1 else 'their'} own name the address {bad[loopback[0]][0]})"


def _judge_user_value(
    name: str, variable: str, value: str, names: Sequence[str], *, shown: str
) -> Iterator[CheckResult]:
    """Yield a verdict on the user's value. gloo takes interface names; NCCL takes prefixes, also with ``^`` and ``=``."""
    wanted = [part for part in value.lstrip("^=").split(",") if part]
    if variable == GLOO and value[:1] in ("^", "="):
        yield fail(
            name,
            f"{shown}: gloo accepts only names, not ^ and = as NCCL does",
            f"name the interface:  {variable}={names[-1]}",
        )
    elif value.startswith("^"):
        yield ok(name, shown)
    elif variable == GLOO and not set(wanted) <= set(names):
        yield fail(
            name,
            f"{shown}, but the host has no such interface: {' '.join(names)}",
            f"set it for this host only:  {name} env.{variable}=NAME",
        )
    elif not any(have.startswith(part) for part in wanted for have in names):
        yield fail(
            name,
            f"{shown} matches none of its interfaces: {' '.join(names)}",
            f"set it for this host only:  {name} env.{variable}=NAME",
        )
    else:
        yield ok(name, shown)


def _find_interface_rows(case: CheckContext) -> dict[str, Mapping[str, Any]]:
    """Return the row of the interface in use, by host."""
    return {
        name: row
        for name, interface in find_interfaces(case).items()
        for row in case.facts[name].get("interfaces", ())
        if row["name"] == interface
    }


def _judge_mtu(case: CheckContext) -> Iterator[CheckResult]:
    rows = _find_interface_rows(case)
    for odd in find_outlier_groups({name: row["mtu"] for name, row in rows.items() if not row["loopback"]}):
        first, device = odd.hosts[0], rows[odd.hosts[0]]["name"]
        yield warn(
            odd.hosts,
            f"{device} has mtu {odd.format_difference()}",
            f"small messages pass, and large ones hang if a switch drops them:  {case.format_remote_command(first, f'sudo ip link set {device} mtu {odd.usual}')}",
        )


def _judge_link_speed(case: CheckContext) -> Iterator[CheckResult]:
    rows = _find_interface_rows(case)
    speeds = {name: row["speed"] for name, row in rows.items() if row["speed"] > 0}
    for odd in find_outlier_groups(speeds):
        if odd.value < odd.usual:
            device = rows[odd.hosts[0]]["name"]
            yield warn(
                odd.hosts,
                f"{device} runs at {odd.format_difference('{} Mb/s'.format)}",
                _advise_cable(case, odd.hosts[0], device),
            )
    for name, row in rows.items():
        if row["duplex"] == "half":
            yield warn(name, f"{row['name']} runs at half duplex", _advise_cable(case, name, row["name"]))
        if row["bad"] > max(_FEW, _SPOILT * row["received"]):
            yield warn(
                name,
                f"{row['name']} received {row['bad']} broken packets of {row['received']} since boot",
                _advise_cable(case, name, row["name"]),
            )


def _advise_cable(case: CheckContext, name: str, device: str) -> str:
    return f"reseat the cable, then see  {case.format_remote_command(name, f'ethtool {device}')}   and  {case.format_remote_command(name, f'ip -s link show {device}')}"


def _judge_nccl_files(case: CheckContext) -> Iterator[CheckResult]:
    files = case.get_section("residue")
    if not case.get_section("gpu"):
        yield skip(files, "no GPU")
        return
    for odd in find_outlier_groups(files):
        path = find_differing_keys(odd.value, odd.usual)[0]
        yield warn(
            odd.hosts,
            f"{path}: {odd.format_difference(partial(_format_file_content, path))}",
            f"make them the same:  {case.format_remote_command(odd.hosts[0], f'cat {path}')}",
        )


def _format_file_content(path: str, files: Mapping[str, str]) -> str:
    return repr(files[path]) if path in files else "nothing"


CHECKS = (
    Check(
        name="gloo-interface", group="network", worst="fail", needs=("interfaces", "own_name"), unless=get_single_host_reason,
        verifies="The interfaces that gloo chooses on the hosts can reach each other.",
        why="gloo listens on the address of the host's own name. With Debian's 127.0.1.1 line in /etc/hosts no other host can "
        "reach that address, and some hosts wait 60 s for a “Connect timeout”.",
        fix="If fanout exports GLOO_SOCKET_IFNAME, do nothing. Otherwise name the interface with iface=NAME.",
        judge=_judge_gloo,
    ),
    Check(
        name="nccl-interface", group="network", worst="fail", needs=("interfaces", "own_name"), unless=get_single_host_reason,
        verifies="The interfaces that NCCL chooses on the hosts can reach each other.",
        why="NCCL uses the first interface that is up. If that is a container bridge or a VPN on one host, the start hangs.",
        fix="If fanout exports NCCL_SOCKET_IFNAME, do nothing. Otherwise name the interface with iface=NAME.",
        judge=_judge_nccl,
    ),
    Check(
        name="mtu", group="network", worst="warn", needs=("interfaces",), unless=get_single_host_reason,
        verifies="The interfaces in use have the same MTU.",
        why="If the MTUs differ, small messages pass and the first large one hangs.",
        fix="Run ip link set dev IFACE mtu N.",
        judge=_judge_mtu,
    ),
    Check(
        name="link-speed", group="network", worst="warn", needs=("interfaces",), unless=get_single_host_reason,
        verifies="No host's link is slower than those of the others, runs at half duplex, or corrupts more than one packet in "
        "10,000.",
        why="A cable that negotiated 100 Mb/s slows every step of every host.",
        fix="Reseat or replace the cable.",
        judge=_judge_link_speed,
    ),
    Check(
        name="nccl-files", group="network", worst="warn", needs=("residue",), unless=get_single_host_reason,
        verifies="/etc/nccl.conf and ~/.nccl.conf have the same content on all hosts.",
        why="NCCL reads them first, and they are easily forgotten.",
        fix="Make them equal, or remove them.",
        judge=_judge_nccl_files,
    ),
)  # fmt: skip
