"""Recorder of a rehearsal: programs in place of the launchers, of python, and of what detaches ranks from a script.

It stays first on PATH, even if the script activates an environment. Every Python that PYTHONPATH reaches loads it. It
exits with its own status, which shows whether train.sh passes it on.
"""

from __future__ import annotations

import os

from . import sandbox
from .files import which

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

RECORDED = 86  # the recorder's exit status: neither a shell nor torchrun uses it
_DETACHERS = ("nohup", "setsid", "disown", "tmux", "screen", "ssh", "pdsh", "at")  # disown is a builtin of bash
_NOT_RUN = ("tmux", "screen", "at")  # they would start the ranks where the recorder does not see their end

_FOLDER = sandbox.INSIDE + "/stage"
PROGRAMS, LIBRARY, RECORDS = _FOLDER + "/bin", _FOLDER + "/lib", _FOLDER + "/records"
_COVERED = _FOLDER + "/covered"  # the programs of this host that the recorder covers, under their names

# Writes the command and its environment. Each file is moved into place, so no reader sees half of one. A background
# process of a shell without job control ignores SIGINT: it lives up to two seconds longer, and then sees whether the
# script has ended without it. A subcommand that starts no ranks has no effect.
_RECORDER = """#!/bin/sh
%(filter)s
mkdir -p %(records)s
printf '%%s\\0' "$FANOUT_PLAYED_BY" "$PWD" "$0" "$@" > %(records)s/$$.part
cat /proc/self/environ > %(records)s/$$.env
mv %(records)s/$$.part %(records)s/$$.argv
case "$(grep SigIgn /proc/$$/status)" in
  *[2367abefABEF])
    for second in 1 2; do [ -e %(records)s/ended ] || sleep 1; done
    [ ! -e %(records)s/ended ] || ln %(records)s/$$.argv %(records)s/$$.left ;;
esac
exit %(status)d
"""

# A program that may detach the ranks from the script: it is recorded, and then starts as usual. git and rsync use ssh too.
_DETACHER = """#!/bin/sh
others= IFS=:
for folder in $PATH; do [ "$folder" = %(programs)s ] || others="$others:$folder"; done
unset IFS
real=%(covered)s/${0##*/}
[ -s "$real" ] || real=$(PATH=$others; command -v "${0##*/}") || { echo "${0##*/}: command not found" >&2; exit 127; }
read parent < /proc/$PPID/comm
case "$parent" in git*|rsync|scp|sftp|sshfs) exec "$real" "$@" ;; esac
back=; case "$(grep SigIgn /proc/$$/status)" in *[2367abefABEF]) back=1 ;; esac
mkdir -p %(records)s
printf '%%s\\0' "$back" "$0" "$@" > %(records)s/$$.hidden
mv %(records)s/$$.hidden %(records)s/$$.detached
case "${0##*/}" in %(not_run)s) exit 0 ;; esac
exec "$real" "$@"
"""

# A python on PATH: a call that would start the training is recorded; any other call runs the real python.
_PYTHON = """#!/bin/sh
others= IFS=:
for folder in $PATH; do [ "$folder" = %(programs)s ] || others="$others:$folder"; done
unset IFS
real=$(PATH=$others; command -v "${0##*/}") || exit 127
before=
for word do
  case "$before $word" in
%(modules)s
    " $FANOUT_TASK" | "-u $FANOUT_TASK" | "-m $FANOUT_TASK") export FANOUT_PLAYED_BY="$real"; exec %(programs)s/task "$@" ;;
  esac
  before=$word
done
exec "$real" "$@"
"""

# Every bash reads it first: an environment that the script activates must not precede the recorder on PATH.
_BASH = """
[ -z "$FANOUT_BASH_ENV" ] || . "$FANOUT_BASH_ENV"
trap 'case "$PATH" in %(programs)s:*) ;; *) PATH=%(programs)s:$PATH ;; esac
case "$BASH_COMMAND" in disown*) mkdir -p %(records)s; printf "1\\0disown\\0" > %(records)s/disown.detached ;; esac' DEBUG
"""

