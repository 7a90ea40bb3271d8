"""Agent bundle: the agent as one compressed text, and the fixed command with which a host loads it.

Nothing is installed: the host's Python reads the text from stdin and loads the modules in memory. The command is the
only shell text that fanout sends. It contains nothing of the user's and is one line in single quotes without ``!``,
``'`` or a newline. So it means the same in sh, bash, zsh, fish and csh. The host writes first (``@nonce READY``). So
everything that its rc files print or read is finished before the launcher sends a byte.
"""

from __future__ import annotations

import functools
import struct
import threading
import zlib
from pathlib import Path

MODULES = (
    "frames",
    "claim_files",
    "state_dir",
    "processes",
    "torch_dirs",
    "run_files",
    "spawn",
    "log_spool",
    "kill_sweep",
    "relay_clients",
    "smi",
    "load_monitor",
    "hello",
    "background",
    "output_pipe",
    "outside_calls",
    "tree_stop",
    "lease",
    "overflow_buffer",
    "shared_claims",
    "run_claims",
    "oom_kills",
    "linger",
    "log_reader",
    "log_sender",
    "rendezvous",
    "keeper_frames",
    "run_start",
    "save_signal",
    "signal_inbox",
    "keeper",
    "prepare",
    "probe_input",
    "probe_runner",
    "rank_logs",
    "rank_processes",
    "file_tail",
    "relay",
    "stack_hook",
)

_BOOTSTRAP = (
    "import os,sys,zlib;"
    'r=lambda n,b=b"":b if len(b)>=n else r(n,b+(os.read(0,n-len(b)) or sys.exit(3)));'
    'os.write(1,("\\n@%s READY %d.%d\\n"%(sys.argv[1],*sys.version_info[:2])).encode());'
    'exec(zlib.decompress(r(int.from_bytes(r(4),"big"))))'
)

# A loader for modules that exist only in memory. Relative imports between them work as in the original package.
_LOADER = """
import sys
from _frozen_importlib import ModuleSpec
class Loader:
    def find_spec(self, name, path=None, target=None):
        if name == "fanout_agent" or name.startswith("fanout_agent.") and name[13:] in SOURCES:
            return ModuleSpec(name, self, is_package=name[13:] in ("", "probes"))
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        name = module.__name__[13:]
        if name:
            exec(compile(SOURCES[name], "<fanout>/" + name.replace(".", "/") + ".py", "exec"), module.__dict__)
sys.meta_path.insert(0, Loader())
from fanout_agent import relay
relay.main()
"""


def build_command(nonce: str, python: str = "python3") -> str:
    """Return the command line for the login shell. ``nonce`` is hex; ``python`` must be a plain path (checked here).

    ``-X utf8``: paths and values are bytes that the launcher decoded as UTF-8, and the host's locale may differ.
    Raises ValueError.
    """
    if not nonce.isalnum():
        raise ValueError("a nonce is letters and digits")
    if not python or not all(letter.isalnum() or letter in "/._+-~" for letter in python) or python[0] == "-":
        raise ValueError(f"not a path to a python: {python!r}")
    return f"exec {python} -I -S -X utf8 -c '{_BOOTSTRAP}' {nonce}"


def read_torch_worker() -> str:
    """Return the source that the deep check sends to the task's Python. It is not part of the agent."""
    return (Path(__file__).parent / "torch_worker.py").read_text(encoding="utf-8")


def read_container_holder() -> str:
    """Return the source of the first process of a container that fanout creates."""
    return (Path(__file__).parent / "container_holder.py").read_text(encoding="utf-8")


def read_dump_reader() -> str:
    """Return the source that reads flight recorder dumps, for the launcher's own child process."""
    return (Path(__file__).parent / "probes" / "flight_dump.py").read_text(encoding="utf-8")


def pack_agent() -> bytes:
    """Return the agent for a host that sent READY: 4 bytes of length, then zlib data."""
    with _PACK_LOCK:  # the hosts' threads may ask before the bundle is ready: they wait, and do not build it again
        return _pack_agent()


_PACK_LOCK = threading.Lock()


@functools.cache
def _pack_agent() -> bytes:
    here = Path(__file__).parent
    sources = {name: (here / f"{name}.py").read_text(encoding="utf-8") for name in MODULES}
    sources["probes"] = ""
    for path in sorted((here / "probes").glob("[a-z]*.py")):
        sources[f"probes.{path.stem}"] = path.read_text(encoding="utf-8")
    body = zlib.compress(f"SOURCES = {sources!r}\n{_LOADER}".encode(), 6)
    return struct.pack("!I", len(body)) + body
