"""A third off the price of importing fabric: what its libraries import and we hardly ever reach is put off.

invoke, under fabric, takes in ``unittest.mock`` (and with it asyncio and ssl) for its MockContext, and a YAML of its own
for configuration files; paramiko takes in ``importlib.metadata`` (and with it email and zipfile) to learn its own
version. Every start of fanout would pay some 60 ms for them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

RARELY_REACHED = ("unittest.mock", "invoke.vendor.yaml", "importlib.metadata")


class _Later(ModuleType):
    """Stands for a module whose names are only called: the first call imports the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **options: Any) -> Any:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
            return getattr(importlib.import_module(self.__name__), name)(*args, **options)

        return call


class _Versions(_Later):
    """Stands for ``importlib.metadata``: the version of a package is in the name of the directory beside it."""

    def version(self, package: str) -> str:
        spec = importlib.util.find_spec(package)
        beside = os.listdir(os.path.dirname(os.path.dirname(spec.origin))) if spec is not None and spec.origin else []
        for name in beside:
            if name.startswith(f"{package}-") and name.endswith(".dist-info"):
                return name.removeprefix(f"{package}-").removesuffix(".dist-info")
        return str(self.__getattr__("version")(package))  # the real one knows of other places


@contextmanager
def put_off(*names: str) -> Iterator[None]:
    """While this lasts, an import of one of these gets a stand-in; afterwards it is the real module again.

    What has been imported before is left as it is.
    """
    kinds = {"importlib.metadata": _Versions}
    stand_ins = {name: kinds.get(name, _Later)(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
