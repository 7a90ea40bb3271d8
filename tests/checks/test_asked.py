"""Who answers a question, and what a host has to take in for it: its own modules, and none that a host has no use for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fanout.agent.probes import registry

_TAKEN_IN = """
import sys, types
package = types.ModuleType("fanout_agent"); package.__path__ = [sys.argv[1]]
sys.modules["fanout_agent"] = package
from fanout_agent.probes import registry
registry.load_probe(sys.argv[2])
print(*sorted(name.partition(".")[2] for name in sys.modules if name.startswith("fanout_agent.probes")))
print("typing" in sys.modules)
"""


def taken_in(question: str) -> tuple[set[str], bool]:
    """The modules of probes that a bare Python loads to answer it, and whether it came to typing."""
    argv = [sys.executable, "-I", "-S", "-c", _TAKEN_IN, str(Path(registry.__file__).parent.parent), question]
    names, typing = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    return set(names.split()), typing == "True"


@pytest.mark.process
@pytest.mark.parametrize("question", sorted(registry._REGISTRY))
def test_every_question_is_answered_without_typing(question: str) -> None:
    """What only annotations need would cost each host as long as a login: nothing that answers imports it."""
    names, typing = taken_in(question)
    assert "probes.registry" in names
    assert not typing


@pytest.mark.process
@pytest.mark.parametrize(
    ("question", "not_for_it"), [("clock", "probes.host"), ("runs", "probes.gpu"), ("facts", "probes.stacks")]
)
def test_a_host_takes_in_only_what_it_is_asked_for(question: str, not_for_it: str) -> None:
    """The sources are compiled there: a list of runs does not pay for a check."""
    assert not_for_it not in taken_in(question)[0]


def test_a_question_that_nobody_knows_is_an_error() -> None:
    """Never an answer that looks like one."""
    with pytest.raises(KeyError):
        registry.load_probe("no-such-question")
