"""Write text with a trained model: ``generate_llada2.py outputs/llada2_mini_bd_sft --prompt assert``."""

from __future__ import annotations

import argparse
import math
import sys

import torch
from llada2 import checkpoint, hf_folder, model_config, sampling, tokenizer, weights, world
from llada2.errors import UserError, run_command
from llada2.model import LLaDA2


def parser() -> argparse.ArgumentParser:
    """Return the options; the defaults of decoding are those of the paper, and sizes come from the checkpoint."""
    p = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    p.add_argument(
        "checkpoint", help="a global_step_N directory, an output directory (its newest one), or a Hugging Face folder"
    )
    p.add_argument("--prompt", required=True, help="the message of the user")
    p.add_argument("--gen-length", type=int, default=64, help="at most so many tokens (default %(default)s)")
    p.add_argument("--block-size", type=int, help="default: the one that was trained; 32 for a Hugging Face folder")
    p.add_argument("--steps", type=int, help="at most so many passes a block (default: the block size)")
    p.add_argument(
        "--threshold", type=float, default=0.95, help="accept tokens of a higher probability (default %(default)s)"
    )
    p.add_argument("--temperature", type=float, default=0.0, help="0 takes the most probable token (default)")
    p.add_argument(
        "--in-order-of", default="confidence", choices=["confidence", "chance"], help="which places go first"
    )
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    return p


def open_model(path: str) -> tuple[LLaDA2, tokenizer.Tokenizer, int]:
    """Return the model at ``path`` on the CPU, its tokenizer, and the block size that it was trained with."""
    if hf_folder.is_folder(path):
        shape, _ = model_config.load(path)
        for warning in weights.check(path, shape):
            print(f"warning: {warning}", file=sys.stderr)
        words, block = tokenizer.load(path if tokenizer.is_folder(path) else "bytes"), 32
    else:
        meta = checkpoint.read_meta(path)
        shape, _ = model_config.from_dict(meta["model"], f"{path}/meta.json")
        words, block = tokenizer.load(meta["config"]["model"]["tokenizer_path"]), meta["config"]["train"]["block_size"]
    model = LLaDA2(shape).eval()
    weights.load(path, model, shape, alone=True)
    return model, words, block


def run(options: argparse.Namespace) -> None:
    """Load the model, write the text, and print it."""
    path = checkpoint.newest(options.checkpoint)
    device = world.choose_device(options.device, 0, 1, "--device cuda")
    model, words, block = open_model(path)
    model.to(device)
    prompt, _ = words.chat([{"role": "user", "content": options.prompt}, {"role": "assistant", "content": ""}])
    block = block if options.block_size is None else options.block_size
    steps = block if options.steps is None else options.steps
    for name, value in (("--gen-length", options.gen_length), ("--block-size", block), ("--steps", steps)):
        if value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    if not 0 <= options.temperature < math.inf:
        raise UserError(f"--temperature must be at least 0, not {options.temperature}")
    out = sampling.generate(
        model,
        torch.tensor(prompt, device=device),
        gen_length=options.gen_length,
        block_size=block,
        steps=steps,
        threshold=options.threshold,
        temperature=options.temperature,
        in_order_of=options.in_order_of,
        eos_id=words.eos,
        generator=torch.Generator(device).manual_seed(options.seed),
    )
    print(words.decode(out.ids[len(prompt) :].tolist()))
    print(
        f"-- {out.written} tokens in {out.forwards} forwards: {out.tokens_per_forward:.2f} tokens per forward "
        f"({path}, block {block}, threshold {options.threshold}, temperature {options.temperature})"
    )


def main(arguments: list[str]) -> int:
    """Generate the text, and return the exit code of the process."""
    return run_command(lambda: run(parser().parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
