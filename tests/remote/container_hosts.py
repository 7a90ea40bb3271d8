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
