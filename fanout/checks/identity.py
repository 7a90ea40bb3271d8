"""Checks of identity: no machine appears twice, no cloned images, the same user on all hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.engine.comparison import find_outlier_groups, group_hosts_by_value
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, fail, info, warn


def _judge_same_machine(case: CheckContext) -> Iterator[CheckResult]:
    ids = {name: identity["host_id"] for name, identity in case.get_section("identity").items()}
    for _, names in group_hosts_by_value(ids):
        if len(names) > 1:
            first, *others = names
            lines = ", ".join(f"{name} ({case.get_host(name).origin})" for name in names)
            yield fail(
                others,
                f"is the same machine as {first}: {lines}",
                f"exclude one:  -x {','.join(others)}   (for more processes on one machine: slots=N)",
            )


def _judge_hostnames(case: CheckContext) -> Iterator[CheckResult]:
    real = _get_real_identities(case)
    for hostname, names in group_hosts_by_value({name: identity["hostname"] for name, identity in real.items()}):
        boots = {real[name]["host_id"] for name in names}
        if len(names) > 1 and len(boots) > 1:
            yield warn(
                names[1:],
                f"has the hostname {hostname!r}, as {names[0]} has",
                f"give it its own name:  {case.format_remote_command(names[1], f'sudo hostnamectl set-hostname {names[1]}')}"
                "   (NCCL treats hosts with one name and one boot id as one machine)",
            )


def _judge_machine_ids(case: CheckContext) -> Iterator[CheckResult]:
    real = {name: identity for name, identity in _get_real_identities(case).items() if identity["machine_id"]}
    for _, names in group_hosts_by_value({name: identity["machine_id"] for name, identity in real.items()}):
        if len({real[name]["boot_id"] for name in names}) > 1:
            yield warn(
                names[1:],
                f"has the same /etc/machine-id as {names[0]}: one image was cloned",
                "give each its own id, or DHCP may assign both the same address:  "
                "sudo rm /etc/machine-id && sudo systemd-machine-id-setup",
            )


def _get_real_identities(case: CheckContext) -> Mapping[str, Mapping[str, Any]]:
    """Return the identities of hosts that are not simulated: simulated ones share a kernel and a name on purpose."""
    return {name: identity for name, identity in case.get_section("identity").items() if not identity.get("given")}


def _judge_user(case: CheckContext) -> Iterator[CheckResult]:
    users = {name: (user["name"], user["uid"], user["gid"]) for name, user in case.get_section("user").items()}
    for odd in find_outlier_groups(users):
        yield warn(
            odd.hosts,
            f"user {odd.format_difference(lambda user: f'{user[0]} (uid {user[1]}, gid {user[2]})')}",
            "on a shared file system these are different users: one cannot write the files of the other",
        )
    groups = {name: tuple(user["groups"]) for name, user in case.get_section("user").items()}
    for deviation in find_outlier_groups(groups) if len(set(users.values())) == 1 else ():
        yield info(
            deviation.hosts,
            f"groups {deviation.format_difference(lambda numbers: ' '.join(map(str, numbers)))}",
            "a directory that is shared by a group may be closed to this user on some hosts",
        )
    masks = {name: user["umask"] for name, user in case.get_section("user").items()}
    for deviation in find_outlier_groups(masks):
        yield info(
            deviation.hosts,
            f"umask {deviation.format_difference(lambda mask: f'{mask:03o}')}",
            "files that this host creates get other permissions",
        )


def _judge_user_name(case: CheckContext) -> Iterator[CheckResult]:
    for name, user in case.get_section("user").items():
        if not user.get("has_name", True):
            yield warn(
                name,
                f"uid {user['uid']} has no name: no entry in /etc/passwd, and USER is not set",
                "torch 2 raises “getpwuid(): uid not found” when it is imported: add  "
                + (
                    "--env USER=me"
                    if case.get_host(name).container
                    else f"--env USER=me, or an account for uid {user['uid']}"
                ),
            )


CHECKS = (
    Check(
        name="same-machine", group="identity", worst="fail", needs=("identity",),
        verifies="No two entries of the hostfile are one machine (same boot of the same kernel, same network).",
        why="Two node ranks would use the same port and the same GPUs: EADDRINUSE, out of memory, or "
        "“Duplicate GPU detected” from NCCL.",
        fix="Remove one of the entries. For more processes on one machine, write slots=N. For containers and simulated hosts "
        "that share a network on purpose, set a different FANOUT_HOST_ID in the environment of each.",
        judge=_judge_same_machine,
    ),
    Check(
        name="hostname", group="identity", worst="warn", needs=("identity",),
        verifies="Every host has a different hostname.",
        why="NCCL decides by hostname and boot id whether two ranks share a machine. Logs are ambiguous as well.",
        fix="Run sudo hostnamectl set-hostname NAME on the hosts with the same name, or set NCCL_HOSTID per host.",
        judge=_judge_hostnames,
    ),
    Check(
        name="machine-id", group="identity", worst="warn", needs=("identity",),
        verifies="Different machines have different /etc/machine-id.",
        why="Clones of one image request the same DHCP lease, so two hosts may get one address.",
        fix="Run sudo rm /etc/machine-id && sudo systemd-machine-id-setup, then reboot.",
        judge=_judge_machine_ids,
    ),
    Check(
        name="user", group="identity", worst="warn", needs=("user",),
        verifies="The login is the same user (uid and gid) on every host. Different groups and umasks are reported as notes.",
        why="File systems identify users by number: with another uid, a shared directory belongs to another user.",
        fix="Log in as the same user (user@host in the hostfile), or give the account the same uid.",
        judge=_judge_user,
    ),
    Check(
        name="user-name", group="identity", worst="warn", needs=("user",),
        verifies="The user's number has a name, in /etc/passwd or in USER.",
        why="torch asks for the name when it is imported. A container that runs as --user 1000 has none.",
        fix="Add --env USER=NAME, or create the container with -e USER.",
        judge=_judge_user_name,
    ),
)  # fmt: skip
