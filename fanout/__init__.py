"""Launch multi-host PyTorch training over SSH.

The functions run, start, check, plan and record are the Python API; docs/api.md describes them.
"""

from __future__ import annotations

import sys

__version__ = "0.1.0"
API = ("run", "start", "check", "plan", "record")


def _make_property(name: str) -> property:
    """Return a property that imports a function of the API at its first use, so that ``fanout --help`` need not.

    ``run`` and ``record`` are also packages. Their import sets an attribute of this package, which must stay the function.
    """

    def import_call(package: object) -> object:
        from importlib import import_module

        return getattr(import_module("fanout.api.calls"), name)

    def keep_call(package: object, value: object) -> None:
        """Ignore the package that was imported: sys.modules has it."""

    return property(import_call, keep_call)


_Package = type("_Package", (type(sys),), {name: _make_property(name) for name in API})
sys.modules[__name__].__class__ = _Package
