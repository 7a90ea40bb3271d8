"""dFactory's own configuration runs here, and none of its fields is dropped in silence."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from llada2 import config, model_config, sections, upstream_fields, weights
from llada2.errors import UserError
from llada2.model import LLaDA2
from llada2.moe import Router

from tests.tasks import naive_llada2 as naive
from tests.tasks.task_places import TINY
from tests.tasks.task_runs import RankForker, curve, train
from tests.tasks.test_task_tokenizer import made
from tests.tasks.upstream_facts import FIELDS, SHIPPED


def written(tmp_path: Path, values: dict[str, dict[str, Any]] = SHIPPED, **train_fields: Any) -> str:
    """Write a configuration, with some fields of its train section changed."""
    values = values | {"train": values["train"] | train_fields}
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def line_of(path: str, field: str) -> int:
    """Return the line of a field in a written configuration."""
    lines = Path(path).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.startswith(f"  {field}:"))


def test_dfactorys_configuration_is_read_for_its_eight_ranks(tmp_path: Path) -> None:
    """Each field without a meaning here is reported with its line, its value and the reason."""
    path = written(tmp_path)
    c = config.load([path], 8)
    assert c.warnings == ()
    expected = [
        ("bsz_warmup_ratio", "0.007", "it belongs to rmpad, which this trainer lacks"),
        ("dyn_bsz_margin", "0", "it belongs to rmpad, which this trainer lacks"),
        ("dyn_bsz_buffer_size", "200", "it belongs to rmpad, which this trainer lacks"),
        ("broadcast_model_weights_from_rank0", "true", "every rank reads only its own rows of the weights"),
        ("empty_cache_steps", "500", "torch manages its cache of GPU memory"),
    ]
    assert c.remarks == tuple(
        f"{path}:{line_of(path, name)}: train.{name} {value} does not apply: {reason}"
        for name, value, reason in expected
    )
    for section, fields in SHIPPED.items():
        for name in {field.name for field in dataclasses.fields(getattr(c, section))} & fields.keys():
            assert getattr(getattr(c, section), name) == fields[name], name


def test_every_field_of_upstreams_dataclasses_is_read_or_reported_or_refused() -> None:
    for name, cls in sections.SECTIONS.items():
        read = {field.name for field in dataclasses.fields(cls)}
        others = upstream_fields.names(name)
        assert len(others) == len(set(others))
        assert not read & set(others)
        assert set(FIELDS[name].split()) - read == set(others)


@pytest.mark.parametrize(
    ("section", "field", "value", "words"),
    [
        ("model", "encoders", {"image": {}}, 'can only be {} here, not {"image": {}}: this trainer reads text only'),
        ("data", "dataloader_type", "streaming", "can only be native here, not streaming"),
        ("data", "datasets_type", "local", "can only be mapping here, not local: files are read whole; save a data"),
        ("data", "enable_multisource", True, "can only be false here, not true: write several paths in train_path"),
        ("train", "rmpad", True, "can only be false here, not true: rows are padded"),
        ("train", "tensor_parallel_size", 2, "can only be 1 here, not 2"),
        ("train", "expert_parallel_size", True, "can only be 1 here, not true"),
        ("train", "data_parallel_shard_size", 4, "can only be -1 here, not 4"),
        ("train", "optimizer", "anyprecision_adamw", "can only be adamw here"),
        ("train", "ckpt_manager", "omnistore", "can only be dcp here, not omnistore"),
        ("train", "enable_full_shard", False, "can only be true here"),
        (
            "train",
            "enable_activation_offload",
            True,
            "can only be false here, not true: use enable_gradient_checkpointing",
        ),
        ("train", "data_parallel_mode", "fsdp1", "must be one of ddp, fsdp2, not 'fsdp1' (did you mean 'fsdp2'?)"),
        ("train", "init_device", "npu", "must be one of cpu, cuda, meta, not 'npu'"),
        ("model", "attn_implementation", "flash_attention_2", "must be one of eager, sdpa, flex_attention"),
    ],
)
def test_a_value_that_would_change_the_run_is_refused_with_its_line(
    section: str, field: str, value: object, words: str, tmp_path: Path
) -> None:
    path = written(tmp_path, SHIPPED | {section: SHIPPED[section] | {field: value}})
    with pytest.raises(UserError) as caught:
        config.load([path], 8)
    assert str(caught.value).startswith(f"{path}:{line_of(path, field)}: {section}.{field} {words}")


@pytest.mark.parametrize("name", sorted({n for part in upstream_fields.NOT_APPLICABLE.values() for n in part}))
def test_a_value_that_does_not_apply_is_reported_with_the_reason(name: str, tmp_path: Path) -> None:
    section, reason = next((s, part[name]) for s, part in upstream_fields.NOT_APPLICABLE.items() if name in part)
    path = written(tmp_path, SHIPPED | {section: SHIPPED[section] | {name: 3}})
    reported = [remark for remark in config.load([path], 8).remarks if f" {section}.{name} " in remark]
    assert reported == [f"{path}:{line_of(path, name)}: {section}.{name} 3 does not apply: {reason}"]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_accumulation_with_offload_is_refused_as_upstream_does(world: int, tmp_path: Path) -> None:
    """Upstream: "Gradient accumulation is not supported with FSDP offload"; this file fits eight ranks only."""
    path = written(tmp_path)
    with pytest.raises(UserError) as caught:
        config.load([path], world)
    assert "train.enable_fsdp_offload true excludes gradient accumulation" in str(caught.value)
    assert f"write global_batch_size {world}, or false" in str(caught.value)
    assert config.load([path, "--train.global_batch_size", str(world)], world).train.enable_fsdp_offload
    assert config.load([path, "--train.enable_fsdp_offload", "false"], world).train.micro_batch_size == 1


def test_offload_without_fsdp2_and_an_export_without_a_checkpoint_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, data_parallel_mode="ddp", init_device="cpu")
    with pytest.raises(UserError, match=r"train\.enable_fsdp_offload true goes with data_parallel_mode fsdp2 only"):
        config.load([path], 8)
    with pytest.raises(UserError, match=r"train\.save_hf_weights true needs a last checkpoint"):
        config.load([written(tmp_path, save_epochs=0)], 8)


def test_paths_that_are_not_given_follow_from_others_as_upstream_does(tmp_path: Path) -> None:
    """The shape from model_path, the tokenizer from the shape's directory."""
    folder = made(tmp_path / "hf")
    (tmp_path / "hf" / "config.json").write_text(Path(TINY).read_text())
    model = {"model_path": folder, "moe_implementation": None}
    path = written(tmp_path, SHIPPED | {"model": model})
    c = config.load([path], 8)
    assert (c.model.config_path, c.model.tokenizer_path, c.model.moe_implementation) == (folder, folder, "eager")
    assert c.remarks[:2] == (
        f"{path}: model.config_path is not given: the shape is read from model_path {folder}",
        f"{path}: model.tokenizer_path is not given: the tokenizer in {folder} is used",
    )
    token_ids = written(tmp_path, SHIPPED | {"data": {"train_path": "x", "data_type": "tokenid", "text_keys": None}})
    assert config.load([token_ids], 8).data.text_keys == "input_ids"


