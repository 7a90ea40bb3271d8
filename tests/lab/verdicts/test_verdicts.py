"""A few of the injected failures (``make verdicts`` has them all): real torchrun, real gloo, over real sshd."""

from __future__ import annotations

import dataclasses

import pytest

from tests.lab.lab import Lab
from tests.lab.verdicts.campaign import inject_fault, project_in
from tests.lab.verdicts.kinds import KINDS

CHOSEN = [("key-error", "last", "high"), ("order", "middle", "medium")]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "place", "confidence"), CHOSEN)
def test_the_verdict_names_what_was_injected(lab4: Lab, name: str, place: str, confidence: str) -> None:
    """A rank that raises, by its traceback; one that calls another collective, by where it stood beside the others."""
    (kind,) = (each for each in KINDS if each.name == name)
    with project_in(lab4) as project:
        result = inject_fault(project, kind, place)
    assert (result.named, result.mark, result.confidence) == (result.truth, "right", confidence), dataclasses.asdict(
        result
    )
