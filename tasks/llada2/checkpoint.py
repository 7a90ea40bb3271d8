"""Checkpoints that are complete or absent: written under another name, renamed when all ranks have written.

``OUTPUT/checkpoints/global_step_N/`` is a torch DCP directory (each rank writes its shard; any number of ranks reads
it) plus ``meta.json``. Learning rate and data are functions of the step, so nothing else needs to be kept.
Where the hosts do not share the directory, each host keeps a whole copy of its own (DDP only: there every rank has
everything).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_state_dict, set_state_dict

from .errors import UserError, first_line
from .world import World

_NAME = re.compile(r"global_step_(\d+)")
_HALF = re.compile(r"\.partial-\d+|\.removed-[0-9a-f]{32}")


def whole(directory: str) -> dict[int, str]:
    """Return step -> path of every complete checkpoint under ``directory``, in order."""
    found = {}
    for name in os.listdir(directory) if os.path.isdir(directory) else []:
        match = _NAME.fullmatch(name)
        if match and os.path.isfile(os.path.join(directory, name, "meta.json")):
            found[int(match[1])] = os.path.join(directory, name)
    return dict(sorted(found.items()))


def read_meta(path: str) -> dict[str, Any]:
    """Return the metadata beside the weights: step, configuration, model shape."""
    try:
        with open(os.path.join(path, "meta.json"), encoding="utf-8") as stream:
            meta: dict[str, Any] = json.load(stream)
    except FileNotFoundError:
        absent = "" if os.path.isdir(path) else f"; there is no such directory (from {os.getcwd()})"
        raise UserError(f"{path}: not a checkpoint of this trainer (no meta.json){absent}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}/meta.json: {error}") from None
    return meta


def load_weights(path: str, model: nn.Module, *, alone: bool = False) -> None:
    """Fill ``model`` with the weights of a checkpoint; ``alone``: there is no process group."""
    state = {"model": get_model_state_dict(model)}
    with _dcp(path, "read"):
        state_dict_loader.load(state, checkpoint_id=path, no_dist=alone)


def read_tensors(path: str, names: list[str], shapes: Mapping[str, tuple[int, ...]]) -> torch.Tensor:
    """Return some weights of a checkpoint, one below the other; nothing else of it is read."""
    state = {"model": {name: torch.empty(shapes[name]) for name in names}}
    with _dcp(path, "read"):
        state_dict_loader.load(state, checkpoint_id=path, no_dist=True)
    return torch.cat(list(state["model"].values()))


def newest(path: str) -> str:
    """Return the checkpoint at ``path``, or the newest one of the run with that output directory."""
    found = list(whole(os.path.join(path, "checkpoints")).values())
    return found[-1] if found else path


class Store:
    """The checkpoints of one run; all ranks call each method together."""

    def __init__(self, output_dir: str, keep: int, world: World, replicated: bool) -> None:
        self.directory = os.path.join(output_dir, "checkpoints")
        self.keep, self.world, self.replicated = keep, world, replicated
        self._mine: list[str] = []  # of this run, oldest first: those of another run in this directory are not deleted
        self.shared = self._is_shared()
        self.leader = world.first if self.shared else world.local_rank == 0
        if not self.shared and not replicated:
            raise UserError(
                f"train.output_dir {output_dir} is not the same directory on all hosts, and data_parallel_mode fsdp2 "
                "writes one part of a checkpoint on each; name a shared directory"
            )
        if self.leader:
            self._sweep()

    def _is_shared(self) -> bool:
        """Create a file with a random name on rank 0; a host that does not see it has another disk."""

        def prepare() -> None:
            try:
                os.makedirs(self.directory, exist_ok=True)
            except OSError as error:
                raise UserError(f"train.output_dir: {self.directory}: {error.strerror}") from None

        self.world.together(prepare)
        name = self.world.gather(f".probe-{uuid.uuid4().hex}")[0]
        probe = os.path.join(self.directory, name)

        def leave_probe() -> None:
            try:
                if self.world.first:
                    with open(probe, "x", encoding="utf-8"):
                        pass
            except OSError as error:
                raise UserError(f"train.output_dir: {probe}: {error.strerror}") from None

        self.world.together(leave_probe)
        os.listdir(self.directory)  # makes NFS read the directory again
        seen = all(self.world.gather(os.path.exists(probe)))
        if self.world.first:
            os.unlink(probe)
        return seen

    def _sweep(self) -> None:
        """Remove what a killed run left half written or half removed, by the exact names that this class gives."""
        for name in os.listdir(self.directory):
            if _HALF.fullmatch(name):
                shutil.rmtree(os.path.join(self.directory, name), ignore_errors=True)

    def find(self, wanted: str | None) -> str | None:
        """Return the checkpoint to resume from: None, the newest complete one for ``auto``, or the one at a path."""
        if not wanted:
            return None
        if wanted != "auto":
            self.world.together(lambda: read_meta(wanted))
            return wanted
        steps = self.world.gather(set(whole(self.directory)))
        common = set.intersection(*steps)
        if not common and any(steps):
            raise UserError(f"{self.directory}: the hosts have no checkpoint in common; copy one to all of them")
        return whole(self.directory)[max(common)] if common else None

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, meta: dict[str, Any]) -> str:
        """Write ``global_step_N``, remove the oldest beyond ``keep``, and return its path."""
        final = os.path.join(self.directory, f"global_step_{step}")
        partial = os.path.join(self.directory, f".partial-{step}")
        weights, optimizer_state = get_state_dict(model, optimizer)
        state = {"model": weights, "optimizer": optimizer_state}

        def write() -> None:
            if self.shared or self.leader:
                with _dcp(partial, "written"):
                    state_dict_saver.save(state, checkpoint_id=partial, no_dist=not self.shared)

        def publish() -> None:
            if self.leader:
                with _dcp(final, "written"):
                    self._publish(partial, final, {"step": step, **meta})

        self.world.together(write)
        self.world.together(publish)
        return final

    def _publish(self, partial: str, final: str, meta: dict[str, Any]) -> None:
        """Publish the checkpoint by one rename, after all shards are on the disk."""
        with open(os.path.join(partial, "meta.json"), "w", encoding="utf-8") as stream:
            json.dump(meta, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        _sync(partial)
        if final in whole(self.directory).values():
            _remove(final)
        elif os.path.lexists(final):  # it belongs to another trainer: it is not ours to delete
            os.rename(final, f"{final}.other-{uuid.uuid4().hex[:8]}")
        os.rename(partial, final)
        _sync(self.directory)
        self._mine = [path for path in self._mine if path != final] + [final]
        if self.keep:
            for path in self._mine[: -self.keep]:
                _remove(path)
            del self._mine[: -self.keep]

    def load(self, path: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Fill model and optimizer from ``path``, written by any number of ranks; return the number of steps done."""
        weights, optimizer_state = get_state_dict(model, optimizer)
        state = {"model": weights, "optimizer": optimizer_state}

        def read() -> None:
            with _dcp(path, "read"):
                state_dict_loader.load(state, checkpoint_id=path, no_dist=not self.shared)

        self.world.together(read)
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=optimizer_state)
        step = int(read_meta(path)["step"])
        there = whole(self.directory)
        if os.path.realpath(path) == os.path.realpath(there.get(step, "")):
            self._mine = [before for number, before in there.items() if number <= step]
        return step


@contextmanager
def _dcp(path: str, verb: str) -> Iterator[None]:
    """Turn a full disk or a missing shard into one line; hide the warnings of DCP about what is intended here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CheckpointException as error:
        causes = [str(cause[0]) for cause in error.failures.values()]
        raise UserError(f"{path}: checkpoint could not be {verb}: {first_line(causes[0])}") from None
    except OSError as error:
        raise UserError(f"{path}: checkpoint could not be {verb}: {error}") from None


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: str) -> None:
    """Rename, then remove: a checkpoint that is half removed never looks complete."""
    if os.path.isdir(path):
        hidden = os.path.join(os.path.dirname(path), f".removed-{uuid.uuid4().hex}")
        os.rename(path, hidden)
        shutil.rmtree(hidden, ignore_errors=True)
