"""Paths, arguments and values are bytes: a host with another locale than UTF-8 gets them unchanged."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.agent.agents import Agent, list_pythons

pytestmark = pytest.mark.process
TEXT = "projé 中文 \udcff"  # the last is a byte that is not UTF-8
LOCALES = {
    "Latin-1": {"LC_ALL": "en_US.ISO-8859-1"},
    "GBK": {"LC_ALL": "zh_CN.GBK"},
    "C": {"LC_ALL": "C"},
    "POSIX": {"LC_ALL": "POSIX"},
    "none": {},
    "UTF-8 that is not installed": {"LC_ALL": "de_DE.UTF-8"},
}


@pytest.fixture(scope="module")
def locale_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with locales that the C library does not include."""
    directory = tmp_path_factory.mktemp("locales")
    for language, charset in (("en_US", "ISO-8859-1"), ("zh_CN", "GBK")):
        argv = ["localedef", "-i", language, "-f", charset, str(directory / f"{language}.{charset}")]
        subprocess.run(argv, check=True, capture_output=True)
    return directory


@pytest.mark.parametrize("python", list_pythons(), ids=lambda path: Path(path).parent.parent.name)
@pytest.mark.parametrize("locale", LOCALES)
def test_text_arrives_unchanged(state: Path, tmp_path: Path, locale_path: Path, locale: str, python: str) -> None:
    cwd = tmp_path / TEXT
    cwd.mkdir()
    (cwd / f"needed {TEXT}").touch()
    argv = ["sh", "-c", 'pwd; echo "$1"; echo "$VALUE"', "sh", TEXT]
    with Agent(state, python=python, LOCPATH=str(locale_path), **LOCALES[locale]) as agent:
        answer = agent.prepare_run(argv, cwd, required_files=[f"needed {TEXT}"])
        assert answer["t"] == "prepared", answer
        agent.send_go({"VALUE": TEXT})
        exited, _, output = agent.end_run()
    assert exited["code"] == 0
    assert output == os.fsencode(f"{cwd}\n{TEXT}\n{TEXT}\n")


@pytest.mark.parametrize(
    ("argv", "value", "why"),
    [(["true"], "a\0b", "null byte"), (["true", "a\0b"], "", "null byte"), (["true"], "\ud800", "surrogates")],
    ids=["a NUL in a value", "a NUL in an argument", "half a character"],
)
def test_text_that_no_program_can_receive_is_reported(
    state: Path, tmp_path: Path, argv: list[str], value: str, why: str
) -> None:
    """The report has the cause, not the exit status of a shell that did not find its command."""
    with Agent(state) as agent:
        assert agent.prepare_run(argv, tmp_path)["t"] == "prepared"
        agent.send_go({"VALUE": value})
        exited, gone, _ = agent.end_run()
    assert exited["code"] == 126
    assert why in exited["why"]
    assert gone["left"] == []
