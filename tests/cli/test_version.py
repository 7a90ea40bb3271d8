"""``fanout --version``: it names the imported files, and warns of another package with a module of our name."""

from __future__ import annotations

from pathlib import Path

import pytest

import fanout
from fanout.cli.version import describe_version


def install_metadata(directory: Path, name: str, version: str, module: str) -> None:
    """Write what pip records about an installed distribution."""
    info = directory / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(f"{module},,\n{info.name}/RECORD,,\n")


def test_version_names_the_imported_files() -> None:
    first = describe_version().splitlines()[0]
    assert first == f"fanout {fanout.__version__} ({Path(fanout.__file__).parent})"


def test_version_warns_of_the_library_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_metadata(tmp_path, "fanout", "1.3.0", "fanout.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert "the package fanout 1.3.0 is installed too" in describe_version()


def test_version_warns_of_an_import_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_metadata(tmp_path, "fanout-launcher", "9.9", "fanout/__init__.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert "fanout-launcher 9.9 is installed, but Python imports version" in describe_version()
