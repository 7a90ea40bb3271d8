"""Convert weights of LLaDA2: ``convert_llada2.py SOURCE FOLDER --experts split`` writes a new Hugging Face folder.

SOURCE is a checkpoint of the trainer, an output directory (its newest checkpoint), or a Hugging Face folder with merged
or split experts. The tensors of a folder keep their bits, so that merging undoes splitting.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from llada2 import checkpoint, hf_names, model_config, tokenizer, weights
from llada2.errors import UserError, run_command
from llada2.hf_folder import WeightFolder, is_folder, write_tensors
from llada2.model_config import ModelConfig
from torch import Tensor


def parser() -> argparse.ArgumentParser:
    """Return the options of the conversion."""
    p = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    p.add_argument("source", help="a checkpoint, an output directory, or a Hugging Face folder")
    p.add_argument("folder", help="the folder to write; it must not exist")
    p.add_argument(
        "--experts",
        default="merged",
        choices=["merged", "split"],
        help="merged: stacked, for training with dFactory or here (default); split: one tensor for each expert",
    )
    return p


def open_source(path: str) -> tuple[ModelConfig, str, weights.Plan, Callable[[str], Tensor]]:
    """Return shape, tokenizer path, tensors and reader of the weights at ``path``."""
    if is_folder(path):
        shape, _ = model_config.load(path)
        folder = WeightFolder(path)
        folder.check(hf_names.merged_shapes(shape))
        words = path if tokenizer.is_folder(path) else "bytes"
        return (
            shape,
            words,
            weights.plan_export(shape, path),
            lambda name: folder.read_rows(name, 0, folder.shapes[name][0]),
        )
    path = checkpoint.newest(path)
    meta = checkpoint.read_meta(path)
    shape, _ = model_config.from_dict(meta["model"], f"{path}/meta.json")
    parts, sizes = hf_names.layout(shape), hf_names.our_shapes(shape)
    model = meta["config"]["model"]
    plan = weights.plan_export(shape, model["model_path"])
    return shape, model["tokenizer_path"], plan, lambda name: checkpoint.read_tensors(path, parts[name], sizes)


def convert(source: str, folder: str, experts: str) -> None:
    """Write ``folder`` from the weights at ``source``."""
    if os.path.lexists(folder):
        raise UserError(f"{folder}: it exists already; name a new folder")
    shape, words, plan, read = open_source(source)
    dtype = plan["lm_head.weight"][1]
    if experts == "split":
        plan, read = weights.split_experts(plan, read)
    partial = f"{folder.rstrip('/')}.partial"
    weights.make_folder(partial)
    weights.write_assets(partial, shape, tokenizer.load(words), dtype, merged=experts == "merged")
    write_tensors(partial, plan, read)
    weights.publish(partial, folder)
    print(f"wrote {len(plan)} tensors with {experts} experts to {folder}")


def main(arguments: list[str]) -> int:
    """Convert the weights, and return the exit code of the process."""
    options = parser().parse_args(arguments)
    return run_command(lambda: convert(options.source, options.folder, options.experts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
