"""The task's Python: which one train.sh will find, and which packages it has, without importing them."""

from __future__ import annotations

import json
import os

from .files import find_python, resolve_path, which
from .probe_tools import FactUnavailable, ToolProcess, search_path

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

# Runs in the task's Python. torch is inspected, never imported: its version file also has CUDA's version. It imports
# only modules that Python has loaded already: json and importlib.util would add half of the whole time.
_INSPECTION = """
import sys, os
found = {}
for folder in sys.path:
    for entry in os.listdir(folder) if os.path.isdir(folder) else ():
        if entry.endswith((".dist-info", ".egg-info")):
            name, _, version = entry.rpartition(".")[0].partition("-")
            found.setdefault(name.lower().replace("_", "-"), version)
def spec(name):
    if name in sys.modules: return sys.modules[name].__spec__
    above, where = name.rpartition(".")[0], None
    if above:
        where = spec(above) and spec(above).submodule_search_locations
        if not where: return None
        where = list(getattr(where, "_path", where))  # a namespace package is not imported
    for finder in sys.meta_path:
        try: seen = finder.find_spec(name, where)
        except Exception: return None
        if seen: return seen
torch, home = {}, spec("torch")
if home and home.origin:
    names = {}
    try: exec(open(os.path.join(os.path.dirname(home.origin), "version.py")).read(), names)
    except Exception: pass
    torch = {"version": names.get("__version__") or found.get("torch"), "cuda": names.get("cuda"), "hip": names.get("hip")}
    try: baton = open(os.path.join(os.path.dirname(home.origin), "utils", "file_baton.py")).read()
    except OSError: baton = ""
    torch["baton"] = int("O_EXCL" in baton and "flock" not in baton)
def unreadable(task):
    try: compile(open(task, "rb").read(4 << 20), task, "exec", 1024, True)  # ast.PyCF_ONLY_AST: read, and not made runnable
    except (SyntaxError, ValueError) as error: return "line %s: %s" % (getattr(error, "lineno", "?"), getattr(error, "msg", error))
    except OSError: pass
    return ""
syntax = unreadable(sys.argv[2]) if sys.argv[2].endswith(".py") else ""
imports, sys.path[:0] = sys.argv[1].split(), sys.argv[3:]  # last: a user's email.py must not stand in for the library's
def encode(value):
    if value is None: return "null"
    if isinstance(value, dict): return "{%s}" % ",".join(encode(key) + ":" + encode(value[key]) for key in value)
    if isinstance(value, list): return "[%s]" % ",".join(map(encode, value))
    if isinstance(value, int): return str(value)
    units = str(value).encode("utf-16-be", "surrogatepass").hex()
    return '"%s"' % "".join("\\\\u" + units[at:at + 4] for at in range(0, len(units), 4))
def place(name):
    seen = spec(name)
    where = seen and (list(seen.submodule_search_locations or ()) or [seen.origin])[0]
    return where if where and any(os.path.dirname(where) == (root or os.getcwd()) for root in sys.argv[3:]) else ""
DYNAMIC = "import *", "__getattr__", "globals()", "locals()", "vars(", "__dict__", "setattr(", "sys.modules", "exec(", "eval("
def defines(module, name):  # whether the module may have the name: it is not imported, so its text decides
    seen = spec(module)
    if not seen or not str(seen.origin).endswith(".py") or module in ("__main__", "__future__"): return True
    try: text = open(seen.origin, encoding="utf-8", errors="replace").read(4 << 20)
    except OSError: return True
    return name in text or any(word in text for word in DYNAMIC) or bool(spec(module + "." + name))
def lacks(name):
    if ":" in name: return [] if defines(*name.split(":")) else [name]
    if not name.endswith(".__main__"): return [] if name in ("__main__", "__future__") or spec(name) else [name]
    base = name.rpartition(".")[0]
    if not spec(base): return [base]
    return [name] if spec(base).submodule_search_locations is not None and not spec(name) else []  # a package that cannot be run
absent = [each for name in imports for each in lacks(name)]
managed = sys.prefix == sys.base_prefix and os.path.exists(os.path.join(os.path.dirname(os.__file__), "EXTERNALLY-MANAGED"))
print(encode({"version": list(sys.version_info[:3]), "executable": sys.executable, "prefix": sys.prefix,
 "packages": found, "torch": torch, "syntax": syntax, "absent": absent, "pip": "system" if managed else "yes" if spec("pip") else "",
 "own": {name: place(name) for name in imports if name not in absent and place(name)}}))
"""


def start_python(args: dict[str, Any]) -> ToolProcess:
    """Start the run's Python: ``args["python"]``, else that of torchrun, else the first on train.sh's PATH. Raises
    FactUnavailable."""
    path = search_path(args)
    python = args.get("python") or find_python(which("torchrun", path)) or which("python3", path)
    if not python:
        raise FactUnavailable("no python3 on PATH")
    task = args.get("paths", {}).get("task", "")
    top = resolve_path(".", args)
    file = resolve_path(task, args) if task else ""
    roots = [
        top if not task or args.get("is_module") else os.path.dirname(file),
        os.path.join(top, "VeOmni"),
        top,
        *args.get("roots", ()),
    ]
    imports = " ".join(args.get("imports", ()))
    env = dict(os.environ, PATH=path, PYTHONDONTWRITEBYTECODE="1")  # the inspection leaves no files behind
    return ToolProcess(
        [python, "-c", _INSPECTION, imports, file, *roots], env, float(args.get("software_seconds", 8.0))
    )


def finish_python(program: ToolProcess) -> dict[str, Any]:
    """Return the parsed output of the inspection. Raises FactUnavailable."""
    status, text = program.get_output()
    try:
        found = json.loads(text.strip().splitlines()[-1]) if status == 0 else None
    except (ValueError, IndexError):
        found = None
    if not isinstance(found, dict):
        raise FactUnavailable("%s: %s" % (program.path, " ".join(text.split())[-300:] or "it printed nothing"))
    return found


def ask_software(args: dict[str, Any]) -> dict[str, Any]:
    """Return the same for one Python alone: the one that train.sh was seen to start (``args["python"]``)."""
    return finish_python(start_python(args))
