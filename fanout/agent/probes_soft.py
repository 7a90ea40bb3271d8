"""The task's Python: which one train.sh will find, and what is installed there, without importing any of it."""

from __future__ import annotations

import json
import os
from typing import Any

from .probes_files import placed, which
from .probes_tools import NotHad, Program, search_path

# Runs in the task's interpreter. torch is looked at, never imported: its version file says CUDA's version too.
_LOOK = """
import sys, json, os, importlib.util
found = {}
for folder in sys.path:
    for entry in os.listdir(folder) if os.path.isdir(folder) else ():
        if entry.endswith((".dist-info", ".egg-info")):
            name, _, version = entry.rpartition(".")[0].partition("-")
            found.setdefault(name.lower().replace("_", "-"), version)
def spec(name):
    try: return importlib.util.find_spec(name)
    except Exception: return None
torch, home = {}, spec("torch")
if home and home.origin:
    names = {}
    try: exec(open(os.path.join(os.path.dirname(home.origin), "version.py")).read(), names)
    except Exception: pass
    torch = {"version": names.get("__version__") or found.get("torch"), "cuda": names.get("cuda"), "hip": names.get("hip")}
sys.path[:0] = json.loads(sys.argv[2])  # last: a user's email.py must not stand in for the library's
print(json.dumps({"version": list(sys.version_info[:3]), "executable": sys.executable, "prefix": sys.prefix,
 "packages": found, "torch": torch, "absent": [n for n in json.loads(sys.argv[1]) if not spec(n)]}))
"""


def start(args: dict[str, Any]) -> Program:
    """Begin to ask the python beside torchrun, else the first ``python3`` on train.sh's PATH."""
    path = search_path(args)
    torchrun = which("torchrun", path)
    beside = os.path.join(os.path.dirname(torchrun), "python3") if torchrun else ""
    python = beside if beside and os.access(beside, os.X_OK) else which("python3", path)
    if not python:
        raise NotHad("no python3 on PATH")
    task = args.get("paths", {}).get("task", "")
    top = placed(".", args)
    roots = [os.path.dirname(placed(task, args)) if task else top, os.path.join(top, "VeOmni"), top]
    imports = json.dumps(list(args.get("imports", ())))
    env = dict(os.environ, PATH=path, PYTHONDONTWRITEBYTECODE="1")  # a look leaves nothing behind
    return Program([python, "-c", _LOOK, imports, json.dumps(roots)], env, float(args.get("software_seconds", 8.0)))


def finish(program: Program) -> dict[str, Any]:
    status, text = program.output()
    if status != 0:
        raise NotHad("%s: %s" % (program.name, " ".join(text.split())[-300:]))
    found: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return found
