"""Advice and victims in words that fit the run: what all hosts lack, and what fanout itself stopped."""

from __future__ import annotations

import pytest

from tests.diagnose.kit import Run, verdict

DEATH_SIGNAL = (
    b"W1130 12:57:07.006000 15323 torch/distributed/elastic/agent/server/api.py:753] "
    b"Received 15 death signal, shutting down workers\n"
)


@pytest.mark.parametrize(
    ("ranks", "advice"), [((0, 1, 2, 3), "install it on every host"), ((2, 3), "a different environment than on")]
)
def test_the_advice_about_a_missing_module_depends_on_the_hosts_without_it(ranks: tuple[int, ...], advice: str) -> None:
    run = Run()
    for rank in ranks:
        run.raises(rank, "ModuleNotFoundError: No module named 'flash_attn'")
    hosts = ("gpu01", "gpu02") if 0 in ranks else ("gpu02",)
    found = verdict(run.pass_time(1.0).end_hosts(*hosts, code=1))
    assert found.advice[0].startswith(advice)


def test_a_torchrun_that_fanout_stopped_is_no_victim() -> None:
    """The same line on a host that fanout did not stop is one."""
    run = Run().raises(3, "ValueError: bad sample").pass_time(0.5).end_hosts("gpu02", code=1)
    run.stop_hosts("gpu02: exit 1", "gpu01").pass_time(0.1).add_output("gpu01", DEATH_SIGNAL).pass_time(1.0)
    assert verdict(run.end_hosts("gpu01", code=1)).victims == ()
    run = Run().raises(3, "ValueError: bad sample").pass_time(0.5).end_hosts("gpu02", code=1)
    run.add_output("gpu01", DEATH_SIGNAL).pass_time(1.0)
    assert [each.host for each in verdict(run.end_hosts("gpu01", code=1)).victims] == ["gpu01"]
