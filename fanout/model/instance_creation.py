"""Instance creation: the shell lines that create an instance of apptainer with the flags for training. Pure.

They run after the lines of ``remote/instance_entry``: the program is in ``$engine``, and ``has NAME`` looks for an
instance. The first process of an instance is apptainer's own, and it does not end with its start script. So the process
that ends the instance runs beside it. The shell around that process stops the instance.
"""

from __future__ import annotations

import shlex

from fanout.model.container_creation import FAILED, ContainerPlan, build_mount_checks, fill_in

#: Makes HOME a directory that accepts files: a mount of the user, else /tmp. apptainer itself mounts no home here.
INSIDE = """\
export USER="${USER:-$(id -un 2>/dev/null || id -u)}"
export LOGNAME="$USER"
mounted=
while read -r id parent device root point rest; do
case $HOME/ in "$point"/*) mounted=yes;; esac
done </proc/self/mountinfo
{ [ -n "$mounted" ] && [ -w "$HOME" ]; } || export HOME=/tmp
"""
_LIST_PIDS = 'import os; print(*(name for name in os.listdir("/proc") if name.isdigit()))'
_GPUS = """\
[ ! -e /dev/nvidiactl ] || set -- "$@" --nv
[ ! -e /dev/kfd ] || set -- "$@" --rocm"""

#: Deletes the two files of output that apptainer keeps for an instance of this host (internal/pkg/instance).
DELETE_OUTPUT = """\
delete_output() {
for place in "${APPTAINER_CONFIGDIR:-$HOME/.apptainer}" "$HOME/.singularity"; do
for kind in err out; do rm -f "$place/instances/logs/$(uname -n)/$(id -un)/$1.$kind"; done
done
}"""

#: Ends the instance when the process inside reports that it is empty: exit status 0.
_HOLD = f"""\
{DELETE_OUTPUT}
"$1" -s exec --cleanenv --pwd / "instance://$2" "$3" -I -S -c "$4" $5 && "$1" instance stop -F "$2"
[ $? != 0 ] || delete_output "$2"
"""

#: Creates the instance unless it runs; another login may create it at the same time. A file takes the output, because an instance may keep a pipe open.
_CREATE = """\
fail() { echo "fanout-container $engine $1" >&2; exit FAILED; }
has NAME && exit 0
[ -e IMAGE ] || fail no-image
CHECKS
output=$(mktemp) || fail refused
undo_start() {
! grep -q "instance NAME already exists" "$output" || { rm -f "$output"; exit 0; }
cat "$output" >&2; rm -f "$output"; $engine instance stop -F NAME >/dev/null 2>&1
delete_output NAME; fail refused
}
START
cd / && $engine instance start "$@" IMAGE NAME </dev/null >"$output" 2>&1 || undo_start
pids=$($engine -s exec --cleanenv --pwd / instance://NAME PYTHON -I -S -c LIST </dev/null 2>"$output") || undo_start
rm -f "$output"
set -- "$engine" NAME PYTHON HOLDER "SECONDS $pids"
$(command -v setsid) sh -c HOLD fanout-holder "$@" </dev/null >/dev/null 2>&1 &
exit 0"""


def build_instance_creation(plan: ContainerPlan, holder: str) -> str:
    """Return the shell script that creates the instance unless it runs, and ends with 0.

    Else it ends with 125 after a line with the reason on stderr. ``holder`` is the source of the process that waits
    until the instance is empty.
    """
    values = {
        "FAILED": str(FAILED),
        "NAME": plan.name,
        "IMAGE": shlex.quote(plan.image),
        "CHECKS": build_mount_checks(plan),
        "START": "\n".join(_build_start_lines(plan)),
        "PYTHON": shlex.quote(plan.python),
        "LIST": shlex.quote(_LIST_PIDS),
        "HOLDER": shlex.quote(holder),
        "HOLD": shlex.quote(_HOLD),
        "SECONDS": f"{plan.empty_seconds:g}",
    }
    return fill_in(_CREATE, values)


def build_instance_block(plan: ContainerPlan) -> list[str]:
    """Return the lines of a shell that run a shell in the image. It reads what follows from stdin."""
    return [
        "engine=$(command -v apptainer || command -v singularity)",
        *_build_start_lines(plan),
        f'$engine exec --pwd / "$@" {shlex.quote(plan.image)} bash -s',
    ]


def _build_start_lines(plan: ContainerPlan) -> list[str]:
    """Return the lines that make the flags of apptainer the arguments of the shell."""
    words = ["--cleanenv", "--no-home"]
    for mount in plan.mounts:
        words += ["--bind", f"{mount.source}:{mount.target}"]
    return [
        f"set -- {shlex.join(words)}",
        _GPUS,
        *([f'set -- "$@" {shlex.join(plan.arguments)}'] if plan.arguments else []),
    ]
