"""Lazy imports: import rarely used modules of fabric's libraries on first use, which saves a third of its import time.

invoke, under fabric, imports ``unittest.mock`` (and with it asyncio and ssl) for its MockContext, and a YAML of its own
for configuration files. paramiko imports ``importlib.metadata`` (and with it email and zipfile) to find its own version.
Without this module every start of fanout would take some 60 ms longer.
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


class _LazyModule(ModuleType):
    """Stand-in for a module that is only used to call functions. The first call imports the real module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **options: Any) -> Any:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
            return getattr(importlib.import_module(self.__name__), name)(*args, **options)

        return call


class _LazyMetadata(_LazyModule):
    """Stand-in for ``importlib.metadata`` that reads a version from the name of the .dist-info directory."""

    def version(self, package: str) -> str:
        spec = importlib.util.find_spec(package)
        beside = os.listdir(os.path.dirname(os.path.dirname(spec.origin))) if spec is not None and spec.origin else []
        for name in beside:
            if name.startswith(f"{package}-") and name.endswith(".dist-info"):
                return name.removeprefix(f"{package}-").removesuffix(".dist-info")
        return str(self.__getattr__("version")(package))  # the real module searches other places


@contextmanager
def lazy_imports(*names: str) -> Iterator[None]:
    """Give imports of these modules a stand-in inside the ``with`` block; later imports get the real module.

    Modules that were imported before are left unchanged.
    """
    kinds = {"importlib.metadata": _LazyMetadata}
    placeholders = {name: kinds.get(name, _LazyModule)(name) for name in names if name not in sys.modules}
    sys.modules.update(placeholders)
    try:
        yield
    finally:
        for name, module in placeholders.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
