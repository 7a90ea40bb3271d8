"""Slow ranks: one that reports it, one with fewer steps, one that all others wait for; and no other rank."""

from __future__ import annotations

import pytest

from fanout.diagnose.step_pace import StepTimes
from fanout.logs.metric_line import read_metrics
from fanout.model.events import StreamOpened
from tests.histories import History, play_events

HOSTS = ("gpu01", "gpu02", "gpu03", "gpu04")


def find_slow_texts(run: History) -> list[str]:
    pace = StepTimes()
    play_events(run.hosts, run.events, pace)
    return [str(each) for each in pace.find_slow()]


def start_pace() -> History:
    return History(*HOSTS).connect_hosts().start_hosts()


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
        run.pass_time(0.5)
        for host in HOSTS:
            run.add_output(host, f"step {step}/30 loss 1.0 step_time {0.45 if host == 'gpu03' else 0.2}\n".encode())
    assert find_slow_texts(run) == ["gpu03 reports 0.45 s per step, 2.2 times as long as the others (0.2 s)"]


def test_a_rank_with_fewer_steps() -> None:
    """The ranks do not wait for each other, and each has a stream of its own."""
    run = start_pace()
    for host in HOSTS:
        run.add_events(StreamOpened(at=run.at, host=host, stream=1, name=f"rank {HOSTS.index(host)}"))
    steps = dict.fromkeys(HOSTS, 0)
    for tick in range(1, 61):
        run.pass_time(0.1)
        for host in HOSTS:
            if host != "gpu02" or tick % 2 == 0:
                steps[host] += 1
                run.add_output(host, f"step {steps[host]}\n".encode(), stream=1)
    assert find_slow_texts(run) == ["rank 1 on gpu02 takes 0.2 s per step, 2.0 times as long as the others (0.1 s)"]


def test_a_rank_that_comes_last_to_every_step() -> None:
    run = start_pace()
    for step in range(1, 100):
        for host in HOSTS:
            if host == "gpu04":
                run.pass_time(0.2)
            run.add_output(host, f"step {step} loss 1.0\n".encode())
        run.pass_time(0.3)
    (text,) = find_slow_texts(run)
    assert text.startswith("gpu04 is the last to reach ")
    assert "0.2 s after the first (0.5 s per step)" in text


def test_no_rank_is_slow_if_all_are_equal_or_only_one_prints() -> None:
    run = start_pace()
    for step in range(1, 100):
        run.pass_time(0.3)
        for host in HOSTS[step % 4 :] + HOSTS[: step % 4]:
            run.add_output(host, f"step {step} loss 1.0 step_time 0.3{step % 4}\n".encode())
    assert find_slow_texts(run) == []
    alone = start_pace()
    for step in range(1, 100):
        alone.pass_time(0.3)
        alone.add_output("gpu01", f"step {step} step_time 9.0\n".encode())
    assert find_slow_texts(alone) == []


def test_a_step_number_that_two_chunks_carry_is_read_whole() -> None:
    """Each chunk alone would give the steps 1 to 9 only."""
    run = start_pace()
    for step in range(1, 100):
        run.pass_time(0.25)
        for host in HOSTS:
            line = f"{step} loss 1.0 step_time {0.9 if host == 'gpu02' else 0.2}\n"
            run.add_output(host, b"step " + line[:1].encode())
            run.add_output(host, line[1:].encode())
    assert find_slow_texts(run) == ["gpu02 reports 0.9 s per step, 4.5 times as long as the others (0.2 s)"]


def open_rank_streams(run: History, number: int = 1) -> History:
    """Give each host one stream of its rank."""
    for rank, host in enumerate(run.hosts):
        run.add_events(StreamOpened(at=run.at, host=host, stream=number, name=f"rank {rank}"))
    return run


def draw_bar(step: int, total: int, seconds: float = 0.5) -> bytes:
    return f"\r{100 * step // total:3}%|###       | {step}/{total} [00:01<00:09, {1 / seconds:5.2f}it/s]".encode()


def test_header_lines_are_no_steps_of_a_host() -> None:
    """As the Trainer does: every host prints its constants once, and only rank 0 has a bar."""
    run = start_pace()
    for host in HOSTS:
        run.add_output(host, b"  Gradient Accumulation steps = 1\n  Total optimization steps = 1,064\n")
    for step in range(1, 100):
        run.pass_time(0.5).add_output("gpu01", draw_bar(step, 1064))
    assert find_slow_texts(run) == []


@pytest.mark.parametrize("every", [5, 10, 50])
def test_a_host_that_prints_less_often_is_not_slow(every: int) -> None:
    run = start_pace()
    for step in range(1, 301):
        run.pass_time(0.2)
        for host in HOSTS:
            if host != "gpu03" or step % every == 0:
                run.add_output(host, f"step {step}/300 loss 1.0\n".encode())
    assert find_slow_texts(run) == []


