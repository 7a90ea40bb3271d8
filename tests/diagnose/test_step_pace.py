"""Slow ranks: one that reports it, one with fewer steps, one that all others wait for; and no other rank."""

from __future__ import annotations

import pytest

from fanout.diagnose.step_pace import StepTimes
from fanout.logs.metric_line import read_metrics
from fanout.model.events import StreamOpened
from tests.histories import History, play

HOSTS = ("gpu01", "gpu02", "gpu03", "gpu04")


def told(run: History) -> list[str]:
    pace = StepTimes()
    play(run.hosts, run.events, pace)
    return [str(each) for each in pace.find_slow()]


def start_pace() -> History:
    return History(*HOSTS).link().start()


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("step 3/40 loss 4.000 step_time 0.41", 0.41),
        ("iter 100: loss 3.1, step time: 412 ms", 0.412),
        (" 30%|###   | 30/100 [00:12<00:28,  2.50it/s]", 0.4),
        (" 30%|###   | 30/100 [01:12<02:28,  2.40s/it]", 2.4),
        ("step 3 loss 1.0", None),
        ("took some time 12", None),
    ],
)
def test_durations_in_lines(line: str, seconds: float | None) -> None:
    reading = read_metrics(line)
    assert (reading.step_time if reading else None) == (pytest.approx(seconds) if seconds is not None else None)


def test_a_rank_that_reports_that_it_is_slow() -> None:
    """All ranks reach each step together, because they wait for each other; the line shows which rank did not wait."""
    run = start_pace()
    for step in range(1, 30):
        run.wait(0.5)
        for host in HOSTS:
            run.say(host, f"step {step}/30 loss 1.0 step_time {0.45 if host == 'gpu03' else 0.2}\n".encode())
    assert told(run) == ["gpu03 reports 0.45 s per step, 2.2 times as long as the others (0.2 s)"]


def test_a_rank_with_fewer_steps() -> None:
    """The ranks do not wait for each other, and each has a stream of its own."""
    run = start_pace()
    for host in HOSTS:
        run.add(StreamOpened(at=run.at, host=host, stream=1, name=f"rank {HOSTS.index(host)}"))
    steps = dict.fromkeys(HOSTS, 0)
    for tick in range(1, 61):
        run.wait(0.1)
        for host in HOSTS:
            if host != "gpu02" or tick % 2 == 0:
                steps[host] += 1
                run.say(host, f"step {steps[host]}\n".encode(), stream=1)
    assert told(run) == ["rank 1 on gpu02 takes 0.2 s per step, 2.0 times as long as the others (0.1 s)"]


def test_a_rank_that_comes_last_to_every_step() -> None:
    run = start_pace()
    for step in range(1, 100):
        for host in HOSTS:
            if host == "gpu04":
                run.wait(0.2)
            run.say(host, f"step {step} loss 1.0\n".encode())
        run.wait(0.3)
    (text,) = told(run)
    assert text.startswith("gpu04 is the last to reach ")
    assert "0.2 s after the first (0.5 s per step)" in text


def test_no_rank_is_slow_if_all_are_equal_or_only_one_prints() -> None:
    run = start_pace()
    for step in range(1, 100):
        run.wait(0.3)
        for host in HOSTS[step % 4 :] + HOSTS[: step % 4]:
            run.say(host, f"step {step} loss 1.0 step_time 0.3{step % 4}\n".encode())
    assert told(run) == []
    alone = start_pace()
    for step in range(1, 100):
        alone.wait(0.3)
        alone.say("gpu01", f"step {step} step_time 9.0\n".encode())
    assert told(alone) == []


def test_a_step_number_that_two_chunks_carry_is_read_whole() -> None:
    """Each chunk alone would give the steps 1 to 9 only."""
    run = start_pace()
    for step in range(1, 100):
        run.wait(0.25)
        for host in HOSTS:
            line = f"{step} loss 1.0 step_time {0.9 if host == 'gpu02' else 0.2}\n"
            run.say(host, b"step " + line[:1].encode())
            run.say(host, line[1:].encode())
    assert told(run) == ["gpu02 reports 0.9 s per step, 4.5 times as long as the others (0.2 s)"]
