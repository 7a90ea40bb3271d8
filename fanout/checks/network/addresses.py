"""Host addresses: find the interface of an address, and the addresses that other hosts can dial. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import Any, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_MOST = 6  # addresses to try: a host may have forty bridges


@lru_cache(maxsize=1 << 14)
def parse_address(text: str) -> Address | None:
    """Parse an address (a prefix length is ignored); return None if ``text`` is a name or empty.

    Cached, because judges compare the addresses of each host with those of all others.
    """
    try:
        return ip_interface(text).ip if "/" in text else ip_address(text)
    except ValueError:
        return None


def is_loopback(text: str) -> bool:
    address = parse_address(text)
    return address is not None and address.is_loopback


def is_all_loopback(dialled: Mapping[str, str], names: Sequence[str]) -> bool:
    """Return whether every host was reached over loopback, as simulated hosts on one machine are."""
    return bool(names) and all(is_loopback(dialled.get(name, "")) for name in names)


def find_interface(interfaces: Sequence[Mapping[str, Any]], text: str) -> str:
    """Return the interface that has an address; all of 127.0.0.0/8 is on ``lo``. "" if no interface has it."""
    wanted = parse_address(text)
    if wanted is None:
        return ""
    for interface in interfaces:
        for held in interface["addresses"]:
            if parse_address(held) == wanted:
                return str(interface["name"])
        if interface["loopback"] and wanted.is_loopback:
            return str(interface["name"])
    return ""


def find_common_network(interfaces: Sequence[Mapping[str, Any]], text: str, other: str) -> str:
    """Return the network of a host's address ``text`` if it contains ``other``; else ``other``."""
    for interface in interfaces:
        for held in interface["addresses"]:
            if parse_address(held) == parse_address(text) is not None:
                network = ip_interface(held).network
                inside = parse_address(other)
                return str(network) if inside is not None and inside in network else other
    return other


def list_usable_addresses(interfaces: Sequence[Mapping[str, Any]], route: Mapping[str, str]) -> list[str]:
    """Return addresses that other hosts may reach: default route first, IPv4 before IPv6, container bridges last."""
    found: list[tuple[int, int, str]] = []
    for position, interface in enumerate(interfaces):
        if not interface["up"] or interface["loopback"]:
            continue
        for held in interface["addresses"]:
            address = parse_address(held)
            if address is None or address.is_link_local:
                continue
            if interface["name"] in (route.get("ipv4"), route.get("ipv6")):
                rank = 0
            elif str(interface["name"]).startswith(
                ("docker", "virbr", "br-", "veth", "cni", "lxc", "tailscale", "tun")
            ):
                rank = 4
            else:
                rank = 2
            found.append((rank + (address.version == 6), position, str(address)))
    return [text for _, _, text in sorted(found)]


def _find_ipv4_addresses(interfaces: Sequence[Mapping[str, Any]], text: str) -> list[str]:
    """Return the IPv4 addresses of the interface with an IPv6 address: ssh used IPv6, NCCL and gloo may not."""
    address, name = parse_address(text), find_interface(interfaces, text)
    if address is None or address.version == 4:
        return []
    held = [parse_address(other) for row in interfaces if row["name"] == name for other in row["addresses"]]
    return [str(other) for other in held if other is not None and other.version == 4]


def list_master_candidates(
    *, given: str, addr: str | None, dialled: str, facts: Mapping[str, Any], alone: bool, loopback: bool
) -> tuple[str, ...]:
    """Return addresses of host 0 to try as MASTER_ADDR, best first.

    If the user named an address (``given`` on the command line, ``addr`` in the hostfile), it is the only one.
    A loopback address is tried only if the host is ``alone`` or all hosts are on ``loopback``. All addresses have the
    family of the best one: if a firewall blocks IPv4, a change to IPv6 would only hide the problem until later.
    """
    explicit = given or addr
    if explicit:
        return (explicit,)
    if alone:
        return ("127.0.0.1",)
    interfaces = facts.get("interfaces", ())
    found = []
    if dialled and (loopback or not is_loopback(dialled)) and find_interface(interfaces, dialled):
        found += [] if loopback else _find_ipv4_addresses(interfaces, dialled)
        found.append(dialled)
    if not loopback:
        found += list_usable_addresses(interfaces, facts.get("route", {}))
    kinds = [address.version for text in found if (address := parse_address(text))]
    return tuple(dict.fromkeys(text for text, kind in zip(found, kinds, strict=True) if kind == kinds[0]))[:_MOST]