def test_a_slow_rank_is_found_although_another_prints_less_often() -> None:
    run = open_rank_streams(start_pace())
    for tick in range(1, 601):
        run.pass_time(0.1)
        for host in HOSTS:
            step = tick // 2 if host == "gpu02" else tick
            if (host != "gpu02" or tick % 2 == 0) and (host != "gpu04" or tick % 20 == 0):
                run.add_output(host, f"step {step} loss 1.0\n".encode(), stream=1)
    assert find_slow_texts(run) == ["rank 1 on gpu02 takes 0.2 s per step, 2.0 times as long as the others (0.1 s)"]


def test_a_host_that_prints_from_another_rank_only_is_not_slow() -> None:
    run = open_rank_streams(start_pace())
    run.add_events(StreamOpened(at=run.at, host="gpu03", stream=2, name="rank 17"))
    for step in range(1, 100):
        run.pass_time(0.3)
        for host in HOSTS:
            run.add_output(host, f"step {step} loss 1.0\n".encode(), stream=2 if host == "gpu03" else 1)
    assert find_slow_texts(run) == []


@pytest.mark.parametrize("seconds", [2.0, 20.0])
def test_a_host_that_runs_an_evaluation_is_not_slow(seconds: float) -> None:
    """Rank 0 draws the bar of an evaluation without a name; the others wait for it in the next step."""
    run = start_pace()
    for step in range(1, 201):
        run.pass_time(0.3).add_output("gpu01", draw_bar(step, 200, 0.3))
        for host in HOSTS[1:]:
            run.add_output(host, f"step {step} loss 1.0\n".encode())
        if step % 40 == 0:
            for batch in range(1, 64):
                run.pass_time(seconds / 63).add_output("gpu01", draw_bar(batch, 63, seconds / 63))
    assert find_slow_texts(run) == []


def test_a_host_that_writes_checkpoints_is_not_slow() -> None:
    run = start_pace()
    for step in range(1, 201):
        run.pass_time(0.3)
        for host in HOSTS[1:]:
            run.add_output(host, f"step {step} loss 1.0\n".encode())
        if step % 10 == 0:
            run.pass_time(4.0)
        run.add_output("gpu01", f"step {step} loss 1.0\n".encode())
    assert find_slow_texts(run) == []


@pytest.mark.parametrize("lines", [8, 64])
def test_a_host_whose_output_comes_in_bursts_is_not_slow(lines: int) -> None:
    """By default Python writes to a pipe in blocks of 8 KB."""
    run = start_pace()
    kept = b""
    for step in range(1, 401):
        run.pass_time(0.2)
        for host in HOSTS:
            line = f"step {step} loss 1.0\n".encode()
            if host == "gpu04":
                kept += line
                if step % lines == 0:
                    run.add_output(host, kept)
                    kept = b""
            else:
                run.add_output(host, line)
    assert find_slow_texts(run) == []


def test_two_epochs_of_bars_give_growing_steps() -> None:
    run = start_pace()
    for epoch in range(3):
        for step in range(1, 41):
            run.pass_time(0.2)
            for host in HOSTS:
                slow = host == "gpu02"
                rate = 2.5 if slow else 5.0
                text = f"\rEpoch {epoch}: {step}%|##  | {step}/40 [00:01<00:09, {rate:5.2f}it/s, loss=1.0]"
                run.add_output(host, text.encode())
    assert find_slow_texts(run) == ["gpu02 reports 0.4 s per step, 2.0 times as long as the others (0.2 s)"]


def test_the_steps_of_a_slow_rank_are_shown_beside_those_of_its_host() -> None:
    """The ranks do not wait for each other; the host's other rank is far ahead."""
    run = start_pace()
    for number, rank in ((1, 4), (2, 5)):
        run.add_events(StreamOpened(at=run.at, host="gpu03", stream=number, name=f"rank {rank}"))
    for tick in range(1, 241):
        run.pass_time(0.25).add_output("gpu03", f"step {tick} loss 1.0\n".encode(), stream=1)
        if tick % 2 == 0:
            run.add_output("gpu03", f"step {tick // 2} loss 1.0\n".encode(), stream=2)
    pace = StepTimes()
    play_events(run.hosts, run.events, pace)
    ranks = pace.summarize_ranks()
    assert ranks.steps == {"gpu03": (120, 240)}
    assert sorted((each.step, round(each.seconds, 2)) for each in ranks.paces) == [(120, 0.5), (240, 0.25)]


def test_ranks_in_step_have_no_range() -> None:
    run = open_rank_streams(start_pace())
    for step in range(1, 60):
        run.pass_time(0.25)
        for host in HOSTS:
            if host != "gpu02" or step % 10 == 0:
                run.add_output(host, f"step {step} loss 1.0\n".encode(), stream=1)
    pace = StepTimes()
    play_events(run.hosts, run.events, pace)
    assert pace.summarize_ranks().steps == {}
