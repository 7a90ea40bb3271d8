"""Container creation: the shell lines that create a container with the flags for training, for docker and podman. Pure.

The lines look at the host on which they run: its user, GPUs and InfiniBand. They find the program of the engine in
``$engine``. Values of the environment of a run are never part of them, because ``inspect`` shows the arguments.
"""

from __future__ import annotations

import re
import shlex

from fanout.model.frozen import frozen
from fanout.model.mounts import Mount

RUN_LABEL, USER_LABEL = "fanout.run", "fanout.user"
FAILED = 125  # exit status of both engines if they could not create a container

#: Flags of a user that take the place of fanout's own ones.
_REPLACING = {
    "--ipc": ("--ipc", "--shm-size"),
    "--network": ("--network", "--net"),
    "--user": ("--user", "-u", "--userns"),
    "gpu": ("--gpus", "--device=nvidia.com/"),
}

#: podman cannot raise a limit above its own; the daemon of docker can.
_RLIMITS = """\
limit() { case $engine in *podman) (ulimit "$1" "$2") 2>/dev/null;; esac; }
limit -l unlimited && set -- "$@" --ulimit memlock=-1:-1
limit -s 65536 && set -- "$@" --ulimit stack=67108864:67108864"""

_USER = """\
user=$(id -u) rootless=
case $engine in
*podman) [ "$user" = 0 ] || rootless=podman;;
*) case $($engine info -f '{{.SecurityOptions}}' 2>/dev/null) in *rootless*) rootless=docker;; esac;;
esac
case $rootless in
podman) set -- "$@" --userns keep-id;;
docker) set -- "$@" --user 0:0;;
*) set -- "$@" --user "$user:$(id -g)"
   [ "$user" = 0 ] || for group in $(id -G); do set -- "$@" --group-add "$group"; done;;
esac
[ "$user" = 0 ] || [ "$rootless" = docker ] || {
name=$(id -un 2>/dev/null || echo "$user")
set -- "$@" -e "USER=$name" -e "LOGNAME=$name" -e "HOME=$home"; }"""

_GPUS = """\
if [ -e /dev/nvidiactl ]; then case $engine in
*podman) grep -qs nvidia.com/gpu /etc/cdi/* /var/run/cdi/* || fail no-cdi
   set -- "$@" --device nvidia.com/gpu=all;;
*) set -- "$@" --gpus all;;
esac; fi
if [ -e /dev/kfd ]; then
set -- "$@" --device /dev/kfd --device /dev/dri --group-add video --security-opt seccomp=unconfined --cap-add SYS_PTRACE
fi"""

_DEVICES = """\
if [ -e /dev/infiniband ]; then set -- "$@" --device /dev/infiniband --cap-add IPC_LOCK; fi
if [ -e /sys/fs/selinux/enforce ]; then set -- "$@" --security-opt label=disable; fi"""

#: Creates the container unless it runs. Each call of an engine takes 0.05 s and more, so the first one creates it, and only
#: a failure asks for the reason. A name is taken for a moment after the container before has ended.
_CREATE = """\
fail() { echo "fanout-container $engine $1" >&2; exit FAILED; }
CHECKS
RUN
tries=0
until output=$($engine "$@" -d --rm --name NAME IMAGE PYTHON -I -S -c HOLDER SECONDS 2>&1); do
case $output in
*[Aa]lready\\ in\\ use*) case $($engine container inspect -f '{{.State.Status}}' NAME 2>/dev/null) in
   running|paused) exit 0;;
   ?*) $engine rm -f NAME >/dev/null 2>&1;;
   esac;;
*) tries=20;;
esac
tries=$((tries+1))
[ $tries -lt 20 ] || { echo "$output" >&2
case $($engine image inspect IMAGE 2>&1 >/dev/null) in *[Nn]o\\ such\\ image*|*not\\ known*) fail no-image;; esac
$engine rm -f NAME >/dev/null 2>&1; fail refused; }
sleep 0.5
done
exit 0"""


@frozen
class ContainerPlan:
    """What fanout creates on one host: the container ``name`` of the run with this id, from an image of the host."""

    name: str
    run_id: str
    image: str
    engine: str | None = None
    mounts: tuple[Mount, ...] = ()
    arguments: tuple[str, ...] = ()  # of the user, for ``docker run`` or ``podman run``
    python: str = "python3"
    empty_seconds: float = 60.0  # after which a container without a process of the run ends


def build_creation(plan: ContainerPlan, holder: str) -> str:
    """Return the shell script that creates the container unless it runs, and ends with 0.

    Else it ends with 125 after a line with the reason on stderr. ``holder`` is the source of the first process.
    """
    values = {
        "FAILED": str(FAILED),
        "NAME": plan.name,
        "IMAGE": shlex.quote(plan.image),
        "CHECKS": build_mount_checks(plan),
        "RUN": "\n".join(_build_run_lines(plan)),
        "PYTHON": shlex.quote(plan.python),
        "HOLDER": shlex.quote(holder),
        "SECONDS": f"{plan.empty_seconds:g}",
    }
    return fill_in(_CREATE, values)


def build_block_start(plan: ContainerPlan, engine: str | None) -> list[str]:
    """Return the lines of a shell that run a shell in a new container. It reads what follows from stdin."""
    return [
        f"engine={engine or '$(command -v docker || command -v podman)'}",
        'fail() { echo "podman has no CDI specification of the NVIDIA GPUs" >&2; exit 125; }',
        *_build_run_lines(plan),
        f'$engine "$@" --rm -i --name {plan.name} {shlex.quote(plan.image)} bash -s',
    ]


def build_mount_checks(plan: ContainerPlan) -> str:
    """Return the lines of a shell that call ``fail`` for a mount that the host does not have."""
    return "\n".join(
        f"[ -e {shlex.quote(mount.source)} ] || fail {shlex.quote(f'no-mount {mount.source}')}" for mount in plan.mounts
    )


def fill_in(script: str, values: dict[str, str]) -> str:
    """Replace each word that is a key, once: a value is never searched."""
    return re.sub(r"\b(" + "|".join(values) + r")\b", lambda found: values[found[1]], script)


def _build_run_lines(plan: ContainerPlan) -> list[str]:
    """Return the lines that make the words of ``$engine run`` the arguments of the shell."""
    words = ["run", "--pull", "never", "--log-driver", "none", "--workdir", "/", "--entrypoint", ""]
    words += ["--label", f"{RUN_LABEL}={plan.run_id}"]
    for flag in ("--network", "--ipc"):
        words += [] if _replaces(plan, flag) else [flag, "host"]
    for mount in plan.mounts:
        words += ["--mount", f"type=bind,src={mount.source},dst={mount.target}"]
    lines = [f"set -- {shlex.join(words)} --label {USER_LABEL}=$(id -u)", _RLIMITS, "home=/tmp"]
    lines += [
        f"case $HOME/ in {shlex.quote(mount.target.rstrip('/') + '/')}*) home=$HOME;; esac" for mount in plan.mounts
    ]
    lines += [_USER] if not _replaces(plan, "--user") else []
    lines += [_GPUS] if not _replaces(plan, "gpu") else []
    return [*lines, _DEVICES, *([f'set -- "$@" {shlex.join(plan.arguments)}'] if plan.arguments else [])]


def _replaces(plan: ContainerPlan, what: str) -> bool:
    """Return whether an argument of the user takes the place of a flag."""
    return any(
        argument.startswith(flag) if flag.endswith("/") else argument.split("=")[0] == flag
        for argument in plan.arguments
        for flag in _REPLACING[what]
    )
