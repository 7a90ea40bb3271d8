"""The agent as one compressed text, and the constant command that lets a host take it in.

Nothing is installed: the host's python reads the text from stdin and loads the modules in memory. The command is the
only shell text that we ever send. It holds nothing of the user's, is one line in single quotes without ``!``, ``'`` or
a newline, and so means the same to sh, bash, zsh, fish and csh. The host speaks first (``@nonce READY``), so whatever
its rc files print or read is over before a byte of ours is sent.
"""

from __future__ import annotations

import functools
import struct
import threading
import zlib
from pathlib import Path

MODULES = (
    "frames",
    "place",
    "procs",
    "record",
    "spawn",
    "spool",
    "sweep",
    "audience",
    "gauge",
    "hello",
    "ending",
    "lease",
    "memory",
    "neighbours",
    "oom",
    "rest",
    "sources",
    "joining",
    "keeper",
    "prepare",
    "questions",
    "ranklogs",
    "relay",
    "shim",
)

_TAKE_IN = (
    "import os,sys,zlib;"
    'r=lambda n,b=b"":b if len(b)>=n else r(n,b+(os.read(0,n-len(b)) or sys.exit(3)));'
    'os.write(1,("\\n@%s READY %d.%d\\n"%(sys.argv[1],*sys.version_info[:2])).encode());'
    'exec(zlib.decompress(r(int.from_bytes(r(4),"big"))))'
)

# A loader for modules that are only in memory: relative imports among them work as in the package they come from.
_LOADER = """
import sys
from _frozen_importlib import ModuleSpec
class Loader:
    def find_spec(self, name, path=None, target=None):
        if name == "fanout_agent" or name.startswith("fanout_agent.") and name[13:] in SOURCES:
            return ModuleSpec(name, self, is_package=name == "fanout_agent")
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        name = module.__name__[13:]
        if name:
            exec(compile(SOURCES[name], "<fanout>/" + name + ".py", "exec"), module.__dict__)
sys.meta_path.insert(0, Loader())
from fanout_agent import relay
relay.main()
"""


def command(nonce: str, python: str = "python3") -> str:
    """Return the login shell's command line. ``nonce`` is hex of ours; ``python`` must be a plain path (checked here).

    ``-X utf8``: paths and values are bytes that the launcher read as UTF-8, whatever the locale of the host is.
    """
    if not nonce.isalnum():
        raise ValueError("a nonce is letters and digits")
    if not python or not all(letter.isalnum() or letter in "/._+-~" for letter in python) or python[0] == "-":
        raise ValueError(f"not a path to a python: {python!r}")
    return f"exec {python} -I -S -X utf8 -c '{_TAKE_IN}' {nonce}"


def collective() -> str:
    """The text that the deep check gives to the task's Python; no part of the agent."""
    return (Path(__file__).parent / "collective.py").read_text(encoding="utf-8")


def dump_reader() -> str:
    """The text that reads dumps of torch's flight recorder, for the launcher: in a process of its own, as on a host."""
    return (Path(__file__).parent / "probes_dump.py").read_text(encoding="utf-8")


def packed() -> bytes:
    """The agent, ready to be written to a host that said READY: 4 bytes of length, then zlib."""
    with _PACKING:  # the hosts' threads may come for it before it is made: they wait, and do not make it themselves
        return _packed()


_PACKING = threading.Lock()


@functools.cache
def _packed() -> bytes:
    here = Path(__file__).parent
    names = MODULES + tuple(sorted(path.stem for path in here.glob("probes*.py")))
    sources = {name: (here / f"{name}.py").read_text(encoding="utf-8") for name in names}
    body = zlib.compress(f"SOURCES = {sources!r}\n{_LOADER}".encode(), 6)
    return struct.pack("!I", len(body)) + body
