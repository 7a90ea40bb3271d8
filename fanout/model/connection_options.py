"""Options of every command that connects to hosts: logins, and the container that a login enters."""

from __future__ import annotations

from fanout.model.option import CONNECTION, MAX_SECONDS, Duration, Setting

#: The engines of ``engines.py``, whose dataclass would slow down the help.
ENGINE_NAMES = ("docker", "podman", "apptainer")
IMAGE_COMMANDS = "run rerun check exec"  # those that create containers

CONNECTION_OPTIONS = (
    Setting(
        "-f --fanout",
        "open at most N connections at a time (default: {default})",
        kind=int, default=64, metavar="N", bounds=(1, 10_000), group=CONNECTION,
    ),
    Setting(
        "-t --connect-timeout",
        "fail a login after TIME (default: {default})",
        kind=Duration, default=10.0, metavar="TIME", bounds=(0.1, MAX_SECONDS), group=CONNECTION,
    ),
    Setting("-l --user", "log in as USER if the hostfile names no user", metavar="USER", group=CONNECTION),
    Setting(
        "--container",
        "enter the running container NAME on the hosts without container= in the hostfile",
        metavar="NAME", group=CONNECTION,
    ),
    Setting(
        "--image",
        "create a container from IMAGE, a name or the path of a .sif, on each host; never pull",
        metavar="IMAGE", group=CONNECTION, only=IMAGE_COMMANDS,
    ),
    Setting(
        "--mount",
        "mount SRC of the host into the container, at DST or the same path (with --image)",
        kind=tuple, default=(), metavar="SRC[:DST]", group=CONNECTION, only=IMAGE_COMMANDS,
    ),
    Setting(
        "--container-arg",
        "pass ARG to the engine that creates the container, as --container-arg=--shm-size=32g (with --image)",
        kind=tuple, default=(), metavar="ARG", group=CONNECTION, only=IMAGE_COMMANDS,
    ),
    Setting(
        "--engine",
        "container engine on the hosts (default: {default}, the one that has the container or the image)",
        default="auto", choices=("auto", *ENGINE_NAMES), group=CONNECTION,
    ),
    Setting("-F --ssh-config", "read FILE instead of ~/.ssh/config", metavar="FILE", group=CONNECTION, commands=("init",)),
    Setting(
        "-o --ssh-option",
        "set an ssh_config option for every host, as `ssh -o` does",
        kind=tuple, default=(), metavar="KEY=VALUE", group=CONNECTION,
    ),
    Setting(
        "--transport",
        "connect with ssh (built in), openssh (the ssh program), or local (default: {default})",
        default="auto", choices=("auto", "ssh", "openssh", "local"), group=CONNECTION,
    ),
    Setting(
        "--accept-new-host-keys",
        "add unknown host keys to known_hosts; refuse changed keys",
        kind=bool, default=False, group=CONNECTION,
    ),
)  # fmt: skip
