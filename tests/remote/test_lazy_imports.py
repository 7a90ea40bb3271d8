"""What is put off when fabric is imported is put off for fabric alone, and is there when it is called."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fanout.remote.transports.lazy_imports import lazy_imports


def in_a_new_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.process
def test_fabric_comes_without_mocks_asyncio_and_a_yaml_of_its_own() -> None:
    found = in_a_new_process("import sys, fanout.remote.transports.builtin_ssh; print(*sys.modules)").split()
    assert "fabric" in found
    assert not {"unittest.mock", "invoke.vendor.yaml", "asyncio", "importlib.metadata", "email"} & set(found)


@pytest.mark.process
def test_paramiko_knows_its_version_all_the_same() -> None:
    code = "import fanout.remote.transports.builtin_ssh, paramiko; from importlib import metadata as m; print(paramiko.__version__, m.version('paramiko'))"
    ours, printed = in_a_new_process(code).split()
    assert ours == printed


def test_lazy_module_is_imported_on_its_first_call() -> None:
    """A version that is in no directory's name is asked of the real module."""
    import importlib.metadata

    real = sys.modules.pop("importlib.metadata")
    try:
        with lazy_imports("importlib.metadata"), pytest.raises(Exception, match="no-such-package"):
            sys.modules["importlib.metadata"].version("no-such-package")
    finally:
        sys.modules["importlib.metadata"] = importlib.metadata = real


@pytest.mark.process
def test_later_imports_get_the_real_module() -> None:
    printed = in_a_new_process(
        "import fanout.remote.transports.builtin_ssh, unittest.mock; print(unittest.mock.Mock()(1))"
    )
    assert printed.startswith("<Mock name=")


def test_imported_module_is_left_unchanged() -> None:
    import json

    with lazy_imports("json"):
        assert sys.modules["json"] is json


def test_deferred_import_completes_before_a_call() -> None:
    sys.modules.pop("colorsys", None)
    with lazy_imports("colorsys"):
        from colorsys import rgb_to_hsv
    assert "colorsys" not in sys.modules
    assert rgb_to_hsv(1.0, 1.0, 1.0) == (0.0, 0.0, 1.0)
    assert "colorsys" in sys.modules
