"""Weights of Hugging Face: what is imported computes what a naive model computes, and what is exported keeps its bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from llada2 import checkpoint, hf_folder, mask, model_config, weights
from llada2.errors import UserError
from llada2.model import LLaDA2
from safetensors.torch import load_file

from tests.tasks import naive_llada2 as naive
from tests.tasks.task_places import CONVERT, GENERATE, MINI, TINY
from tests.tasks.task_runs import RankForker, curve, train

VALUES: dict[str, Any] = json.loads(Path(TINY).read_text()) | {
    "init_scheme": "normal",
    "qk_norm_init": 1.0,
    "num_experts": 8,
    "n_group": 4,
    "topk_group": 2,
    "num_experts_per_tok": 3,
    "num_hidden_layers": 3,
    "num_shared_experts": 2,
}


def shape_of(values: dict[str, Any] = VALUES) -> model_config.ModelConfig:
    return model_config.from_dict(values, "test")[0]


def imported(path: str, values: dict[str, Any] = VALUES) -> LLaDA2:
    """Return a model with the weights at ``path``; every weight is not a number before."""
    model = LLaDA2(shape_of(values)).eval()
    with torch.no_grad():
        for weight in model.state_dict().values():
            weight.fill_(torch.nan)
    assert weights.check(path, shape_of(values)) == []
    weights.load(path, model, shape_of(values))
    return model


@pytest.mark.parametrize("top_k", [3, 1])
@pytest.mark.parametrize(("split", "files"), [(True, 1), (True, 3), (False, 1), (False, 2)])
def test_imported_weights_compute_the_logits_of_the_naive_model(
    split: bool, files: int, top_k: int, tmp_path: Path
) -> None:
    """Under the mask of training; one expert for each token keeps its score, as in upstream."""
    values = VALUES | {"num_experts_per_tok": top_k}
    folder = naive.write_folder(tmp_path / "hf", values, naive.make_tensors(values, split=split), files)
    ids, positions = [(7 * i) % 256 for i in range(32)], [*range(16), *range(16)]
    look = mask.block_diffusion(16, 4)
    with torch.no_grad():
        found = imported(folder, values)(torch.tensor([ids]), torch.tensor(positions), look)[0]
    expected = naive.forward(naive.make_tensors(values, split=True), values, ids, positions, look)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("split", [True, False])
def test_import_and_export_keep_every_bit(dtype: torch.dtype, split: bool, tmp_path: Path) -> None:
    folder = naive.write_folder(tmp_path / "hf", VALUES, naive.make_tensors(VALUES, split=split, dtype=dtype))
    (tmp_path / "out").mkdir()
    shape = shape_of()
    plan = weights.plan_export(shape, folder)
    weights.export(str(tmp_path / "out"), imported(folder), shape, plan, leader=True)
    expected = naive.make_tensors(VALUES, split=False, dtype=dtype)
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == dtype, name
        assert torch.equal(found[name], tensor), name


def test_an_export_without_imported_weights_is_bf16_and_keeps_the_routers_bias_in_fp32() -> None:
    plan = weights.plan_export(shape_of(), None)
    wide = {name for name, (_, dtype) in plan.items() if dtype == torch.float32}
    assert wide == {f"model.layers.{i}.mlp.gate.expert_bias" for i in (1, 2)}
    assert plan["lm_head.weight"] == ((260, 64), torch.bfloat16)


def test_tensors_are_divided_over_files_with_an_index(tmp_path: Path) -> None:
    plan = {f"w{i}": ((10, 10), torch.float32) for i in range(5)}
    hf_folder.write_tensors(str(tmp_path), plan, lambda name: torch.full((10, 10), int(name[1])), shard_bytes=800)
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)
    ]
    index = json.loads((tmp_path / hf_folder.INDEX).read_text())
    assert index["metadata"] == {"total_size": 2000}
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / file)[name], torch.full((10, 10), float(name[1])))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("model.layers.1.mlp.gate.expert_bias"), "it lacks the tensor model.layers.1.mlp.gate.expert"),
        (lambda t: t.pop("model.layers.1.mlp.experts.2.up_proj.weight"), "expert 2 of model.layers.1.mlp.experts.up_"),
        (lambda t: t.update({"model.layers.3.x": torch.ones(1)}), "the model of config_path has not, the tensor model"),
        (lambda t: t.update({"lm_head.weight": torch.ones(9, 64)}), "lm_head.weight is [9, 64], the model of config_"),
        (lambda t: t.update({"lm_head.weight": torch.ones(9, 64, dtype=torch.int8)}), "lm_head.weight is I8"),
    ],
)
def test_unsuitable_weights_folder_is_refused_in_one_line(change: Any, words: str, tmp_path: Path) -> None:
    tensors = naive.make_tensors(VALUES, split=True)
    change(tensors)
    folder = naive.write_folder(tmp_path / "hf", VALUES, tensors)
    with pytest.raises(UserError) as caught:
        weights.check(folder, shape_of())
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"model.model_path {folder}: ")
    assert "\n" not in str(caught.value)


def test_experts_of_other_counts_are_reported(tmp_path: Path) -> None:
    """The folder has fewer experts than the model, in either form."""
    for split in (True, False):
        folder = naive.write_folder(tmp_path / str(split), VALUES, naive.make_tensors(VALUES, split=split))
        with pytest.raises(UserError, match=r"gate.weight is \[8, 64\], the model of config_path needs \[16, 64\]"):
            weights.check(folder, shape_of(VALUES | {"num_experts": 16}))


def test_missing_and_broken_files_are_one_line(tmp_path: Path) -> None:
    folder = naive.write_folder(tmp_path / "hf", VALUES, naive.make_tensors(VALUES, split=False), files=2)
    last = tmp_path / "hf" / "model-00002-of-00002.safetensors"
    content = last.read_bytes()
    last.write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"model-00002-of-00002\.safetensors: .*incomplete"):
        weights.check(folder, shape_of())
    last.unlink()
    with pytest.raises(UserError, match=r"1 of its 2 files are missing, the first is model-00002-of-00002"):
        weights.check(folder, shape_of())
    (tmp_path / "hf" / hf_folder.INDEX).write_text("{}")
    with pytest.raises(UserError, match=r"index\.json: not an index of weights"):
        weights.check(folder, shape_of())


def test_a_path_without_weights_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        weights.check(str(tmp_path / "gone"), shape_of())
    with pytest.raises(UserError, match=r"neither a checkpoint of this trainer \(meta\.json\) nor weights"):
        weights.check(str(tmp_path), shape_of())
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(UserError, match=r"pytorch_model\.bin: this is a file; write the directory that contains it"):
        weights.check(str(tmp_path / "pytorch_model.bin"), shape_of())
    with pytest.raises(UserError, match="convert them to safetensors"):
        weights.check(str(tmp_path), shape_of())
    step = tmp_path / "checkpoints" / "global_step_5"
    step.mkdir(parents=True)
    (step / "meta.json").write_text("{}")
    with pytest.raises(UserError, match=f"this is the output_dir of a run; write {step}"):
        weights.check(str(tmp_path), shape_of())


def test_another_rotation_in_the_folders_configuration_is_a_warning(tmp_path: Path) -> None:
    """No shape of a tensor shows it."""
    folder = naive.write_folder(tmp_path / "hf", VALUES | {"rope_theta": 9.0}, naive.make_tensors(VALUES, split=False))
    assert weights.check(folder, shape_of()) == [
        f"{folder}/config.json has rope_theta 9.0, model.config_path has 100.0, which counts"
    ]


SHORT = ["--train.max_steps", "2", "--data.val_examples", "16", "--train.save_hf_weights", "true"]
SHARDED = ["--train.data_parallel_mode", "fsdp2", "--train.init_device", "meta", "--train.enable_fsdp_offload", "true"]


@pytest.mark.process
def test_ranks_that_read_only_their_rows_take_the_steps_of_one_process_and_export_its_weights(
    forker: RankForker, tmp_path: Path
) -> None:
    """Four ranks with FSDP2 and CPU offload from split experts, against one process from merged ones."""
    folders = [
        naive.write_folder(tmp_path / f"hf{split}", VALUES, naive.make_tensors(VALUES, split=split), 2)
        for split in (False, True)
    ]
    common = [*SHORT, "--model.config_path", folders[0]]
    out = forker.alone(train(tmp_path / "one", *common, "--model.model_path", folders[0]))
    assert f"starts from the weights in {folders[0]}" in out
    forker.launch(2, 2, train(tmp_path / "four", *common, *SHARDED, "--model.model_path", folders[1]))
    one, four = curve(tmp_path / "one"), curve(tmp_path / "four")
    assert four[1] == pytest.approx(one[1], rel=1e-4)
    assert four[2] == pytest.approx(one[2], rel=2e-3)
    exports = [tmp_path / run / "checkpoints" / "global_step_2" / "hf_ckpt" for run in ("one", "four")]
    found, expected = (load_file(path / "model.safetensors") for path in exports)
    assert found.keys() == expected.keys() == naive.make_tensors(VALUES, split=False).keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=2e-2, atol=2e-3)
    again = forker.alone(
        train(tmp_path / "again", *SHORT, "--model.config_path", str(exports[1]), "--model.model_path", str(exports[1]))
    )
    assert f"starts from the weights in {exports[1]}" in again


@pytest.mark.process
def test_the_converter_splits_merges_and_reads_checkpoints(forker: RankForker, tmp_path: Path) -> None:
    """Splitting and merging give the very tensors back."""
    merged = naive.make_tensors(VALUES, split=False)
    source = naive.write_folder(tmp_path / "hf", VALUES, merged)
    out = forker.alone([CONVERT, source, str(tmp_path / "split"), "--experts", "split"])
    assert (
        out == f"wrote {len(naive.make_tensors(VALUES, split=True))} tensors with split experts to {tmp_path}/split\n"
    )
    assert json.loads((tmp_path / "split" / "config.json").read_text())["model_type"] == "llada2_moe"
    forker.alone([CONVERT, str(tmp_path / "split"), str(tmp_path / "back")])
    for path, expected in (("split", naive.make_tensors(VALUES, split=True)), ("back", merged)):
        found = load_file(tmp_path / path / "model.safetensors")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    forker.alone(train(tmp_path / "run", *SHORT))
    forker.alone([CONVERT, str(tmp_path / "run"), str(tmp_path / "own")])
    (step,) = checkpoint.whole(str(tmp_path / "run" / "checkpoints")).values()
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "own" / name).read_bytes() == (Path(step) / "hf_ckpt" / name).read_bytes()
    short = ["--prompt", "a", "--gen-length", "8", "--block-size", "8"]
    for path in (source, str(tmp_path / "split"), str(tmp_path / "run")):
        assert "-- 8 tokens in 13 forwards" in forker.alone([GENERATE, path, *short])
    refused = forker.alone([CONVERT, source, str(tmp_path / "own")], expected=2)
    assert refused == f"error: {tmp_path}/own: it exists already; name a new folder\n"
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "config.json").write_text("another's")
    refused = forker.alone([CONVERT, source, str(tmp_path / "new")], expected=2)
    assert "new.partial: it exists already; remove it if an earlier export left it" in refused
    assert (tmp_path / "new.partial" / "config.json").read_text() == "another's"


@pytest.mark.process
def test_wrong_paths_end_the_run_before_the_model_is_built(forker: RankForker, tmp_path: Path) -> None:
    """It has 16 billion parameters, which no memory here would hold. A resumed checkpoint is checked as early."""
    folder = naive.write_folder(tmp_path / "hf", VALUES, naive.make_tensors(VALUES, split=False))
    forker.alone(train(tmp_path / "other", *SHORT))
    (step,) = checkpoint.whole(str(tmp_path / "other" / "checkpoints")).values()
    wrong = [
        (["--model.model_path", folder], "it lacks the tensor model.layers.10."),
        (["--model.model_path", "gone"], "model.model_path gone: no such directory"),
        (["--model.model_path", step], "its model has vocab_size 260, model.config_path has 157184"),
        (["--train.load_checkpoint_path", step], "its model has vocab_size 260, model.config_path has 157184"),
        (["--train.output_dir", "/proc/no"], "train.output_dir: /proc/no/checkpoints"),
        (["--model.attn_implementation", "flex_attention"], "flex_attention trains on a GPU only"),
    ]
    for overrides, words in wrong:
        task = train(tmp_path / "run", "--model.config_path", MINI, *overrides)
        out = forker.alone(task, expected=2)
        assert words in out
        assert out.count("error: ") == 1
        assert "Traceback" not in out
