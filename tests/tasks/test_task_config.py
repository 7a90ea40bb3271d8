"""A configuration is valid, or one line names the place of the mistake: file and line, or command line."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from llada2 import checks, config, sections
from llada2.errors import UserError

from tests.tasks.task_places import ROOT, TRAIN, YAML
from tests.tasks.task_shapes import tiny_shape

MINIMAL = "model:\n  config_path: x\ntrain:\n  output_dir: out\n"


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return str(path)


def test_the_shipped_configuration_is_right_for_one_two_and_four_ranks() -> None:
    for world in (1, 2, 4):
        c = config.load([YAML], world)
        assert c.warnings == ()
        assert sections.batch_sizes(c.train, world) == (16, 16 // world, 1)


def test_an_override_beats_the_file_in_both_spellings() -> None:
    c = config.load([YAML, "--train.lr", "1e-3", "--train.max_steps=7", "--train.block_warmup_sizes", "[1, 2]"], 1)
    assert (c.train.lr, c.train.max_steps, c.train.block_warmup_sizes) == (1e-3, 7, (1, 2))


def test_an_override_can_empty_an_optional_field_and_keeps_numbers_as_text_where_text_is_wanted() -> None:
    c = config.load([YAML, "--train.max_steps", "null", "--train.output_dir", "7"], 1)
    assert (c.train.max_steps, c.train.output_dir) == (None, "7")


def test_unknown_names_are_warned_about_with_the_nearest_and_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "  blok_size: 8\n  log_step: 1\ndate:\n  x: 1\n")
    c = config.load([path, "--data.noise_low", "0.1"], 1)
    assert c.warnings == (
        f"{path}: unknown section 'date' is ignored (did you mean 'data'?)",
        "command line: unknown field data.noise_low is ignored (did you mean 'noise_range_low'?)",
        f"{path}:5: unknown field train.blok_size is ignored (did you mean 'block_size'?)",
        f"{path}:6: unknown field train.log_step is ignored (did you mean 'log_steps'?)",
    )


@pytest.mark.parametrize(
    ("arguments", "world", "words"),
    [
        (["--train.block_size", "7"], 1, "train.block_size 7 does not divide data.max_seq_len 64"),
        ([], 3, "train.global_batch_size 16 is not a multiple of 3 ranks = 3; try 15 or 18"),
        (["--train.micro_batch_size", "16"], 2, "16 is not a multiple of micro_batch_size 16 x 2 ranks = 32; try 32"),
        (["--data.noise_range_low", "0.9"], 1, "0.9 and noise_range_high 0.8 must obey 0 <= low <= high <= 1"),
        (["--train.lr", "fast"], 1, "command line: train.lr must be a number, not 'fast'"),
        (["--train.lr", "-1"], 1, "train.lr must be above 0, not -1.0"),
        (["--train.seed", "1.5"], 1, "train.seed must be a whole number, not 1.5"),
        (["--train.data_parallel_mode", "fsdp"], 1, "must be one of ddp, fsdp2, not 'fsdp' (did you mean 'fsdp2'?)"),
        (["--train.metrics_jsonl", "maybe"], 1, "train.metrics_jsonl must be true or false, not 'maybe'"),
        (["--train.block_warmup_sizes", "4"], 1, "train.block_warmup_sizes must be a list, not 4"),
        (["--train.output_dir", "null"], 1, "train.output_dir is missing"),
        (["--train.max_steps", "0"], 1, "train.max_steps must be above 0, not 0"),
        (["--trian.lr", "1"], 1, "no section 'trian' (did you mean 'train'?)"),
        (["--train.lr"], 1, "--train.lr wants a value"),
        (["lr=1"], 1, "'lr=1' is not understood"),
        (["--train.max_steps", ".inf"], 1, "train.max_steps must be below 2147483648, not inf"),
        (["--train.seed", ".nan"], 1, "train.seed must be a whole number, not nan"),
        (["--train.weight_decay", ".nan"], 1, "train.weight_decay must be at least 0, not nan"),
        (["--train.lr", ".inf"], 1, "train.lr must be above 0, not inf"),
        (["--train.beta2", "1"], 1, "train.beta2 must be at least 0 and below 1, not 1.0"),
        (["--train.lr_min", "1"], 1, "train.lr_min 1.0 is more than lr 0.006, to which it would decay"),
        (["--data.num_workers", "-1"], 1, "data.num_workers must be between 0 and 1024, not -1"),
        (["--data.train_path", '"a\\0b"'], 1, "data.train_path must be text, not 'a\\x00b'"),
        (["--train.init_device", "meta"], 1, "meta goes with data_parallel_mode fsdp2 only"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(arguments: list[str], world: int, words: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load([YAML, *arguments], world)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_the_file_names_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "  seed: 1\n  lr: quick\n")
    with pytest.raises(UserError, match=r"c\.yaml:6: train\.lr must be a number"):
        config.load([path], 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: [\n", r"c\.yaml:2: not valid YAML"),
        ("model: \x07\n", r"c\.yaml: not valid YAML: unacceptable character"),
        ("- 1\n", "must hold the sections model, data, train"),
        ("", "must hold the sections model, data, train"),
        ("model: {}\n\ntrain:\n", r"c\.yaml:3: section 'train' has no fields; the file must hold the sections"),
        ("model: llada2\n", r"c\.yaml:1: section 'model' has no fields"),
        ("train:\n  output_dir: x\n", r"model\.config_path is missing"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        config.load([write(tmp_path, text)], 1)


def test_a_file_that_is_not_text_and_a_section_that_is_a_number_are_named(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_bytes(b"model: \xff\xfe\n")
    with pytest.raises(UserError, match=r"b\.yaml: not text in UTF-8 \(byte 7\)"):
        config.load([str(tmp_path / "b.yaml")], 1)
    path = write(tmp_path, MINIMAL + "1:\n  x: 2\n")
    assert config.load([path], 1).warnings == (f"{path}: unknown section 1 is ignored",)


def test_a_sequence_longer_than_the_model_is_made_for_is_refused() -> None:
    shape = tiny_shape()
    checks.check_length(config.load([YAML, "--data.max_seq_len", "1024"], 1), shape)
    with pytest.raises(UserError, match="2048 is more than the model's max_position_embeddings 1024"):
        checks.check_length(config.load([YAML, "--data.max_seq_len", "2048"], 1), shape)


def test_no_clipping_is_an_endless_norm() -> None:
    assert config.load([YAML, "--train.max_grad_norm", ".inf"], 1).train.max_grad_norm == float("inf")


def run_main(arguments: list[str]) -> int:
    """Run the script's own main, in this process: a mistake in the configuration comes before any process group."""
    spec = importlib.util.spec_from_file_location("train_llada2_bd", TRAIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    code: int = module.main(arguments)
    return code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage: train_llada2_bd.py CONFIG.yaml"),
        (["none.yaml"], "none.yaml: No such file or directory"),
        ([YAML, "--train.block_size", "7"], "does not divide"),
        ([YAML, "--model.config_path", "nowhere"], "no model configuration at nowhere"),
        ([YAML, "--train.global_batch_size", "0"], "must be at least 1"),
        ([YAML, "--data.max_seq_len", "2048"], "more than the model's max_position_embeddings 1024"),
    ],
)
def test_the_script_prints_one_line_and_exits_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


def test_only_local_rank_0_explains_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, local_rank, expected in (("1", "1", ""), ("2", "0", "error (rank 2): none.yaml")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", local_rank)
        assert run_main(["none.yaml"]) == 2
        assert capsys.readouterr().err.startswith(expected) if expected else capsys.readouterr().err == ""


def test_the_task_never_imports_the_launcher() -> None:
    for directory, _, files in os.walk(os.path.join(ROOT, "tasks")):
        for name in files:
            if name.endswith(".py"):
                text = Path(directory, name).read_text()
                assert "import fanout" not in text, name
                assert "from fanout" not in text, name
