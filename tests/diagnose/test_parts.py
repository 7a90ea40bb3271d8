"""Parts of the diagnosis: texts of exit codes, grouping and folding of tracebacks, torchrun's summary, rank marks."""

from __future__ import annotations

import pytest

from fanout.diagnose import exit_codes
from fanout.diagnose.collector import EvidenceCollector
from fanout.diagnose.torchrun_lines import TorchrunParser
from fanout.diagnose.tracebacks import TracebackAssembler, fold_frames
from fanout.diagnose.verdict_text import render_lines
from fanout.logs import rank_prefix
from fanout.logs.metric_line import MetricReading, parse_growing_number, parse_line
from tests.diagnose.cases import CASES, ONE_A_HOST
from tests.diagnose.kit import Run, verdict


@pytest.mark.parametrize(
    ("code", "short"),
    [(3, "exit 3"), (-9, "SIGKILL"), (137, "SIGKILL"), (139, "SIGSEGV"), (255, "exit 255"), (1, "exit 1")],
)
def test_exit_codes_in_words(code: int, short: str) -> None:
    assert exit_codes.format_exit_code(code) == short


def test_a_signal_and_127_have_a_meaning_and_1_has_none() -> None:
    assert "kernel" in exit_codes.explain_exit_code(-9)
    assert exit_codes.explain_exit_code(127) == "the command was not found"
    assert exit_codes.explain_exit_code(1) == ""


@pytest.mark.parametrize(
    ("text", "body", "rank", "local"),
    [
        ("[rank5]: ValueError: x", "ValueError: x", 5, None),
        ("[default1]:[rank5]: x", "x", 5, 1),
        ("[default1]:x", "x", None, 1),
        ("[5]: x", "[5]: x", None, None),
        ("[rank7]:[E626 05:14:36.3 P.cpp:1] [PG ID 0] x", "[E626 05:14:36.3 P.cpp:1] [PG ID 0] x", 7, None),
        ("[PG ID 0 PG GUID 0(default_pg) Rank 3] x", "[PG ID 0 PG GUID 0(default_pg) Rank 3] x", 3, None),
        ("plain", "plain", None, None),
    ],
)
def test_marks_of_ranks(text: str, body: str, rank: int | None, local: int | None) -> None:
    assert rank_prefix.split_rank_prefix(text) == (body, rank, local)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("step 120 loss 2", 120),
        ("Epoch: 3", 3),
        ("  Gradient Accumulation steps = 1", None),
        (" 45%|### | 450/1000 [01:12<", 450),
        ("loss 2.3", None),
        ("iter=7", 7),
        ("Epoch 3: step 40/100 loss 2.0", 40),
        ("Epoch 2:  45%|### | 450/1000 [01:12<", 450),
        ("{'loss': 3.2, 'epoch': 4}", 4),
        ("step " + "1" * 5000, None),
    ],
)
def test_what_grows_while_training_goes_on(text: str, number: int | None) -> None:
    assert parse_growing_number(text) == number


def test_a_number_too_long_for_a_step_is_no_metric() -> None:
    assert parse_line(f"step {'1' * 5000} loss 2.5") == MetricReading(loss=2.5)


def test_a_progress_bar_longer_than_the_limit_keeps_the_line_numbers_and_hides_no_error() -> None:
    """tqdm rewrites one line of the file thousands of times; an error can follow in the same line."""
    run = Run()
    for step in range(400):
        run.add_output("gpu01", f"\rEpoch 1: {step}/400 [00:12<00:28,  2.50it/s]".encode())
    run.add_output("gpu01", b"\rRuntimeError: CUDA error: out of memory\n" + b"ok\n")
    run.out(0, "[rank0]: ValueError: bad label")
    collector = EvidenceCollector(run.hosts)
    for event in run.events:
        collector.add_event(event)
    found = {seen.text: seen.line for seen in collector.build_evidence().sightings}
    assert found == {"RuntimeError: CUDA error: out of memory": 3, "ValueError: bad label": 5}


def collect_tracebacks(*texts: tuple[int, str]) -> list[tuple[str, list[str]]]:
    """Feed (source, line) one after the other; return the tracebacks."""
    reader, out = TracebackAssembler(), []
    for number, (who, text) in enumerate(texts, 1):
        _, block = reader.add_line(who, text, number)
        if block is not None:
            out.append((block.last, block.lines))
    return out


def test_tracebacks_of_ranks_that_print_at_the_same_time_are_kept_apart() -> None:
    found = collect_tracebacks(
        (1, "Traceback (most recent call last):"),
        (2, "Traceback (most recent call last):"),
        (1, '  File "a.py", line 1, in f'),
        (2, '  File "b.py", line 2, in g'),
        (2, "KeyError: 2"),
        (1, "ValueError: 1"),
    )
    assert [last for last, _ in found] == ["KeyError: 2", "ValueError: 1"]
    assert found[1][1][1] == '  File "a.py", line 1, in f'


def test_a_line_of_another_in_the_middle_does_not_end_a_traceback() -> None:
    found = collect_tracebacks(
        (1, "Traceback (most recent call last):"), (1, "step 12 loss 2.0"), (1, "  x = 1"), (1, "AssertionError")
    )
    assert found[0][0] == "AssertionError"


def test_frames_of_libraries_are_folded_and_counted() -> None:
    text = fold_frames(
        [
            "Traceback (most recent call last):",
            '  File "/home/ann/train.py", line 9, in main',
            "    loss.backward()",
            "    ^^^^^^^^^^^^^^^",
            '  File "/opt/venv/lib/python3.11/site-packages/torch/_tensor.py", line 5, in backward',
            "    torch.autograd.backward(",
            '  File "/opt/venv/lib/python3.11/site-packages/torch/autograd/__init__.py", line 7, in backward',
            "    _engine_run_backward(",
            "RuntimeError: boom",
        ]
    )
    assert text == (
        "Traceback (most recent call last):",
        '  File "/home/ann/train.py", line 9, in main',
        "    loss.backward()",
        "  … 2 frames in torch folded",
        "RuntimeError: boom",
    )


def test_torchruns_summary_has_ranks_codes_and_the_processes_that_it_killed() -> None:
    run = Run().torchrun("gpu02", (3, 7), (2, -15))
    reader = TorchrunParser("gpu02", "gpu02.log")
    for chunk in (event for event in run.events if getattr(event, "stream", None) == 0 and event.host == "gpu02"):  # type: ignore[union-attr]
        for number, line in enumerate(chunk.data.decode().splitlines(), 1):  # type: ignore[union-attr]
            reader.parse_line(line, 0.0, number)
    assert {(each.rank, each.code, each.was_stopped, each.named) for each in reader.deaths.values()} == {
        (3, 7, False, True),
        (2, -15, True, False),
    }
    assert not reader.is_reading


@pytest.mark.parametrize("name", CASES)
def test_the_text_of_a_verdict_fits_a_screen_and_names_the_next_step(name: str) -> None:
    text = render_lines(verdict(CASES[name][0](), each=1 if name in ONE_A_HOST else 2))
    assert len(text) <= 40
    assert not any("None" in line or "{" in line for line in text)
    assert any(line.startswith("  confidence") for line in text)


def test_the_text_names_the_code_that_torchrun_hides() -> None:
    run = Run().torchrun("gpu02", (3, 7), (2, -15))
    assert any("exit 7 of rank 3 (torchrun itself exited with 1)" in line for line in render_lines(verdict(run)))
