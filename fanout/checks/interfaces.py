"""Which interface NCCL and gloo will choose on each host, and whether all can meet there. Pure.

Both libraries choose alone, host by host: NCCL the first interface that is neither loopback nor a container's bridge,
gloo the address that the host's own name means. Seen together the choices may not fit: then the interface by which the
hosts were seen to reach each other is exported to all.
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

_FEW, _SPOILT = 1000, 1e-4  # broken packets: fewer are no cable's fault, however little came in
GLOO, NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"


def addresses(case: Case) -> dict[str, str]:
    """The address at which others reach each host: as the hostfile says, else as seen on the way to host 0."""
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
    """The interface that carries each host's address, or that the hostfile names."""
    found = {}
    for name, address in addresses(case).items():
        found[name] = case.host(name).iface or interface_of(case.facts[name].get("interfaces", ()), address)
    return {name: interface for name, interface in found.items() if interface}


# -- what the libraries would choose


def nccl_choice(interfaces: Sequence[Mapping[str, Any]]) -> str:
    """The first interface of NCCL's search: ``ib*``, else any but docker, lo and virbr, else docker, else lo."""
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
    """The interface of the first address of the host's own name that the host can bind; loopback if there is none."""
    for address in own_name["addresses"]:
        interface = interface_of(interfaces, address)
        if interface:
            return interface
    return "lo"


def _set(case: Case, name: str, variable: str) -> str:
    """The variable as train.sh will see it on that host, before we add anything."""
    own = dict(case.host(name).env)
    return (
        own.get(variable) or case.request.env.get(variable) or case.facts[name].get("environment", {}).get(variable, "")
    )


def _meet(case: Case, choices: Mapping[str, str]) -> bool:
    """Whether the chosen interfaces share a network, each with an address of its own, and none is loopback."""
    networks = []
    seen: set[Any] = set()
    machines = {case.facts[name].get("identity", {}).get("host_id", name): name for name in choices}
    for name in machines.values():  # one machine under two names is another check's affair
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
    """host -> the interface that the library would take there by itself."""
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
    """host -> variables to add, so that all meet; none where the libraries' own choice will do, or the user chose."""
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
        yield from _given(name, variable, value, [str(name) for name in names])
    exported = {name: added[name][variable] for name in added if variable in added[name]}
    for interface, hosts in grouped(exported):
        alone = sorted({own[name] for name in hosts})
        why = _trapped(case, [name for name in hosts if own[name] != interface]) if variable == GLOO else ""
        yield info(hosts, f"{library} would take {' or '.join(alone)}; fanout exports {variable}={interface}{why}")
    loopback = all_loopback(case.request.dialled, [host.name for host in case.request.reached])
    if not given and not exported and own and not loopback and not _meet(case, own):
        taken = ", ".join(f"{choice} on {fold(hosts)}" for choice, hosts in grouped(own))
        yield warn(
            tuple(own), f"{library} would take {taken}, where the hosts may not meet",
            f"name the interface:  --env {variable}=NAME  or  iface=NAME in the hostfile",
        )  # fmt: skip


def _trapped(case: Case, names: Sequence[str]) -> str:
    """Which hosts take their own name for an address of loopback, as Debian's installer leaves them."""
    bad = {name: case.facts[name]["own_name"]["addresses"][:1] for name in names}
    loopback = [name for name, found in bad.items() if found and is_loopback(found[0])]
    if not loopback:
        return ""
    return f" (/etc/hosts of {fold(loopback)} gives {'its' if len(loopback) == 1 else 'their'} own name the address {bad[loopback[0]][0]})"


def _given(name: str, variable: str, value: str, names: Sequence[str]) -> Iterator[Verdict]:
    """What the user set must be legal, and be there. gloo takes plain names, NCCL prefixes with ``^`` and ``=``."""
    wanted = [part for part in value.lstrip("^=").split(",") if part]
    if variable == GLOO and value[:1] in ("^", "="):
        yield fail(
            name,
            f"{variable}={value}: gloo takes names only, not NCCL's ^ and =",
            f"name the interface:  {variable}={names[-1]}",
        )
    elif value.startswith("^"):
        yield ok(name, f"{variable}={value}")
    elif variable == GLOO and not set(wanted) <= set(names):
        yield fail(
            name,
            f"{variable}={value}, but there is no such interface: {' '.join(names)}",
            f"set it for this host alone:  {name} env.{variable}=NAME",
        )
    elif not any(have.startswith(part) for part in wanted for have in names):
        yield fail(
            name,
            f"{variable}={value} fits none of its interfaces: {' '.join(names)}",
            f"set it for this host alone:  {name} env.{variable}=NAME",
        )
    else:
        yield ok(name, f"{variable}={value}")


def _rows(case: Case) -> dict[str, Mapping[str, Any]]:
    """The row of the interface in use, by host."""
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
            f"small messages pass and large ones hang where a switch drops them:  {case.on(first, f'sudo ip link set {device} mtu {odd.usual}')}",
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
    return f"reseat the cable, then look:  {case.on(name, f'ethtool {device}')}   and  {case.on(name, f'ip -s link show {device}')}"


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
        verifies="The interface that gloo takes on each host is one on which the hosts meet.",
        why="gloo listens where the host's own name points: Debian's 127.0.1.1 line in /etc/hosts makes it listen where "
        "no other host can reach it, and some hosts wait 60 s for a “Connect timeout”.",
        fix="Nothing, if fanout exports GLOO_SOCKET_IFNAME by itself; else name the interface with iface=NAME.",
        judge=_gloo,
    ),
    Check(
        name="nccl-interface", group="network", worst="fail", needs=("interfaces", "own_name"), unless=alone,
        verifies="The interface that NCCL takes on each host is one on which the hosts meet.",
        why="NCCL takes the first that is up; a bridge of containers or a VPN on one host makes the start hang.",
        fix="Nothing, if fanout exports NCCL_SOCKET_IFNAME by itself; else name the interface with iface=NAME.",
        judge=_nccl,
    ),
    Check(
        name="mtu", group="network", worst="warn", needs=("interfaces",), unless=alone,
        verifies="The interfaces in use have the same MTU.",
        why="Between unequal ends small messages pass and the first large one hangs.",
        fix="ip link set dev IFACE mtu N.",
        judge=_mtu,
    ),
    Check(
        name="link-speed", group="network", worst="warn", needs=("interfaces",), unless=alone,
        verifies="No host's link is slower than the others', at half duplex, or spoils more than one packet in 10,000.",
        why="A cable that negotiated 100 Mb/s slows every step of every host.",
        fix="Reseat or replace the cable.",
        judge=_link_speed,
    ),
    Check(
        name="nccl-files", group="network", worst="warn", needs=("residue",), unless=alone,
        verifies="/etc/nccl.conf and ~/.nccl.conf say the same on all hosts.",
        why="NCCL reads them before anything else, and nobody remembers writing them.",
        fix="Make them the same, or remove them.",
        judge=_nccl_files,
    ),
)  # fmt: skip
