"""A host with a container, and a stand-in for an engine: it runs the command on this machine."""

from __future__ import annotations

from pathlib import Path

from fanout.model.hosts import Host, Origin

_ENGINE = """\
#!/bin/sh
if [ "$1" = exec ]; then name=$3; else for name; do :; done; fi
echo "$0 $1 $2" >> "$(dirname "$0")/calls"
[ "$name" = work ] || { echo "Error: No such container: $name" >&2; exit 1; }
case $1 in
exec) [ {state} = running ] || { echo "Error: container work is not running" >&2; exit 1; }; shift 3; exec "$@";;
*) echo {state};;
esac
"""


def build_container_host(*, name: str = "gpu01", container: str = "work", engine: str | None = None) -> Host:
    return Host(name=name, origin=Origin(file="hosts.txt", line=1), container=container, engine=engine)


def write_engine(directory: Path, name: str, *, state: str = "running") -> None:
    """Write a program that answers as an engine whose only container is ``work``, in this state."""
    path = directory / name
    path.write_text(_ENGINE.replace("{state}", state))
    path.chmod(0o755)


_IMAGE_ENGINE = """\
#!/bin/sh
here=$(dirname "$0")
case "$1 $2" in
"container inspect") [ -e "$here/runs" ] && echo running || { echo "Error: no such container $5" >&2; exit 125; };;
"image inspect") [ "$3" = IMAGE ] || { echo "Error: $3: image not known" >&2; exit 125; };;
"info -f") echo 'SECURITY';;
run*) [ ! -e "$here/runs" ] || { echo "Error: the container name is already in use by 0123456789ab" >&2; exit 125; }
      case " $* " in *" IMAGE "*) ;; *) echo "Error: image not known" >&2; exit 125;; esac
      for word; do printf '%s\\n' "$word"; done > "$here/arguments"
      REFUSAL
      case " $* " in *" -d "*) touch "$here/runs";; esac; echo 0123456789ab;;
exec*) shift 3; exec "$@";;
kill*) touch "$here/killed";;
rm*) case "$0 $3" in *docker" -t") echo "unknown shorthand flag: 't' in -t" >&2; exit 125;; esac; rm -f "$here/runs";;
*) exit 0;;
esac
"""


def write_image_engine(
    directory: Path, name: str, *, image: str = "train:1", security: str = "", refusal: str = ""
) -> None:
    """Write a program that answers as an engine with one image, and writes the words of ``run`` to a file.

    ``refusal`` is the message with which it refuses to create a container.
    """
    refuse = f"echo '{refusal}' >&2; exit 125" if refusal else ""
    path = directory / name
    path.write_text(_IMAGE_ENGINE.replace("IMAGE", image).replace("SECURITY", security).replace("REFUSAL", refuse))
    path.chmod(0o755)


def read_run_words(directory: Path) -> list[str]:
    """Return the words that the engine got for ``run``, without the source of the first process."""
    return (directory / "arguments").read_text().split("\n-c\n")[0].splitlines()
