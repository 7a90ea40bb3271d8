"""Words that mean a run: its id, a part of it, a name, a position, and nothing that only looks like one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fanout.cli.main import main
from fanout.model.errors import UsageError
from fanout.record.run_lookup import check_run_name, find_active_run, find_run
from tests.record.test_live_runs import hold_record
from tests.record.test_retention import make_runs


def give_name(path: Path, name: str) -> None:
    """Give a recorded run a name, as ``fanout run --name`` does."""
    first, _, rest = (path / "events.jsonl").read_text().partition("\n")
    (path / "events.jsonl").write_text(json.dumps({**json.loads(first), "name": name}) + "\n" + rest)


def test_a_position_counts_back_from_the_latest_run(tmp_path: Path) -> None:
    first, second, third = make_runs(tmp_path, 3)
    found = [find_run(word, str(tmp_path)) for word in ("", "latest", "@-0", "@-1", "@-2")]
    assert found == [str(third), str(third), str(third), str(second), str(first)]
    with pytest.raises(UsageError, match="@-3: only 3 runs are recorded"):
        find_run("@-3", str(tmp_path))
    assert find_active_run("@-1", str(tmp_path), "attach") == str(second)


@pytest.mark.parametrize("word", ["@1", "@", "@-", "@-x", "@-1000000000", "nothing"])
def test_unknown_word_is_no_run(tmp_path: Path, word: str) -> None:
    make_runs(tmp_path, 2)
    with pytest.raises(UsageError, match="no run "):
        find_run(word, str(tmp_path))


@pytest.mark.parametrize("runs", [0, 2])
def test_a_hostfile_in_the_place_of_a_run_is_named_with_the_command_that_lists_its_runs(
    tmp_path: Path, runs: int
) -> None:
    make_runs(tmp_path / "runs", runs)
    hostfile = tmp_path / "my hosts.txt"
    hostfile.write_text("gpu01\n")
    for find in (find_run, lambda word, root: find_active_run(word, root, "stop")):
        with pytest.raises(UsageError, match=r"my hosts.txt is a file, and RUN comes here") as caught:
            find(str(hostfile), str(tmp_path / "runs"))
        assert caught.value.hint.startswith(f"fanout ps '{hostfile}'   # lists your runs")


def test_a_name_means_the_latest_run_with_it_or_the_active_one(tmp_path: Path) -> None:
    first, second, third, _ = make_runs(tmp_path, 4)
    for path in (first, second, third):
        give_name(path, "lr3e-4")
    assert find_run("lr3e-4", str(tmp_path)) == str(third)
    assert find_active_run("lr3e-4", str(tmp_path), "stop") == str(third)
    hold = hold_record(second)
    assert find_run("lr3e-4", str(tmp_path)) == str(third)
    assert find_active_run("lr3e-4", str(tmp_path), "stop") == str(second)
    other = hold_record(first)
    with pytest.raises(UsageError, match="stop: 2 runs are active"):
        find_active_run("lr3e-4", str(tmp_path), "stop")
    hold.release_lock()
    other.release_lock()


def test_an_exact_id_comes_before_a_name_and_a_name_before_a_part_of_an_id(tmp_path: Path) -> None:
    first, second = make_runs(tmp_path, 2)
    give_name(first, "ff")  # a part of both ids
    assert find_run("ff", str(tmp_path)) == str(first)
    assert find_run(second.name, str(tmp_path)) == str(second)


@pytest.mark.parametrize("name", ["lr3e-4", "a", "A.b_c-9", "x" * 40])
def test_a_name_is_a_short_word(name: str) -> None:
    check_run_name(name)


@pytest.mark.parametrize("name", ["", "@-1", "latest", "3e-4", "a b", "../x", "x" * 41, "ü", "a\n", "-x"])
def test_a_name_that_could_mean_something_else_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not a name for a run"):
        check_run_name(name)


def test_ps_shows_names_only_if_a_run_has_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = make_runs(tmp_path, 2)
    assert main(["ps", "-a", "--log-dir", str(tmp_path)]) == 0
    assert "NAME" not in capsys.readouterr().out
    give_name(first, "lr3e-4")
    assert main(["ps", "-a", "--log-dir", str(tmp_path)]) == 0
    head, row, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["RUN", "NAME"]
    assert row.split()[:2] == [first.name, "lr3e-4"]
    assert main(["ps", "--json", "--log-dir", str(tmp_path)]) == 0
    assert [run["name"] for run in json.loads(capsys.readouterr().out)] == ["lr3e-4", ""]


def test_file_in_place_of_a_run_is_taken_for_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path / "runs", 1)
    (tmp_path / "hosts.txt").write_text("gpu01\n")
    monkeypatch.chdir(tmp_path)
    assert main(["stop", "hosts.txt", "--log-dir", "runs"]) == 2
    assert "try:  fanout ps hosts.txt " in capsys.readouterr().err
