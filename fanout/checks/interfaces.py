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

from fanout.checks.addresses import all_loopback, interface_of, is_loopback, parsed, usable
from fanout.checks.compare import differing, grouped, outliers
from fanout.checks.model import Case, Check, Verdict, alone, fail, info, ok, skip, warn
from fanout.hosts import fold

_FEW, _SPOILT = 1000, 1e-4  # broken packets, number and share: fewer are no sign of a bad cable
GLOO, NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"


def addresses(case: Case) -> dict[str, str]:
    """Return the address at which others reach each host: from the hostfile, else from its connection to host 0."""
    found: dict[str, str] = {}
    first, test = case.request.first.name, case.port
    loopback = all_loopback(case.request.dialled, [host.name for host in case.request.reached])
    for name in case.hosts:
        said, dialled = case.host(name).addr, case.request.dialled.get(name, "")
        interfaces = case.facts[name].get("interfaces", ())
        sources = [dial for (host, _), dial in test.dials.items() if host == name] if test else []
        chosen = [dial for (host, to), dial in test.dials.items() if host == name and to == test.chosen] if test else []
        seen = next((dial["source"] for dial in [*chosen, *sources] if dial.get("source")), "")
        if said and parsed(said):
            found[name] = said
        elif name == first and test and parsed(test.chosen):
            found[name] = test.chosen
        elif loopback or (dialled and not seen and not is_loopback(dialled) and interface_of(interfaces, dialled)):
            found[name] = dialled
        elif seen:
            found[name] = str(seen).removeprefix("::ffff:")
        else:
            found[name] = next(iter(usable(interfaces, case.facts[name].get("route", {}))), "")
    return {name: address for name, address in found.items() if address}


def by_host(case: Case) -> dict[str, str]:
    """Return host -> the interface that the hostfile names, else the interface that has the host's address."""
    found = {}
    for name, address in addresses(case).items():
        found[name] = case.host(name).iface or interface_of(case.facts[name].get("interfaces", ()), address)
    return {name: interface for name, interface in found.items() if interface}


# -- the choices of the libraries


def nccl_choice(interfaces: Sequence[Mapping[str, Any]]) -> str:
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


def gloo_choice(interfaces: Sequence[Mapping[str, Any]], own_name: Mapping[str, Any]) -> str:
    """Return the interface of the first address of the host's own name that the host has; ``lo`` if there is none."""
    for address in own_name["addresses"]:
        interface = interface_of(interfaces, address)
        if interface:
            return interface
    return "lo"


def _set(case: Case, name: str, variable: str) -> str:
    """Return the variable as train.sh sees it on that host, without the exports that fanout adds."""
    return _set_by_user(case, name, variable) or case.facts[name].get("environment", {}).get(variable, "")


def _set_by_user(case: Case, name: str, variable: str) -> str:
    """Return the value from the hostfile or from --env; no finding may contain it."""
    return dict(case.host(name).env).get(variable) or case.request.env.get(variable) or ""


def _meet(case: Case, choices: Mapping[str, str]) -> bool:
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


def choices(case: Case, variable: str) -> dict[str, str]:
    """Return host -> the interface that the library would choose without exports."""
    found = {}
    for name in case.hosts:
        facts = case.facts[name]
        if "interfaces" not in facts or "own_name" not in facts:
            continue
        if variable == NCCL:
            found[name] = nccl_choice(facts["interfaces"])
        else:
            found[name] = gloo_choice(facts["interfaces"], facts["own_name"])
    return found


def exports(case: Case) -> dict[str, dict[str, str]]:
    """Return host -> variables to export so that all hosts share a network.

    It is empty if the libraries' own choices share a network or if the user set the variable.
    """
    result: dict[str, dict[str, str]] = {}
    here = by_host(case)
    if len(case.request.hosts) == 1 or all_loopback(case.request.dialled, [host.name for host in case.request.reached]):
        return result
    for variable in (GLOO, NCCL):
        if any(_set(case, name, variable) for name in case.hosts):
            continue
        own = choices(case, variable)
        wished = any(case.host(name).iface for name in case.hosts)
        if own and (wished or not _meet(case, own)) and set(here) >= set(own):
            for name in own:
                result.setdefault(name, {})[variable] = here[name]
    return result


# -- judges


def _gloo(case: Case) -> Iterator[Verdict]:
    yield from _library(case, GLOO, "gloo")


def _nccl(case: Case) -> Iterator[Verdict]:
    lacking = tuple(name for name in case.hosts if "gpu" not in case.facts[name])
    if lacking:
        yield skip(lacking, "no GPU")
    if len(lacking) < len(case.hosts):
        yield from (verdict for verdict in _library(case, NCCL, "NCCL") if not set(verdict.hosts) & set(lacking))


def _library(case: Case, variable: str, library: str) -> Iterator[Verdict]:
    own, added = choices(case, variable), exports(case)
    given = {name: value for name in case.hosts if (value := _set(case, name, variable))}
    for name, value in given.items():
        names = [row["name"] for row in case.facts[name]["interfaces"]]
        shown = f"{variable} of the run" if _set_by_user(case, name, variable) else f"{variable}={value}"
        yield from _given(name, variable, value, [str(name) for name in names], shown=shown)
    exported = {name: added[name][variable] for name in added if variable in added[name]}
    for interface, hosts in grouped(exported):
        alone = sorted({own[name] for name in hosts})
        why = _trapped(case, [name for name in hosts if own[name] != interface]) if variable == GLOO else ""
        yield info(hosts, f"{library} would use {' or '.join(alone)}; fanout exports {variable}={interface}{why}")
    loopback = all_loopback(case.request.dialled, [host.name for host in case.request.reached])
    if not given and not exported and own and not loopback and not _meet(case, own):
        taken = ", ".join(f"{choice} on {fold(hosts)}" for choice, hosts in grouped(own))
        yield warn(
            tuple(own), f"{library} would use {taken}, which may not reach each other",
            f"name the interface:  --env {variable}=NAME  or  iface=NAME in the hostfile",
        )  # fmt: skip


