"""HTML page of a run, as text: complete, self-contained, and safe from any log line. In a browser: tests/browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.cli.main import main
from fanout.model.events import Heartbeat, StreamOpened
from fanout.ui.html.page import to_script_json
from fanout.ui.html.timeline import Curve, iter_load_values
from tests import histories
from tests.histories import History
from tests.record.test_run_writer import write_run

EVIL = "</script><img src=x onerror=\"document.title='pwned'\"><!--<script>{{data}}{{script}}\u2028&lt;\x00\x1b[2J]]>"


class Tags(HTMLParser):
    """Every tag of a page, and the text of its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and data.strip():
            self.scripts.append(data)


def parse_page(text: str) -> tuple[Tags, dict[str, Any]]:
    """Return the page's tags and the data of the attempt that it shows first."""
    tags = Tags()
    tags.feed(text)
    return tags, json.loads(tags.scripts[0])["attempts"][0]


def page_of(place: Path, run: History) -> str:
    write_run(place / "runs/run", run)
    assert main(["report", "--log-dir", str(place / "runs"), "--html", str(place / "page.html")]) == 0
    return (place / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(histories.TYPICAL))
def test_every_kind_of_run_becomes_a_page_that_loads_nothing(tmp_path: Path, name: str) -> None:
    tags, data = parse_page(page_of(tmp_path, histories.TYPICAL[name]()))
    assert not [(tag, attributes) for tag, attributes in tags.tags if {"src", "href"} & {*attributes} and tag != "a"]
    assert all(
        attributes["href"] in ("#verdict", "#timeline", "#curves", "#load", "#log")
        for tag, attributes in tags.tags
        if tag == "a"
    )
    assert data["stage"] == "ended"
    assert len(data["hosts"]) == len(histories.TYPICAL[name]().hosts)
    assert data["report"].strip()


def test_log_lines_add_no_tag_and_end_no_script(tmp_path: Path) -> None:
    """The same run with harmless lines has the same tags."""
    tags = []
    for place, text in (("tame", "word"), ("wild", EVIL)):
        run = History("h1", "h2").connect_hosts().start_hosts()
        run.add_events(StreamOpened(at=run.at, host="h1", stream=1, name=f"rank 0 {text}"))
        run.add_output("h1", f"{text}\n".encode(), stream=1).add_output("h2", f"RuntimeError: {text}\n".encode())
        run.end_hosts("h2", code=1).end_hosts("h1").release_hosts("h1", "h2")
        tags.append(parse_page(page_of(tmp_path / place, run)))
    (tame, _), (wild, data) = tags
    assert wild.tags == tame.tags
    assert len(wild.scripts) == 2
    lines = [line[3] for line in data["log"]["lines"] if len(line) > 1]
    assert any("</script><img" in line and "\\x00" in line and "\x1b" not in line for line in lines)


@given(st.text() | st.lists(st.text()))
@settings(max_examples=50)
def test_any_text_comes_through_the_data_unchanged_and_holds_nothing_of_html(value: Any) -> None:
    text = to_script_json(value)
    assert not re.search("[<>&]", text)
    assert text.isascii()
    assert json.loads(text) == value


def test_the_timeline_of_a_run_has_each_host_and_stream(tmp_path: Path) -> None:
    run = History("h1").connect_hosts().start_hosts()
    run.add_events(StreamOpened(at=run.at, host="h1", stream=1, name="rank 0"))
    for step in range(1, 41):
        run.add_output("h1", f"step {step}/40 loss {4 / step:.3f} tok/s 900\n".encode(), stream=1).pass_time(1.0)
        run.add_events(Heartbeat(at=run.at, host="h1", load={"cpu": 50.0, "gpus": [{"util": 80}, {"util": 100}]}))
    run.end_hosts("h1").pass_time(1).release_hosts("h1")
    _, data = parse_page(page_of(tmp_path, run))
    times = data["hosts"][0]["times"]
    assert times["connecting"] <= times["connected"] <= times["started"] <= times["exited"] <= times["cleaned_up"]
    rank = next(stream for stream in data["streams"] if stream["rank"] == 0)
    assert (rank["lines"], rank["steps"][-1][1]) == (40, 40)
    assert [curve["name"] for curve in data["curves"]] == ["loss", "speed", "step"]
    assert data["curves"][0]["series"][0]["points"][-1][1] == pytest.approx(0.1)
    assert {load["name"]: load["series"][0]["points"][0][1] for load in data["load"]} == {"GPU": 90.0, "CPU": 50.0}


