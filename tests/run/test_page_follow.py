"""``fanout report --html FILE --follow``: the page during a run, at its end, after Ctrl-C, and with a second attempt."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fanout.cli.main import main
from tests.processes import end_process
from tests.record.test_attempts import RESTART, build_record, write_records
from tests.run.growing_record import GrowingRecord

pytestmark = pytest.mark.process

PATIENCE = 60.0
#: The command with pages every 0.2 seconds, so that a test need not wait for five.
QUICK = (
    "from fanout.run import page_writer; page_writer.REWRITE_SECONDS, page_writer.MOST_CPU = 0.2, 1.0\n"
    "from fanout.cli.main import entry; entry()"
)
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


def read_page(path: Path) -> dict[str, Any]:
    """Return the data of the page; {} if there is none yet. Half a page is an error."""
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert text.endswith("</html>")
    found = DATA.search(text)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def wait_for_page(path: Path, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
    """Read the page until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        page = read_page(path)
        if page and condition(page):
            return page
        select.select([], [], [], 0.05)  # a rename is no event that a reader can wait for
    raise AssertionError(f"not seen on the page: {what}")


def count_lines(page: dict[str, Any]) -> int:
    lines: int = page["attempts"][0]["log"]["lines_total"]
    return lines


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Return a function that starts the command in another process."""
    children: list[subprocess.Popen[str]] = []

    def start_follower() -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", QUICK, "report", "--html", "page.html", "-f", "--log-dir", str(tmp_path / "runs")]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        children.append(subprocess.Popen(argv, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True))
        return children[-1]

    yield start_follower
    for child in children:
        end_process(child)


def test_page_follows_the_run_and_each_attempt_to_the_end(
    tmp_path: Path, follower: Callable[[], subprocess.Popen[str]]
) -> None:
    """Every page that a reader finds is whole; the last one does not load itself again."""
    page, run = tmp_path / "page.html", tmp_path / "runs/7f3a"
    first = GrowingRecord(run)
    first.add_step(1)
    child = follower()
    shown = wait_for_page(page, lambda each: count_lines(each) > 2, "the first step")
    assert (shown["attempts"][0]["stage"], shown["live"]["every"]) == ("active", 0.2)
    assert shown["attempts"][0]["summary"]["headline"] == "tasks/train.py cfg.yaml · step 1"
    before = count_lines(shown)
    for step in range(2, 12):
        first.add_step(step)
    shown = wait_for_page(page, lambda each: count_lines(each) >= before + 20, "ten more steps")
    assert shown["attempts"][0]["curves"][0]["series"][0]["points"][-1][1] == pytest.approx(3.78)
    second = GrowingRecord(run / "attempt-1", run_id="7f3a.1", attempt=1)
    write_records(run, build_record(0, RESTART))
    first.end_run(code=1)
    shown = wait_for_page(page, lambda each: len(each["attempts"]) == 2, "attempt 1")
    assert [each["attempt"] for each in shown["attempts"]] == [1, 0]
    assert (shown["attempts"][1]["stage"], shown["attempts"][1]["summary"]["badge"]) == ("ended", "FAILED")
    second.end_run()
    assert child.wait(PATIENCE) == 0
    assert child.stderr is not None
    assert "run 7f3a.1 has ended; page.html is complete" in child.stderr.read()
    shown = read_page(page)
    assert (shown["live"], shown["attempts"][0]["summary"]["badge"]) == (None, "SUCCEEDED")
    assert sorted(os.listdir(tmp_path)) == ["page.html", "runs"]


def test_ctrl_c_ends_the_updates_and_leaves_a_whole_page(
    tmp_path: Path, follower: Callable[[], subprocess.Popen[str]]
) -> None:
    record = GrowingRecord(tmp_path / "runs/7f3a")
    child = follower()
    wait_for_page(tmp_path / "page.html", bool, "any page")
    child.send_signal(signal.SIGINT)
    assert child.wait(PATIENCE) == 130
    page = read_page(tmp_path / "page.html")
    assert (page["live"]["every"], page["attempts"][0]["stage"]) == (0, "active")
    assert sorted(os.listdir(tmp_path)) == ["page.html", "runs"]
    record.close()


def test_a_failure_is_on_the_page_before_the_run_has_ended(
    tmp_path: Path, follower: Callable[[], subprocess.Popen[str]]
) -> None:
    record = GrowingRecord(tmp_path / "runs/7f3a")
    follower()
    record.run.add_output("gpu02", b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n")
    record.run.pass_time(1).end_hosts("gpu02", code=1)
    record.write_events()
    shown = wait_for_page(
        tmp_path / "page.html", lambda each: each["attempts"][0]["cause"] is not None, "the first cause"
    )
    assert "gpu02 ran out of GPU memory" in shown["attempts"][0]["summary"]["headline"]
    assert shown["attempts"][0]["summary"]["badge"] == "FAILING gpu02"
    record.close()


def test_follow_needs_a_page_and_takes_an_ended_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    GrowingRecord(tmp_path / "runs/7f3a").end_run()
    place = ["--log-dir", str(tmp_path / "runs")]
    assert main(["report", "--follow", *place]) == 2
    assert "fanout report --html run.html --follow" in capsys.readouterr().err
    assert main(["report", "--follow", "--html", str(tmp_path / "page.html"), *place]) == 0
    assert read_page(tmp_path / "page.html")["live"] is None
