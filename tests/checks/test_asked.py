"""Probe imports: a host loads only the modules that its question needs."""

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


def list_loaded_modules(question: str) -> tuple[set[str], bool]:
    """Return the probe modules that a bare Python loads to answer the question, and whether it imported typing."""
    argv = [sys.executable, "-I", "-S", "-c", _TAKEN_IN, str(Path(registry.__file__).parent.parent), question]
    names, typing = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    return set(names.split()), typing == "True"


@pytest.mark.process
@pytest.mark.parametrize("question", sorted(registry._REGISTRY))
def test_every_question_is_answered_without_typing(question: str) -> None:
    """Modules that only annotations need would cost each host as much time as a login: no probe imports them."""
    names, typing = list_loaded_modules(question)
    assert "probes.registry" in names
    assert not typing


@pytest.mark.process
@pytest.mark.parametrize(
    ("question", "not_for_it"), [("clock", "probes.host"), ("runs", "probes.gpu"), ("facts", "probes.stacks")]
)
def test_a_host_loads_only_what_its_question_needs(question: str, not_for_it: str) -> None:
    """Each host compiles the sources that it receives: a list of runs does not pay for a check."""
    assert not_for_it not in list_loaded_modules(question)[0]


def test_an_unknown_question_is_an_error() -> None:
    """The host never returns a value for it."""
    with pytest.raises(KeyError):
        registry.load_probe("no-such-question")