def build_ranks(*, hosts: int, loss: Callable[[int, int], float]) -> History:
    """Four ranks a host that all print a loss, and an accuracy in their own form."""
    run = History(*(f"gpu{number:02}" for number in range(hosts))).connect_hosts().start_hosts()
    for node, host in enumerate(run.hosts):
        for local in range(4):
            run.add_events(StreamOpened(at=run.at, host=host, stream=local + 1, name=f"rank {4 * node + local}"))
    for step in range(1, 31):
        for node, host in enumerate(run.hosts):
            for local in range(4):
                text = f"step {step}/30 loss {loss(4 * node + local, step):.4f} right {step * 3}%"
                run.add_output(host, f"{text}\n".encode(), stream=local + 1)
        run.pass_time(1.0)
    return run.end_hosts(*run.hosts).pass_time(1).release_hosts(*run.hosts)


def test_ranks_with_equal_metrics_are_one_curve(tmp_path: Path) -> None:
    """As all do that log a loss after it was reduced; one that differs has a curve of its own."""
    _, data = parse_page(page_of(tmp_path, build_ranks(hosts=2, loss=lambda rank, step: 4 / step + (rank == 5))))
    loss = next(curve for curve in data["curves"] if curve["name"] == "loss")
    assert [one["who"] for one in loss["series"]] == ["gpu00:*,gpu01:[4,6-7]", "gpu01:5"]
    assert (loss["of"], loss["band"]) == (8, [])


def test_chart_of_many_ranks_draws_a_few_lines_and_a_band(tmp_path: Path) -> None:
    """The lines are those of the first rank and of the ranks that are furthest from the median."""
    _, data = parse_page(page_of(tmp_path, build_ranks(hosts=8, loss=lambda rank, step: 4 / step + rank)))
    loss = next(curve for curve in data["curves"] if curve["name"] == "loss")
    assert [one["who"] for one in loss["series"]] == [f"gpu{rank // 4:02}:{rank}" for rank in (0, 1, 2, 30, 31)]
    assert loss["of"] == 32
    assert len(loss["band"]) <= 120
    _, least, middle, most = loss["band"][-1]
    assert most - least == pytest.approx(31)
    assert middle - least == pytest.approx(15.5)


@pytest.mark.parametrize("when", ["run", "report"])
def test_a_pattern_of_the_users_makes_curves_of_whatever_it_names(tmp_path: Path, when: str) -> None:
    """Given when the run began, it is in the record; given to report, it counts for this page."""
    pattern = r"step (?P<step>\d+)/.* right (?P<accuracy>\d+)%"
    run = build_ranks(hosts=1, loss=lambda rank, step: 1.0)
    write_run(tmp_path / "runs/run", run, metric=pattern if when == "run" else None)
    flags = ["--metric", pattern] if when == "report" else []
    place = str(tmp_path / "page.html")
    assert main(["report", "--log-dir", str(tmp_path / "runs"), "--html", place, *flags]) == 0
    _, data = parse_page(Path(place).read_text(encoding="utf-8"))
    assert [(curve["name"], curve["series"][0]["points"][-1][1]) for curve in data["curves"]] == [
        ("step", 30),
        ("accuracy", 90),
    ]
    assert [one["who"] for one in data["curves"][1]["series"]] == ["gpu00:*"]


@given(st.integers(0, 5000))
@settings(max_examples=30)
def test_a_curve_is_bounded_and_ends_with_its_newest_point(count: int) -> None:
    curve = Curve(64)
    for number in range(count):
        curve.add_point(number, number)
    points = curve.get_points()
    assert len(points) <= 65
    assert not count or (points[0][0], points[-1][0]) == (0, count - 1)
    assert points == sorted(points)


JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["util", "used", "total"]), inner),
)


@given(st.dictionaries(st.sampled_from(["cpu", "memory", "gpus", "other"]), JUNK))
def test_only_numbers_of_a_hosts_load_are_drawn(load: dict[str, Any]) -> None:
    assert all(abs(value) < float("inf") for _, value in iter_load_values(load))


def test_an_unwritable_page_is_reported_before_the_record_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "runs/run", histories.good_run())
    assert main(["report", "--log-dir", str(tmp_path / "runs"), "--html", str(tmp_path / "no/page.html")]) == 2
    (tmp_path / "train.py").write_text("import torch\n")
    assert main(["report", "--log-dir", str(tmp_path / "runs"), "--html", str(tmp_path / "train.py")]) == 2
    assert (tmp_path / "train.py").read_text() == "import torch\n"
    assert "no such directory" in capsys.readouterr().err
