"""Metrics file: a parser of Prometheus reads it, and it is replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fanout.model.errors import UsageError
from fanout.model.outcome import outcome_of
from fanout.model.state import RunState, apply_event
from fanout.notify.metrics_file import Metrics, MetricsFile, check_metrics_path
from tests import histories


def read_samples(path: Path) -> dict[str, tuple[dict[str, str], float]]:
    families = text_string_to_metric_families(path.read_text())
    return {sample.name: (sample.labels, sample.value) for family in families for sample in family.samples}


def test_metrics_of_a_whole_run(tmp_path: Path) -> None:
    path = tmp_path / "run.prom"
    file = MetricsFile(str(path), run="R1", name='a"b\\c\nd')
    history = histories.good_run()
    state = RunState.initial(history.hosts, at=history.began_at)
    for event in history.events:
        state = apply_event(state, event)
        file.update(event, state, 1, Metrics(step=12, loss=float("nan"), speed=1500.5))
    labels, active = read_samples(path)["fanout_run_active"]
    assert (labels, active) == ({"run": "R1", "name": 'a"b\\c\nd'}, 1.0)
    file.finish(outcome_of(state), Metrics(step=40, loss=2.25), 1)
    samples = {name: value for name, (_, value) in read_samples(path).items()}
    assert samples["fanout_run_exit_code"] == 0.0
    assert (samples["fanout_step"], samples["fanout_loss"], samples["fanout_restarts"]) == (40.0, 2.25, 1.0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.prom"]
    check_metrics_path(str(path))


def test_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text("import torch\n")
    with pytest.raises(UsageError, match="exists, and fanout did not write it"):
        check_metrics_path(str(path))
    with pytest.raises(UsageError, match="no directory"):
        check_metrics_path(str(tmp_path / "none" / "run.prom"))