def test_without_block_diffusion_the_whole_sequence_is_one_block(tmp_path: Path) -> None:
    path = written(tmp_path, block_diffusion_mode=False)
    c = config.load([path], 8)
    assert c.train.block_size == 2048
    assert "train.block_size 32 does not apply: with block_diffusion_mode false it is 2048" in c.remarks[-1]
    with pytest.raises(UserError, match=r"train\.block_schedule wsd changes blocks"):
        config.load([path, "--train.block_schedule", "wsd"], 8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            'rope_scaling can only be null here, not {"rope_type"',
        ),
        ({"rope_parameters": {"rope_theta": 1.0}}, "rope_parameters can only be null here"),
        ({"rotary_dim": 16}, "rotary_dim 16 is not head_dim x partial_rotary_factor = 8"),
        ({"attention_dropout": 0.1}, "attention_dropout can only be 0.0 here, not 0.1: this model has no dropout"),
        ({"use_bias": True}, "use_bias can only be false here, not true"),
        ({"norm_head": True}, "norm_head can only be false here"),
        ({"use_sliding_window": True}, "use_sliding_window can only be false here"),
        ({"model_type": "llama"}, "model_type can only be llada2_moe_veomni here, not llama"),
        ({"pad_token_id": 999}, "pad_token_id 999 is outside the vocabulary of 260 tokens"),
    ],
)
def test_a_shape_of_another_model_is_refused_with_its_line(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    values = {name: value for name, value in json.loads(Path(TINY).read_text()).items() if name not in change} | change
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values, indent=1))
    with pytest.raises(UserError) as caught:
        model_config.load(str(path))
    (field,) = change
    line = 1 + next(i for i, line in enumerate(path.read_text().splitlines()) if f'"{field}"' in line)
    assert str(caught.value).startswith(f"{path}:{line}: {words}")


