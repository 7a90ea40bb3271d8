"""Real parsers of other launchers, run on one line; results have the form of ``fanout.hostfile.other_launchers``."""

from __future__ import annotations

import ast
import collections
import functools
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from fanout.hostfile.other_launchers import PeerReading

PEERS_DIR = Path(__file__).parents[2] / "build" / "peers"


class Quiet:
    """A logger that discards what DeepSpeed's function reports."""

    def error(self, text: str) -> None:
        pass


def find_program(name: str) -> str | None:
    """Return the path of another launcher's program: in the folder that peers.sh fills, else on PATH."""
    return shutil.which(name, path=f"{PEERS_DIR / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")


def _run_program(*argv: str) -> tuple[int, str]:
    environ = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, env=environ, check=False)
    return done.returncode, done.stdout.decode("utf-8", "replace")


def read_with_openmpi(line: str, folder: Path) -> PeerReading:
    """Return ``prterun``'s allocation table; the count that it takes from this machine's CPUs is None."""
    file = folder / "openmpi.txt"
    file.write_bytes(line.encode() + b"\n")
    prterun = find_program("prterun") or "prterun"
    options = ("--allow-run-as-root", "--display", "allocation", "--do-not-launch", "-n", "1")
    code, out = _run_program(prterun, *options, "--hostfile", str(file), "true")
    if code == 213 and not re.search(r"slots", line):  # nothing allocated: the line named no host
        return ()
    if code:
        return None
    table = out.split("ALLOCATED NODES", 1)[1].split("=====\n\n")[0].split("======\n")[1]
    counted = re.search(r"\b(?:slots|cpu|count)\b", line) is not None
    found = re.findall(r"^    (\S+): slots=(\d+)", table, re.MULTILINE)
    here = socket.gethostname().partition(".")[0]  # it runs here when no host is left
    return tuple((host, int(slots) if counted else None) for host, slots in found if host != here)


def read_with_mpich(line: str, folder: Path) -> PeerReading:
    """Return Hydra's list of proxies, with a launcher that starts nothing."""
    file = folder / "mpich.txt"
    file.write_bytes(line.encode() + b"\n")
    launcher = ("-verbose", "-launcher", "ssh", "-launcher-exec", "/bin/false")
    code, out = _run_program(
        find_program("mpiexec.hydra") or "mpiexec.hydra", *launcher, "-f", str(file), "-n", "64", "true"
    )
    found = re.findall(r"^ *\[\d+\] proxy: (\S+) \((\d+) cores\)", out, re.MULTILINE)
    if not found:
        return None if code else ()
    if not line.strip() or line.strip().startswith("#"):
        return ()  # an empty list makes it run here
    return tuple((host, int(cores)) for host, cores in found)


def read_with_pdsh(line: str, folder: Path) -> PeerReading:
    """Return the hosts of ``pdsh -Q``."""
    file = folder / "pdsh.txt"
    file.write_bytes(line.encode() + b"\n")
    code, out = _run_program("pdsh", "-R", "exec", "-Q", "-w", f"^{file}")
    hosts = out.strip().splitlines()[-1].split(",") if out.strip() else []
    if code:
        return () if not line.partition("#")[0].strip() else None
    return tuple((host, None) for host in hosts)


# cluset's own main, once per word in one interpreter: a new interpreter for each takes ten times as long.
_CLUSET = """
import contextlib, io, json, sys
from ClusterShell.CLI.Nodeset import main
found = {}
for word in json.load(sys.stdin):
    sys.argv = ["cluset", "-e", "-S", "\\n", "--", word]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        try:
            code = main() or 0
        except SystemExit as stop:
            code = stop.code or 0
    found[word] = None if code else out.getvalue().split()
json.dump(found, sys.stdout)
"""


@functools.cache
def _run_cluset() -> dict[str, list[str] | None]:
    """Return ClusterShell's result for each word of lines.txt."""
    words = (Path(__file__).parent / "lines.txt").read_text().split()
    python = str(PEERS_DIR / "bin" / "python")
    done = subprocess.run([python, "-c", _CLUSET], input=json.dumps(words), capture_output=True, text=True, check=True)
    answer: dict[str, list[str] | None] = json.loads(done.stdout)
    return answer


def read_with_clush(line: str, folder: Path) -> PeerReading:
    """Return the result of ``cluset -e`` for each word, as ``clush --hostfile`` reads them."""
    hosts: dict[str, None] = {}
    for word in line.split():
        names = _run_cluset()[word]
        if names is None:
            return None
        hosts |= dict.fromkeys(names)
    return tuple((host, None) for host in hosts)


def read_with_deepspeed(line: str, folder: Path) -> PeerReading:
    """Run ``_parse_hostfile`` of DeepSpeed's own source, that function alone."""
    tree = ast.parse((PEERS_DIR / "deepspeed_runner.py").read_text())
    wanted = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "_parse_hostfile"]
    room: dict[str, object] = {"re": re, "collections": collections, "logger": Quiet()}
    exec(compile(ast.Module(body=list(wanted), type_ignores=[]), "runner.py", "exec"), room)
    parse = room["_parse_hostfile"]
    assert callable(parse)
    try:
        pool = parse([line + "\n", "a-last-host slots=1\n"])  # a file of comments alone would be an error
    except ValueError:
        return None
    return tuple((host, slots) for host, slots in pool.items() if host != "a-last-host")


ORACLES: dict[str, tuple[Callable[[str, Path], PeerReading], Callable[[], bool]]] = {
    "DeepSpeed": (read_with_deepspeed, (PEERS_DIR / "deepspeed_runner.py").exists),
    "Open MPI": (read_with_openmpi, lambda: find_program("prterun") is not None),
    "MPICH": (read_with_mpich, lambda: find_program("mpiexec.hydra") is not None),
    "pdsh": (read_with_pdsh, lambda: find_program("pdsh") is not None),
    "clush": (read_with_clush, (PEERS_DIR / "bin" / "cluset").exists),
}
