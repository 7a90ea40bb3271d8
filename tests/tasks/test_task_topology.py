"""Topologies: any number of hosts and ranks, replicated or sharded, gives the same arithmetic, text and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from llada2 import checkpoint

from tests.tasks.task_runs import Curve, RankForker, curve, train

pytestmark = pytest.mark.process
STEPS = ["--train.max_steps", "2", "--train.save_epochs", "0", "--train.save_steps", "0", "--data.val_examples", "32"]
SHARDED = ["--train.data_parallel_mode", "fsdp2", "--train.enable_gradient_checkpointing", "true"]


@pytest.fixture(scope="module")
def one_process(forker: RankForker, tmp_path_factory: pytest.TempPathFactory) -> Curve:
    """Run two steps in one process."""
    output = tmp_path_factory.mktemp("one")
    forker.alone(train(output, *STEPS))
    return curve(output)


@pytest.mark.parametrize(
    ("nodes", "per_node", "overrides"),
    [
        pytest.param(1, 2, [], id="1x2"),
        pytest.param(2, 1, [], id="2x1"),
        pytest.param(2, 2, [], id="2x2"),
        pytest.param(1, 2, ["--train.micro_batch_size", "2"], id="1x2 accumulated"),
        pytest.param(1, 1, SHARDED, id="1x1 sharded"),
        pytest.param(2, 1, SHARDED, id="2x1 sharded"),
        pytest.param(1, 1, [*SHARDED, "--train.init_device", "meta"], id="1x1 sharded, from the meta device"),
        pytest.param(1, 2, [*SHARDED, "--train.init_device", "meta"], id="1x2 sharded, from the meta device"),
        pytest.param(2, 2, [*SHARDED, "--train.init_device", "meta"], id="2x2 sharded, from the meta device"),
        pytest.param(2, 2, [*SHARDED, "--train.micro_batch_size", "2"], id="2x2 sharded, accumulated"),
        pytest.param(
            1, 2, ["--model.moe_implementation", "fused", "--model.attn_implementation", "eager"], id="kernels"
        ),
    ],
)
def test_every_topology_computes_the_same_steps(
    nodes: int, per_node: int, overrides: list[str], forker: RankForker, one_process: Curve, tmp_path: Path
) -> None:
    """The global batch is one stream cut by rank: a wrong rank or world size would show here at once."""
    out = forker.launch(nodes, per_node, train(tmp_path, *STEPS, *overrides))
    assert f"world size: {nodes * per_node}" in out
    found = curve(tmp_path)
    assert found[1] == pytest.approx(one_process[1], rel=1e-4)
    assert found[2] == pytest.approx(one_process[2], rel=2e-3)


@pytest.mark.parametrize(
    "options", [["--train.complementary_masking", "true"], ["--train.loss_weighting", "inverse_t"]]
)
def test_the_options_of_the_objective_are_divided_by_the_global_count_too(
    options: list[str], forker: RankForker, tmp_path: Path
) -> None:
    """Not by each rank's own: accumulated on two ranks, the first loss and norm are those of one process."""
    forker.alone(train(tmp_path / "one", *STEPS, *options))
    forker.launch(1, 2, train(tmp_path / "two", *STEPS, *options, "--train.micro_batch_size", "4"))
    assert curve(tmp_path / "two")[1] == pytest.approx(curve(tmp_path / "one")[1], rel=1e-4)


@pytest.mark.parametrize("mode", ["ddp", "fsdp2"])
def test_bf16_gives_the_first_loss_of_fp32(mode: str, forker: RankForker, one_process: Curve, tmp_path: Path) -> None:
    """The tolerances of the tests for GPUs, on the CPU: products in bf16 move the loss by less than a hundredth."""
    bf16 = ["--train.enable_mixed_precision", "true", "--train.data_parallel_mode", mode]
    forker.alone(train(tmp_path, *STEPS, *bf16, "--model.moe_implementation", "fused", "--data.val_examples", "1"))
    loss, norm = curve(tmp_path)[1]
    assert loss == pytest.approx(one_process[1][0], rel=1e-2)
    assert norm == pytest.approx(one_process[1][1], rel=5e-2)


