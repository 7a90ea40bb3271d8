"""Training run: from a checked configuration to a score and a checkpoint."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from . import checkpoint, data, flops, mask, model_config, objective, optim, parallel, tokenizer, weights
from .errors import UserError
from .evaluate import Score, evaluate
from .report import Reporter, print_line
from .sections import Config, batch_sizes
from .stop import StopRequest, exit_code
from .world import World


class Run:
    """All objects that a step needs; all ranks build it together, so that all ranks report a mistake of one."""

    def __init__(self, config: Config, shape: model_config.ModelConfig, world: World) -> None:
        self.config, self.shape, self.world = config, shape, world
        train = config.train
        self.global_batch, self.micro_batch, self.accumulation = batch_sizes(train, world.size)
        # Wrong paths are reported before anything that takes minutes.
        world.together(lambda: parallel.check_kernels(shape, config, world.device))
        self.words = world.together(lambda: load_tokenizer(config, shape))
        start = config.model.model_path
        self.warnings = world.together(lambda: weights.check(start, shape) if start else [])
        self.plan = world.together(lambda: weights.plan_export(shape, start) if train.save_hf_weights else {})
        replicated = train.data_parallel_mode == "ddp"
        self.store = checkpoint.Store(train.output_dir, train.keep_last_n, world, replicated)
        self.checkpoint = self.store.find(train.load_checkpoint_path)
        self.done = world.together(self._read_step)
        self.examples = world.together(lambda: data.read(config, self.words, shape.vocab_size))
        same_data_everywhere(world, self.examples.digest, config.data.train_path)
        self.rows, self.val_rows = data.split(len(self.examples), config.data.val_fraction, config.data.val_examples)
        self.source = data.Steps(self.examples, self.rows, config, self.global_batch, world.rank, world.size)
        if not self.source.per_epoch:
            raise UserError(
                f"train.global_batch_size {self.global_batch} is more than the {len(self.rows)} training examples"
            )
        planned = train.num_train_epochs * self.source.per_epoch
        self.steps = planned if train.max_steps is None else min(planned, train.max_steps)
        self.reporter = world.together(lambda: Reporter(config, world.first, self.done, self.steps))
        self.model = parallel.build(shape, config, world, draw=self.checkpoint is None and start is None)
        self.optimizer = optim.build(self.model, train, world.device)
        self._load()
        self._masks: dict[int, Any] = {}
        self._flops: dict[int, float] = {}

    def _read_step(self) -> int:
        """Return how many steps the checkpoint to resume from has done, if it is of this model's shape."""
        if self.checkpoint is None:
            return 0
        weights.check_shape(self.checkpoint, self.shape)
        return int(checkpoint.read_meta(self.checkpoint)["step"])

    def _load(self) -> None:
        """Fill model and optimizer from ``load_checkpoint_path``, or else the model from ``model_path``."""
        start = self.config.model.model_path
        if self.checkpoint is not None:
            self.store.load(self.checkpoint, self.model, self.optimizer)
        elif start is not None:
            self.world.together(lambda: weights.load(start, parallel.bare(self.model), self.shape))

    def block_size(self, step: int) -> int:
        """Return the block size of ``step`` (from 0)."""
        train = self.config.train
        return objective.block_size_at(
            step,
            self.steps,
            schedule=train.block_schedule,
            block=train.block_size,
            length=self.config.data.max_seq_len,
            warmup=train.block_warmup_sizes,
            decay=train.block_decay_sizes,
            warmup_ratio=train.block_warmup_ratio,
            decay_ratio=train.block_decay_ratio,
        )

    def mask(self, block: int) -> Any:
        """Return the attention mask of one block size, cached; None if the whole sequence is one block.

        Then no noisy position would attend to the clean half, which is left out: plain masked diffusion.
        """
        length = self.config.data.max_seq_len
        if block < length and block not in self._masks:
            self._masks[block] = self._new_mask(length, block)
        return self._masks.get(block)

    def _new_mask(self, length: int, block: int) -> Any:
        if self.config.model.attn_implementation != "flex_attention":
            return mask.block_diffusion(length, block, self.world.device)
        from torch.nn.attention.flex_attention import create_block_mask

        def may_attend(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return mask.allowed(query, key, length, block)

        return create_block_mask(may_attend, None, None, 2 * length, 2 * length, device=str(self.world.device))

    def step(self, step: int, batch: data.Batch) -> tuple[float, float, float]:
        """Run one optimizer step on this rank's rows; return (loss over the global batch, gradient norm, learning rate)."""
        train, world = self.config.train, self.world
        block_mask = self.mask(self.block_size(step))
        micros = [batch.rows(i, i + self.micro_batch) for i in range(0, batch.ids.shape[0], self.micro_batch)]
        if train.complementary_masking:
            micros = [objective.complement(micro) for micro in micros]
        counts = [objective.denominator(m, train.loss_weighting, same_token=train.same_token_labels) for m in micros]
        (denominator,) = world.total([float(sum(counts))])
        summed = torch.zeros((), device=world.device)
        for number, micro in enumerate(micros, 1):
            micro = micro.to(world.device)
            with parallel.accumulating(self.model, number == len(micros)):
                loss = self._micro_loss(micro, block_mask, max(denominator, 1.0))
                # DDP and FSDP average over the ranks, but the loss is a sum over them.
                torch.autograd.backward(loss * world.size)
            summed += loss.detach()
        norm = parallel.clip(self.model, train.max_grad_norm)
        rate = optim.learning_rate(step, self.steps, train)
        optim.set_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(summed), norm, rate

    def _micro_loss(self, micro: data.Batch, block_mask: Any, denominator: float) -> Tensor:
        """Return this micro-batch's part of the global loss."""
        train = self.config.train
        ids, positions = objective.noisy_input(micro, self.shape.mask_token_id, clean=block_mask is not None)
        with parallel.precision(self.config, self.world):
            logits = self.model(ids, positions, block_mask, micro.ids.shape[1])
        total, scored, targets = objective.summed_loss(
            logits, micro, weighting=train.loss_weighting, same_token=train.same_token_labels
        )
        loss = total / denominator
        if train.confidence_beta:
            part = train.confidence_beta / (self.accumulation * self.world.size)
            loss = loss + part * objective.confidence(scored, targets)
        return loss

    def score(self) -> Score:
        """Return the held-out score at the configured block size."""
        block_mask = self.mask(self.config.train.block_size)
        return evaluate(self.model, self.examples, self.rows, self.val_rows, block_mask, self.config, self.world)

    def mfu(self, step: int, rows_a_second: float) -> float | None:
        """Return the share of the GPUs' peak that the step used, if the peak is known."""
        top = flops.peak(self.world.device)
        if top is None:
            return None
        block = self.block_size(step)
        if block not in self._flops:
            length = self.config.data.max_seq_len
            self._flops[block] = flops.per_row(parallel.bare(self.model), length, block)
        passes = 2 if self.config.train.complementary_masking else 1
        return self._flops[block] * passes * rows_a_second / (top * self.world.size)

    def save(self, done: int) -> str:
        """Write a checkpoint after ``done`` steps."""
        meta = {"config": self.config.as_dict(), "model": asdict(self.shape), "world_size": self.world.size}
        return self.store.save(done, self.model, self.optimizer, meta | {"torch": str(torch.__version__)})

    def export(self, path: str) -> str:
        """Write the weights as a Hugging Face folder into the checkpoint at ``path``; return the folder."""
        final, partial = os.path.join(path, "hf_ckpt"), os.path.join(path, ".hf_ckpt-partial")
        leader, model, plan = self.store.leader, parallel.bare(self.model), self.plan

        def prepare() -> None:
            if leader:
                weights.make_folder(partial)
                weights.write_assets(partial, self.shape, self.words, plan["lm_head.weight"][1], merged=True)

        self.world.together(prepare)
        self.world.together(lambda: weights.export(partial, model, self.shape, plan, leader=leader))
        self.world.together(lambda: weights.publish(partial, final) if leader else None)
        return final


def load_tokenizer(config: Config, shape: model_config.ModelConfig) -> tokenizer.Tokenizer:
    """Return the tokenizer, if the model has an embedding for each of its ids."""
    words = tokenizer.load(config.model.tokenizer_path)
    if words.vocab_size > shape.vocab_size:
        raise UserError(
            f"model.tokenizer_path {config.model.tokenizer_path} has {words.vocab_size} tokens, "
            f"the model's vocab_size is {shape.vocab_size}"
        )
    return words


def same_data_everywhere(world: World, digest: str, where: str) -> None:
    """Verify that all ranks read the same text: slices of different texts are not one batch."""
    found = world.gather((world.host, digest, platform.python_version()))
    _, first, version = found[0]
    for host, other, python in found:
        if other != first:
            advice = "give every host the same files"
            if where == "pydoc":
                advice = "Python's documentation differs by version: use one Python, or --data.train_path FILE"
            raise UserError(
                f"data.train_path {where}: {found[0][0]} (Python {version}) read {first[:12]}, "
                f"{host} (Python {python}) read {other[:12]}; {advice}"
            )


def train(config: Config, shape: model_config.ModelConfig, world: World) -> int:
    """Run the whole training; return the exit code."""
    if config.train.enable_full_determinism:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    print_line(
        f"Process rank: {world.rank}, world size: {world.size}, host: {world.host}, "
        f"device: {world.device}, pid: {os.getpid()}"
    )
    run = Run(config, shape, world)
    introduce(run)
    stop = StopRequest()
    stop.install()
    try:
        return _steps(run, stop)
    finally:
        run.reporter.close()


def introduce(run: Run) -> None:
    """Print what the run will do, on rank 0."""
    count = sum(parameter.numel() for parameter in parallel.bare(run.model).parameters())
    c, world, reporter = run.config, run.world, run.reporter
    if os.environ.get("FANOUT_ATTEMPT", "0") != "0":
        reason = os.environ.get("FANOUT_RESTART_REASON", "unknown")
        reporter.print_line(f"attempt {os.environ['FANOUT_ATTEMPT']} of this run (the one before: {reason})")
    for warning in run.warnings:
        reporter.print_line(f"warning: {warning}")
    reporter.print_line(
        f"model {count:,} parameters, {c.train.data_parallel_mode}, {world.size} x {world.device.type}; "
        f"{len(run.rows)} examples of {c.data.max_seq_len} tokens (sha256 {run.examples.digest[:12]}); "
        f"global batch {run.global_batch} = {world.size} x {run.micro_batch}"
        + (f" x {run.accumulation} accumulated" if run.accumulation > 1 else "")
    )
    if not run.store.shared:
        reporter.print_line(f"{c.train.output_dir} is not shared by the hosts: each keeps whole checkpoints of its own")
    if run.checkpoint is None and c.model.model_path is not None:
        reporter.print_line(f"starts from the weights in {c.model.model_path}")
    if run.done:
        reporter.print_line(f"resumed after step {run.done}")


def _steps(run: Run, stop: StopRequest) -> int:
    config, world, reporter, done = run.config, run.world, run.reporter, run.done
    loader = DataLoader(
        run.source, batch_size=None, sampler=range(done, run.steps), num_workers=config.data.num_workers
    )
    began, since, counted = time.perf_counter(), time.perf_counter(), done
    for step, batch in enumerate(loader, done):
        loss, norm, rate = run.step(step, batch)
        loss, *votes = world.total([loss, *stop.votes()])
        done = step + 1
        if reporter.due(done):
            now = time.perf_counter()
            rows = (done - counted) * run.global_batch / (now - since)
            speed = rows * config.data.max_seq_len
            reporter.step(
                done,
                loss=loss,
                grad_norm=norm,
                rate=rate,
                speed=speed,
                mfu=run.mfu(step, rows),
                gpu_gb=gpu_gb(world.device),
            )
            since, counted = now, done
        else:
            reporter.step(done)
        asked = stop.decide(votes)
        if asked is not None and done < run.steps:
            path = run.save(done)
            reporter.print_line(
                f"stopped by {asked.name} after step {done}/{run.steps}; saved {path}; "
                "go on with --train.load_checkpoint_path auto"
            )
            return exit_code(asked)
        paused = time.perf_counter()
        _between_steps(run, done)
        since += time.perf_counter() - paused  # tok/s is of training, not of saving and scoring
    _finish(run, time.perf_counter() - began)
    return 0


def gpu_gb(device: torch.device) -> float | None:
    """Return the peak memory of this rank's tensors in GB; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None


def _between_steps(run: Run, done: int) -> None:
    """Write a checkpoint or compute a score if it is due after ``done`` steps."""
    train = run.config.train
    last = done == run.steps
    by_step = bool(train.save_steps) and done % train.save_steps == 0
    by_epoch = bool(train.save_epochs) and done % (train.save_epochs * run.source.per_epoch) == 0
    if by_step or by_epoch or (last and (train.save_epochs or train.save_steps)):
        path = run.save(done)
        run.reporter.print_line(f"saved {path}")
        if last and train.save_hf_weights:
            run.reporter.print_line(f"saved {run.export(path)}")
    if train.eval_steps and done % train.eval_steps == 0 and not last:
        _report_score(run, done)


def _report_score(run: Run, done: int) -> None:
    score, reporter = run.score(), run.reporter
    reporter.print_line(f"val_nll {score.val_nll:.4f} unigram_nll {score.unigram_nll:.4f} ratio {score.ratio:.3f}")
    reporter.record(done, {"val_nll": score.val_nll, "unigram_nll": score.unigram_nll, "ratio": score.ratio})


def _finish(run: Run, seconds: float) -> None:
    _report_score(run, run.steps)
    run.reporter.print_line(f"done: {run.steps} steps, {seconds:.1f} s of training")
