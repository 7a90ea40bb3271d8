"""Checks of identity: no machine appears twice, no cloned images, the same user on all hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.compare import grouped, outliers
from fanout.checks.model import Case, Check, Verdict, fail, info, warn


def _same_machine(case: Case) -> Iterator[Verdict]:
    ids = {name: identity["host_id"] for name, identity in case.of("identity").items()}
    for _, names in grouped(ids):
        if len(names) > 1:
            first, *others = names
            lines = ", ".join(f"{name} ({case.host(name).origin})" for name in names)
            yield fail(
                others, f"is the same machine as {first}: {lines}",
                f"exclude one:  -x {','.join(others)}   (for more processes on one machine: slots=N)",
            )  # fmt: skip


def _namesakes(case: Case) -> Iterator[Verdict]:
    real = _not_given(case)
    for hostname, names in grouped({name: identity["hostname"] for name, identity in real.items()}):
        boots = {real[name]["host_id"] for name in names}
        if len(names) > 1 and len(boots) > 1:
            yield warn(
                names[1:], f"has the hostname {hostname!r}, as {names[0]} has",
                f"give it its own name:  {case.on(names[1], f'sudo hostnamectl set-hostname {names[1]}')}"
                "   (NCCL treats hosts with one name and one boot id as one machine)",
            )  # fmt: skip


def _clones(case: Case) -> Iterator[Verdict]:
    real = {name: identity for name, identity in _not_given(case).items() if identity["machine_id"]}
    for _, names in grouped({name: identity["machine_id"] for name, identity in real.items()}):
        if len({real[name]["boot_id"] for name in names}) > 1:
            yield warn(
                names[1:], f"has the same /etc/machine-id as {names[0]}: one image was cloned",
                "give each its own id, or DHCP may assign both the same address:  "
                "sudo rm /etc/machine-id && sudo systemd-machine-id-setup",
            )  # fmt: skip


def _not_given(case: Case) -> Mapping[str, Mapping[str, Any]]:
    """Return the identities of hosts that are not simulated: simulated ones share a kernel and a name on purpose."""
    return {name: identity for name, identity in case.of("identity").items() if not identity.get("given")}


def _user(case: Case) -> Iterator[Verdict]:
    users = {name: (user["name"], user["uid"], user["gid"]) for name, user in case.of("user").items()}
    for odd in outliers(users):
        yield warn(
            odd.hosts, f"user {odd.against(lambda user: f'{user[0]} (uid {user[1]}, gid {user[2]})')}",
            "on a shared file system these are different users: one cannot write the files of the other",
        )  # fmt: skip
    groups = {name: tuple(user["groups"]) for name, user in case.of("user").items()}
    for odd_groups in outliers(groups) if len(set(users.values())) == 1 else ():
        yield info(
            odd_groups.hosts, f"groups {odd_groups.against(lambda numbers: ' '.join(map(str, numbers)))}",
            "a directory that is shared by a group may be closed to this user on some hosts",
        )  # fmt: skip
    masks = {name: user["umask"] for name, user in case.of("user").items()}
    for odd_mask in outliers(masks):
        yield info(
            odd_mask.hosts,
            f"umask {odd_mask.against(lambda mask: f'{mask:03o}')}",
            "files that this host creates get other permissions",
        )


CHECKS = (
    Check(
        name="same-machine", group="identity", worst="fail", needs=("identity",),
        verifies="No two entries of the hostfile are one machine (same boot of the same kernel, same network).",
        why="Two node ranks would use the same port and the same GPUs: EADDRINUSE, out of memory, or "
        "“Duplicate GPU detected” from NCCL.",
        fix="Remove one of the entries. For more processes on one machine, write slots=N. For containers and simulated hosts "
        "that share a network on purpose, set a different FANOUT_HOST_ID in the environment of each.",
        judge=_same_machine,
    ),
    Check(
        name="hostname", group="identity", worst="warn", needs=("identity",),
        verifies="Every host has a different hostname.",
        why="NCCL decides by hostname and boot id whether two ranks share a machine. Logs are ambiguous as well.",
        fix="Run sudo hostnamectl set-hostname NAME on the hosts with the same name, or set NCCL_HOSTID per host.",
        judge=_namesakes,
    ),
    Check(
        name="machine-id", group="identity", worst="warn", needs=("identity",),
        verifies="Different machines have different /etc/machine-id.",
        why="Clones of one image request the same DHCP lease, so two hosts may get one address.",
        fix="Run sudo rm /etc/machine-id && sudo systemd-machine-id-setup, then reboot.",
        judge=_clones,
    ),
    Check(
        name="user", group="identity", worst="warn", needs=("user",),
        verifies="The login is the same user (uid and gid) on every host. Different groups and umasks are reported as notes.",
        why="File systems identify users by number: with another uid, a shared directory belongs to another user.",
        fix="Log in as the same user (user@host in the hostfile), or give the account the same uid.",
        judge=_user,
    ),
)  # fmt: skip
