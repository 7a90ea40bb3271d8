"""A fifth off the price of importing fabric: what its libraries import and we hardly ever reach is put off.

invoke, under fabric, takes in ``unittest.mock`` (and with it asyncio and ssl) for its MockContext, and a YAML of its own
for configuration files. Every start of fanout would pay some 50 ms for them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

RARELY_REACHED = ("unittest.mock", "invoke.vendor.yaml")


class _Later(ModuleType):
    """Stands for a module whose names are only called: the first call imports the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **options: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*args, **options)

        return call


@contextmanager
def put_off(*names: str) -> Iterator[None]:
    """While this lasts, an import of one of these gets a stand-in; afterwards it is the real module again.

    What has been imported before is left as it is.
    """
    stand_ins = {name: _Later(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