def _trapped(case: Case, names: Sequence[str]) -> str:
    """Name the hosts whose own name resolves to loopback, as Debian's installer sets it up; "" if there are none."""
    bad = {name: case.facts[name]["own_name"]["addresses"][:1] for name in names}
    loopback = [name for name, found in bad.items() if found and is_loopback(found[0])]
    if not loopback:
        return ""
    return f" (/etc/hosts of {fold(loopback)} gives {'its' if len(loopback) == 1 else 'their'} own name the address {bad[loopback[0]][0]})"


def _given(name: str, variable: str, value: str, names: Sequence[str], *, shown: str) -> Iterator[Verdict]:
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


def _rows(case: Case) -> dict[str, Mapping[str, Any]]:
    """Return the row of the interface in use, by host."""
    return {
        name: row
        for name, interface in by_host(case).items()
        for row in case.facts[name].get("interfaces", ())
        if row["name"] == interface
    }


def _mtu(case: Case) -> Iterator[Verdict]:
    rows = _rows(case)
    for odd in outliers({name: row["mtu"] for name, row in rows.items() if not row["loopback"]}):
        first, device = odd.hosts[0], rows[odd.hosts[0]]["name"]
        yield warn(
            odd.hosts, f"{device} has mtu {odd.against()}",
            f"small messages pass, and large ones hang if a switch drops them:  {case.on(first, f'sudo ip link set {device} mtu {odd.usual}')}",
        )  # fmt: skip


def _link_speed(case: Case) -> Iterator[Verdict]:
    rows = _rows(case)
    speeds = {name: row["speed"] for name, row in rows.items() if row["speed"] > 0}
    for odd in outliers(speeds):
        if odd.value < odd.usual:
            device = rows[odd.hosts[0]]["name"]
            yield warn(
                odd.hosts, f"{device} runs at {odd.against('{} Mb/s'.format)}", _cable(case, odd.hosts[0], device)
            )
    for name, row in rows.items():
        if row["duplex"] == "half":
            yield warn(name, f"{row['name']} runs at half duplex", _cable(case, name, row["name"]))
        if row["bad"] > max(_FEW, _SPOILT * row["received"]):
            yield warn(
                name, f"{row['name']} received {row['bad']} broken packets of {row['received']} since boot",
                _cable(case, name, row["name"]),
            )  # fmt: skip


def _cable(case: Case, name: str, device: str) -> str:
    return f"reseat the cable, then see  {case.on(name, f'ethtool {device}')}   and  {case.on(name, f'ip -s link show {device}')}"


def _nccl_files(case: Case) -> Iterator[Verdict]:
    files = case.of("residue")
    if not case.of("gpu"):
        yield skip(files, "no GPU")
        return
    for odd in outliers(files):
        path = differing(odd.value, odd.usual)[0]
        yield warn(
            odd.hosts,
            f"{path}: {odd.against(partial(_said, path))}",
            f"make them the same:  {case.on(odd.hosts[0], f'cat {path}')}",
        )


def _said(path: str, files: Mapping[str, str]) -> str:
    return repr(files[path]) if path in files else "nothing"


CHECKS = (
    Check(
        name="gloo-interface", group="network", worst="fail", needs=("interfaces", "own_name"), unless=alone,
        verifies="The interfaces that gloo chooses on the hosts can reach each other.",
        why="gloo listens on the address of the host's own name. With Debian's 127.0.1.1 line in /etc/hosts no other host can "
        "reach that address, and some hosts wait 60 s for a “Connect timeout”.",
        fix="If fanout exports GLOO_SOCKET_IFNAME, do nothing. Otherwise name the interface with iface=NAME.",
        judge=_gloo,
    ),
    Check(
        name="nccl-interface", group="network", worst="fail", needs=("interfaces", "own_name"), unless=alone,
        verifies="The interfaces that NCCL chooses on the hosts can reach each other.",
        why="NCCL uses the first interface that is up. If that is a container bridge or a VPN on one host, the start hangs.",
        fix="If fanout exports NCCL_SOCKET_IFNAME, do nothing. Otherwise name the interface with iface=NAME.",
        judge=_nccl,
    ),
    Check(
        name="mtu", group="network", worst="warn", needs=("interfaces",), unless=alone,
        verifies="The interfaces in use have the same MTU.",
        why="If the MTUs differ, small messages pass and the first large one hangs.",
        fix="Run ip link set dev IFACE mtu N.",
        judge=_mtu,
    ),
    Check(
        name="link-speed", group="network", worst="warn", needs=("interfaces",), unless=alone,
        verifies="No host's link is slower than those of the others, runs at half duplex, or corrupts more than one packet in "
        "10,000.",
        why="A cable that negotiated 100 Mb/s slows every step of every host.",
        fix="Reseat or replace the cable.",
        judge=_link_speed,
    ),
    Check(
        name="nccl-files", group="network", worst="warn", needs=("residue",), unless=alone,
        verifies="/etc/nccl.conf and ~/.nccl.conf have the same content on all hosts.",
        why="NCCL reads them first, and they are easily forgotten.",
        fix="Make them equal, or remove them.",
        judge=_nccl_files,
    ),
)  # fmt: skip