def test_hosts_with_different_python_docstrings_are_reported_before_the_first_step(
    forker: RankForker, tmp_path: Path
) -> None:
    """The second host has another pydoc_data, as another version of Python would."""
    (tmp_path / "pydoc_data").mkdir()
    (tmp_path / "pydoc_data" / "__init__.py").touch()
    (tmp_path / "pydoc_data" / "topics.py").write_text(f"topics = {{'assert': {'other words ' * 200!r}}}\n")
    task = train(tmp_path / "out")
    out = forker.launch(2, 1, task, expected=2, PYTHONPATH=str(tmp_path))
    assert out.count("error: data.train_path pydoc") == 1
    assert "Python's documentation differs by version: use one Python, or --data.train_path FILE" in out
    assert "step 1/" not in out


def test_a_mistake_found_by_both_ranks_is_reported_once_and_no_rank_hangs(forker: RankForker, tmp_path: Path) -> None:
    """Both ranks end with 2; rank 0 speaks."""
    out = forker.launch(1, 2, train(tmp_path, "--data.train_path", "nowhere.jsonl"), expected=2)
    assert out.count("error: ") == 1
    assert "error: data.train_path nowhere.jsonl: no such file or directory" in out


def test_a_mistake_that_only_the_second_host_has_names_it_and_stops_both(forker: RankForker, tmp_path: Path) -> None:
    """Rank 0 would otherwise wait for the dead."""
    (tmp_path / "here.txt").write_text("some text " * 100)
    plain = ["--data.data_type", "plaintext", "--data.train_path"]
    tasks = [train(tmp_path / "out", *plain, str(tmp_path / name)) for name in ("here.txt", "gone.txt")]
    out = forker.launch(2, 1, *tasks, expected=2)
    assert "gone.txt: no such file or directory" in out
    assert "error: on " in out


def test_hosts_without_a_shared_directory_keep_whole_checkpoints_each_and_resume_from_them(
    forker: RankForker, tmp_path: Path
) -> None:
    """Under DDP every host has everything; sharded, it is refused in one line."""
    homes = [tmp_path / "a", tmp_path / "b"]
    four = ["--train.max_steps", "4", "--train.save_steps", "2", "--data.val_examples", "32"]
    out = forker.launch(2, 1, *[train(home, *four) for home in homes])
    assert "is not shared by the hosts: each keeps whole checkpoints of its own" in out
    uninterrupted = curve(homes[0])
    for home in homes:
        steps = checkpoint.whole(str(home / "checkpoints"))
        assert list(steps) == [2, 4]
        (home / "checkpoints" / "global_step_4" / "meta.json").unlink()
    again = forker.launch(2, 1, *[train(home, *four, "--train.load_checkpoint_path", "auto") for home in homes])
    assert "resumed after step 2" in again
    assert curve(homes[0]) == uninterrupted
    refused = forker.launch(2, 1, *[train(home, *four, *SHARDED) for home in homes], expected=2)
    assert "is not the same directory on all hosts" in refused
    assert "name a shared directory" in refused


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["--train.load_checkpoint_path", "gone"], "error: gone: not a checkpoint of this trainer (no meta.json)"),
        (["--train.output_dir", "/proc/no"], "error: train.output_dir: /proc/no/checkpoints: No such file"),
        (
            ["--model.attn_implementation", "flex_attention"],
            "error: model.attn_implementation flex_attention trains on a GPU",
        ),
        (
            ["--model.moe_implementation", "fused", "--train.enable_compile", "true"],
            "error: train.enable_compile: torch compiles the product of moe_implementation fused in bf16 alone",
        ),
    ],
)
def test_a_mistake_found_while_starting_is_one_line_without_a_traceback(
    overrides: list[str], words: str, forker: RankForker, tmp_path: Path
) -> None:
    """Exit code 2, before the first step."""
    out = forker.alone(train(tmp_path, *overrides), expected=2)
    assert words in out
    assert "Traceback" not in out
