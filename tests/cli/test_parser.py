"""argv: which arguments belong to fanout and which to the task, whatever they look like."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.cli.parser import HelpRequested, parse_arguments
from fanout.model.errors import UsageError

# Every form in which people write the line; the arguments after the task belong to the task.
FORMS: list[tuple[str, tuple[str, ...], dict[str, object]]] = [
    ("h.txt task.py cfg.yaml", ("task.py", "cfg.yaml"), {}),
    (
        "--nproc-per-node 8 h.txt task.py cfg.yaml --lr 3 -x 1",
        ("task.py", "cfg.yaml", "--lr", "3", "-x", "1"),
        {"nproc_per_node": 8},
    ),
    (
        "h.txt --nproc-per-node 8 task.py cfg.yaml --lr 3",
        ("task.py", "cfg.yaml", "--lr", "3"),
        {"nproc_per_node": 8},
    ),
    ("h.txt task.py --nproc-per-node 4 cfg.yaml", ("task.py", "--nproc-per-node", "4", "cfg.yaml"), {}),
    ("h.txt -- task.py --nproc-per-node 4", ("task.py", "--nproc-per-node", "4"), {}),
    ("h.txt -x gpu04 task.py -x 7 --help", ("task.py", "-x", "7", "--help"), {}),
    ("h.txt task.py --json", ("task.py", "--json"), {}),
    ("h.txt task.py -- --a", ("task.py", "--", "--a"), {}),
    ("--nproc_per_node=8 h.txt task.py", ("task.py",), {"nproc_per_node": 8}),
    ("h.txt --master_port 29501 task.py", ("task.py",), {"master_port": 29501}),
    ("h.txt -m pkg.train cfg.yaml -x 1", ("-m", "pkg.train", "cfg.yaml", "-x", "1"), {}),
    ("h.txt --nproc-per-node 8 --module=pkg.train", ("-m", "pkg.train"), {"nproc_per_node": 8}),
    ("h.txt -- -m pkg.train --json", ("-m", "pkg.train", "--json"), {}),
]


@pytest.mark.parametrize(("line", "task", "flags"), FORMS, ids=[line for line, _, _ in FORMS])
def test_arguments_after_the_task_belong_to_the_task(
    line: str, task: tuple[str, ...], flags: dict[str, object]
) -> None:
    request = parse_arguments(["run", *line.split()])
    assert (request.verb, request.hosts, request.task) == ("run", "h.txt", task)
    assert {name: value for name, value in request.flags.items() if value is not None} == flags


def test_a_flag_before_the_task_is_ours_whatever_follows_the_task() -> None:
    assert parse_arguments("run h.txt -x gpu04 task.py -x 7".split()).filters.without == "gpu04"
    assert parse_arguments("run --output plain h.txt task.py --output json".split()).flags["output"] == "plain"


WORD = st.one_of(
    st.text(max_size=8), st.sampled_from(["--", "-x", "--json", "--help", "-h", "--dry-run", "--nnodes=2", "-"])
)


@given(tail=st.lists(WORD, max_size=6))
def test_the_arguments_of_the_task_arrive_unchanged(tail: list[str]) -> None:
    request = parse_arguments(["run", "-f", "8", "h.txt", "--grace=5", "--", "task.py", *tail])
    assert request.task == ("task.py", *tail)
    assert request.notes == ()
    assert (request.flags["fanout"], request.flags["grace"]) == (8, 5.0)


@given(tail=st.lists(WORD, min_size=1, max_size=6))
def test_the_arguments_of_a_command_arrive_unchanged(tail: list[str]) -> None:
    assert parse_arguments(["exec", "h.txt", "--live", "--", *tail]).task == tuple(tail)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("launch h.txt", "unknown command 'launch'"),
        ("run h.txt", "run: TASK is missing"),
        ("run", "run: TASK is missing"),
        ("run --nope h.txt task.py", "run: unknown flag --nope"),
        ("run --nnode 2 h.txt task.py", "run: unknown flag --nnode"),
        ("run --shell fish h.txt task.py", "--shell must be one of bash, sh, not 'fish'"),
        ("exec h.txt", "exec: no command"),
        ("exec h.txt --", "exec: no command"),
        ("hosts h.txt more", "hosts: unexpected 'more'"),
        ("demo there", "demo: unexpected 'there'"),
    ],
)
def test_a_wrong_line_is_one_sentence_and_status_2(line: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_arguments(line.split())
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.hint
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("line", ["", "-h", "--help", "help", "--version", "-V"])
def test_help_and_version_have_several_spellings(line: str) -> None:
    with pytest.raises(HelpRequested, match="fanout"):
        parse_arguments(line.split())


@pytest.mark.parametrize("verb", ["run", "check", "exec", "hosts", "demo"])
def test_every_command_has_help_that_names_it(verb: str) -> None:
    with pytest.raises(HelpRequested, match=f"fanout {verb} "):
        parse_arguments([verb, "--help"])
    with pytest.raises(HelpRequested) as top:
        parse_arguments(["--help"])
    assert f" {verb} " in str(top.value)


def test_a_bare_check_needs_no_task() -> None:
    assert parse_arguments(["check", "h.txt"]).task == ()
    assert parse_arguments("check h.txt task.py cfg.yaml --lr 3".split()).task == ("task.py", "cfg.yaml", "--lr", "3")


@pytest.mark.parametrize("flag", ["--dry-run", "--dry_run"])
def test_a_dry_run_after_the_task_is_refused_with_the_command_that_was_meant(flag: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_arguments(["run", "-E", "A=1", "hosts.txt", "task.py", "cfg.yaml", flag, "--lr", "1 e"])
    assert caught.value.exit_code == 2
    meant, other = caught.value.hint.split("\n")
    assert meant == "fanout run --dry-run -E A=1 hosts.txt task.py cfg.yaml --lr '1 e'"
    for line in (meant, other.partition(":  ")[2]):
        words = shlex.split(line)[1:]
        request = parse_arguments(words)
        assert request.hosts == "hosts.txt"
        assert request.task[0] == "task.py"
        assert not request.notes


@pytest.mark.parametrize("verb", ["run", "check"])
def test_other_flags_after_the_task_are_reported_in_one_line(verb: str) -> None:
    request = parse_arguments([verb, "h1", "task.py", "--master_port=1", "--lr", "2", "--user", "x", "--help"])
    assert request.task == ("task.py", "--master_port=1", "--lr", "2", "--user", "x", "--help")
    (note,) = request.notes
    assert note.startswith(
        "note: --master_port, --user stand after task.py, so task.py gets them; put fanout's flags before"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["run", "h1", "--", "task.py", "--dry-run", "--user", "x"],
        ["run", "--", "h1", "task.py", "--dry-run"],
        ["run", "h1", "task.py", "--", "--dry-run", "--user", "x"],
        ["run", "h1", "task.py", "--lr", "1", "-n", "5"],
    ],
)
def test_two_dashes_or_flags_of_the_task_alone_cause_no_message(words: list[str]) -> None:
    request = parse_arguments(words)
    assert request.notes == ()
    assert not request.given["dry_run"]


def test_flags_may_stand_between_hosts_and_task() -> None:
    for verb in ("check", "run"):
        request = parse_arguments([verb, "h1", "--nproc-per-node", "2", "-E", "A=1", "task.py", "-x", "y"])
        assert (request.hosts, request.task) == ("h1", ("task.py", "-x", "y"))
        assert request.flags["nproc_per_node"] == 2
    request = parse_arguments(["stop", "some-run", "--grace", "5", "hosts.txt"])
    assert (request.given["run"], request.hosts) == ("some-run", "hosts.txt")


@pytest.mark.parametrize("value", ["--resume", "--train.load_checkpoint_path auto", "-r", "--a_b=c_d", ""])
def test_the_value_of_a_flag_may_begin_with_dashes_and_arrives_unchanged(value: str) -> None:
    for words in (["--resume-args", value], ["--resume_args", value], [f"--resume_args={value}"]):
        request = parse_arguments(["run", *words, "hosts.txt", "task.py"])
        assert request.flags["resume_args"] == value
        assert request.task == ("task.py",)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("h.txt -m", "-m needs the name of a module", "fanout run h.txt -m package.module cfg.yaml"),
        ("h.txt -m --json", "-m needs the name of a module", "fanout run h.txt -m package.module cfg.yaml"),
        ("h.txt -m a/b.py cfg.yaml", "a/b.py is a file", "fanout run h.txt a/b.py cfg.yaml"),
        (
            "h.txt -m pkg.train --dry-run",
            "--dry-run stands after -m pkg.train",
            "fanout run --dry-run h.txt -m pkg.train",
        ),
    ],
)
def test_wrong_module_names_the_command_that_was_meant(line: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_arguments(["run", *line.split()])
    assert caught.value.hint.startswith(hint)


def test_module_may_follow_a_hostfile_of_fanout_toml() -> None:
    request = parse_arguments(["run", "-m", "pkg.train"])
    assert (request.hosts, request.task) == ("", ("-m", "pkg.train"))