# For any Python with our PYTHONPATH: checks its command line before it imports anything of torch. A program that is not
# known is noted: it may be a launcher.
_CUSTOMIZE = """
import os, sys
words = open("/proc/self/cmdline", "rb").read().decode("utf-8", "replace").split("\\0")[1:-1]
program = module = ""
rest = list(words)
while rest and not program and not module:
    word = rest.pop(0)
    if not word.startswith("-") or word == "-":
        program = word
    elif word in ("-X", "-W", "--check-hash-based-pycs"):
        del rest[:1]
    elif word[1] not in "-XW" and word[-1] == "c":
        program = "-"
    elif word[1] not in "-XW" and word[-1] == "m" and rest:
        module = rest.pop(0)
name = os.path.basename(program)
os.environ["FANOUT_PLAYED_BY"] = sys.executable
if name in %(launchers)r:
    os.execv("%(programs)s/" + name, [program] + rest)
if module in %(modules)r:
    os.execv("%(programs)s/" + %(modules)r[module], [module] + words)
if os.environ.get("FANOUT_TASK") in (program or "-", module or "-"):
    os.execv("%(programs)s/task", ["task"] + words)
del os.environ["FANOUT_PLAYED_BY"]
if program not in ("", "-") or module:
    os.makedirs("%(records)s", exist_ok=True)
    with open("%(records)s/%%d.python" %% os.getpid(), "w") as note:
        note.write("\\0".join([os.getcwd(), module, program] + rest) + "\\0")
"""


def install_recorder(launchers: dict[str, Any]) -> None:
    """Write the programs of the recorder into the sandbox."""
    for folder in (PROGRAMS, LIBRARY, RECORDS, _COVERED):
        os.makedirs(folder)
    for name in (*launchers, "task"):
        starts = launchers.get(name, {}).get("starts")
        only = 'case "$1" in -*|%s) ;; *) exit 0 ;; esac' % "|".join(starts) if starts else ""
        values = {"filter": only, "records": RECORDS, "status": RECORDED}
        write_program(PROGRAMS + "/" + name, _RECORDER % values)
    owners = {module: name for name, row in launchers.items() for module in row["modules"]}
    cases = "\n".join(
        '    "-m %s") export FANOUT_PLAYED_BY="$real"; exec %s/%s "$@" ;;' % (module, PROGRAMS, name)
        for module, name in owners.items()
    )
    for name in ("python", "python3"):
        write_program(PROGRAMS + "/" + name, _PYTHON % {"programs": PROGRAMS, "modules": cases})
    names = {"programs": PROGRAMS, "records": RECORDS, "not_run": "|".join(_NOT_RUN), "covered": _COVERED}
    for name in _DETACHERS:
        write_program(PROGRAMS + "/" + name, _DETACHER % names)
    write_program(LIBRARY + "/bash", _BASH % names)
    customize = {"programs": PROGRAMS, "records": RECORDS, "launchers": tuple(launchers), "modules": owners}
    write_program(LIBRARY + "/sitecustomize.py", _CUSTOMIZE % customize)


def cover_detachers(path: str) -> None:
    """Cover the programs on this PATH that may detach ranks, so that a call by an absolute path is recorded too.

    A link to a program of another name, as in busybox, stays as it is: that program does other work as well.
    """
    for name in _DETACHERS:
        found, covered = which(name, path), _COVERED + "/" + name
        program = os.path.realpath(found)
        if not found or os.path.basename(program) != name:
            continue
        write_program(covered, "")
        if sandbox.cover_program(covered, program):
            sandbox.cover_program(program, PROGRAMS + "/" + name)


def write_program(path: str, text: str) -> None:
    """Write an executable file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o755)
