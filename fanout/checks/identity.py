"""Checks of who is who: no machine twice, no clones, the same user everywhere."""

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
                f"leave one out:  -x {','.join(others)}   (more processes on one machine: slots=N)",
            )  # fmt: skip


def _namesakes(case: Case) -> Iterator[Verdict]:
    real = _not_given(case)
    for hostname, names in grouped({name: identity["hostname"] for name, identity in real.items()}):
        boots = {real[name]["host_id"] for name in names}
        if len(names) > 1 and len(boots) > 1:
            yield warn(
                names[1:], f"calls itself {hostname!r}, as {names[0]} does",
                f"give it a name of its own:  {case.on(names[1], f'sudo hostnamectl set-hostname {names[1]}')}"
                "   (NCCL takes hosts of one name and one kernel for one machine)",
            )  # fmt: skip


def _clones(case: Case) -> Iterator[Verdict]:
    real = {name: identity for name, identity in _not_given(case).items() if identity["machine_id"]}
    for _, names in grouped({name: identity["machine_id"] for name, identity in real.items()}):
        if len({real[name]["boot_id"] for name in names}) > 1:
            yield warn(
                names[1:], f"has the same /etc/machine-id as {names[0]}: one image was cloned",
                "give each its own, or DHCP may lease them one address:  "
                "sudo rm /etc/machine-id && sudo systemd-machine-id-setup",
            )  # fmt: skip


def _not_given(case: Case) -> Mapping[str, Mapping[str, Any]]:
    """Hosts that are what they seem: simulated ones share a kernel and a name on purpose."""
    return {name: identity for name, identity in case.of("identity").items() if not identity.get("given")}


def _user(case: Case) -> Iterator[Verdict]:
    users = {name: (user["name"], user["uid"], user["gid"]) for name, user in case.of("user").items()}
    for odd in outliers(users):
        yield warn(
            odd.hosts, f"user {odd.against(lambda user: f'{user[0]} (uid {user[1]}, gid {user[2]})')}",
            "on a shared file system this is another person: files of one cannot be written by the other",
        )  # fmt: skip
    groups = {name: tuple(user["groups"]) for name, user in case.of("user").items()}
    for odd_groups in outliers(groups) if len(set(users.values())) == 1 else ():
        yield info(
            odd_groups.hosts, f"groups {odd_groups.against(lambda numbers: ' '.join(map(str, numbers)))}",
            "a shared directory that belongs to a group may be closed to this user on some hosts",
        )  # fmt: skip
    masks = {name: user["umask"] for name, user in case.of("user").items()}
    for odd_mask in outliers(masks):
        yield info(
            odd_mask.hosts,
            f"umask {odd_mask.against(lambda mask: f'{mask:03o}')}",
            "files made there get other permissions",
        )


CHECKS = (
    Check(
        name="same-machine", group="identity", worst="fail", needs=("identity",),
        verifies="No two entries of the hostfile are one machine (same boot of the same kernel, same network).",
        why="Two node ranks would fight for the same port and the same GPUs: EADDRINUSE, out of memory, or "
        "NCCL's “Duplicate GPU detected”.",
        fix="Remove one of the entries; for more processes on a machine write slots=N. Containers and simulated hosts "
        "that share a network on purpose can say who they are with FANOUT_HOST_ID in their environment.",
        judge=_same_machine,
    ),
    Check(
        name="hostname", group="identity", worst="warn", needs=("identity",),
        verifies="Every host calls itself by another name.",
        why="NCCL decides by hostname and boot id whether two ranks share a machine; logs are confused as well.",
        fix="sudo hostnamectl set-hostname NAME on the namesakes, or NCCL_HOSTID per host.",
        judge=_namesakes,
    ),
    Check(
        name="machine-id", group="identity", worst="warn", needs=("identity",),
        verifies="Different machines have different /etc/machine-id.",
        why="Clones of one image ask DHCP for the same lease: two hosts with one address, sooner or later.",
        fix="sudo rm /etc/machine-id && sudo systemd-machine-id-setup, then reboot.",
        judge=_clones,
    ),
    Check(
        name="user", group="identity", worst="warn", needs=("user",),
        verifies="The login is the same user (uid and gid) on every host; groups and umask are told where they differ.",
        why="File systems know users by number: with another uid a shared directory is somebody else's.",
        fix="Log in as the same user (user@host in the hostfile), or give the account the same uid.",
        judge=_user,
    ),
)  # fmt: skip