def test_the_fields_of_dfactorys_config_json_are_accepted(tmp_path: Path) -> None:
    """All that the shipped file for llada2_mini holds beside the shape; nothing of it is a warning."""
    beside = {
        "architectures": ["LLaDA2MoeModelLM"],
        "attention_dropout": 0.0,
        "auto_map": {"AutoConfig": "x"},
        "hidden_act": "silu",
        "model_type": "llada2_moe_veomni",
        "norm_topk_prob": True,
        "norm_head": False,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "rotary_dim": 64,
        "transformers_version": "4.52.3",
        "use_bias": False,
        "use_rmsnorm": True,
        "use_cache": False,
        "use_qkv_bias": False,
        "embedding_dropout": 0.0,
        "norm_softmax": False,
        "output_dropout": 0.0,
        "using_split_qkv_in_self_attention": False,
        "router_dtype": "fp32",
        "score_function": "sigmoid",
        "moe_router_enable_expert_bias": True,
        "max_window_layers": 28,
        "output_router_logits": False,
        "use_sliding_window": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(beside))
    shape, warnings = model_config.load(str(tmp_path))
    assert warnings == []
    assert shape == model_config.ModelConfig()
    assert model_config.from_dict(model_config.to_dict(shape, "bfloat16"), "export") == (shape, [])


@torch.no_grad()
def test_a_single_expert_keeps_its_score() -> None:
    """Upstream normalises the weights of several experts only; one normalised weight would be constant."""
    values = json.loads(Path(TINY).read_text()) | {"num_experts_per_tok": 1}
    router = Router(model_config.from_dict(values, "test")[0])
    torch.nn.init.normal_(router.weight, generator=torch.Generator().manual_seed(1))
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(2))
    chosen, weight = router(x)
    tensors = {"g.weight": router.weight.detach(), "g.expert_bias": router.expert_bias}
    expected = [naive.route(tensors, "g", token, values)[0] for token in x]
    assert chosen[:, 0].tolist() == [expert for expert, _ in expected]
    torch.testing.assert_close(weight[:, 0].tolist(), [score for _, score in expected], rtol=1e-5, atol=1e-6)
    assert float(weight.std()) > 0.1


def gsm8k_like(path: Path, count: int = 24) -> str:
    """Write rows as dFactory's script writes them, in the words of the test's tokenizer."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": "a b " * (i % 5 + 1)},
                {"role": "assistant", "content": "b " * (i % 9)},
            ]
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.process
def test_dfactorys_configuration_trains_from_weights_to_weights(forker: RankForker, tmp_path: Path) -> None:
    """With the paths of a small model, and shorter rows: import, FSDP2, meta, offload, fused bf16 experts, export."""
    values = json.loads(Path(TINY).read_text()) | {"init_scheme": "normal", "qk_norm_init": 1.0}
    folder = naive.write_folder(tmp_path / "hf", values, naive.make_tensors(values, split=False))
    made(tmp_path / "hf", pad_token="<unk>")
    paths = [
        *("--model.config_path", folder, "--model.model_path", folder, "--model.tokenizer_path", folder),
        *("--data.train_path", gsm8k_like(tmp_path / "train.jsonl"), "--train.output_dir", str(tmp_path / "out")),
    ]
    smaller = ["--data.max_seq_len", "64", "--data.num_workers", "0", "--train.micro_batch_size", "4"]
    task = [train(tmp_path)[0], written(tmp_path), *paths, *smaller, "--train.metrics_jsonl", "true"]
    out = forker.launch(1, 2, task)
    assert f"starts from the weights in {folder}" in out
    assert out.count("does not apply") == 5
    export = tmp_path / "out" / "checkpoints" / "global_step_2" / "hf_ckpt"
    assert f"saved {export}" in out
    assert {path.name for path in export.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert {step for step, _ in curve(tmp_path / "out").items()} == {1, 2}
    trained = LLaDA2(model_config.load(str(export))[0])
    weights.load(str(export), trained, trained.config)
    assert all(torch.isfinite(weight).all() for weight in trained.state_dict().values())
