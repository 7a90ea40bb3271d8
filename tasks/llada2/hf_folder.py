"""Folders of weights in the format of Hugging Face: safetensors files and their index, read by rows and written whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from . import hf_names
from .errors import UserError, first_line
from .hf_names import Shape

INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000  # upstream's size of one file
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}


def is_folder(path: str) -> bool:
    """Return whether ``path`` is a directory with weights in the format of Hugging Face."""
    return os.path.isdir(path) and any(name.endswith((".safetensors", INDEX)) for name in os.listdir(path))


class WeightFolder:
    """The tensors of a folder, with split experts shown as merged ones."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._files: dict[str, Any] = {}  # file -> open file
        self._place: dict[str, str] = {}  # tensor -> file
        for name in _list_files(path):
            with _report(f"{path}/{name}"):
                self._files[name] = load_library().safe_open(os.path.join(path, name), framework="pt")
                self._place |= dict.fromkeys(self._files[name].keys(), name)
        self.shapes, self.dtypes = self._describe()

    def _describe(self) -> tuple[dict[str, Shape], dict[str, torch.dtype]]:
        """Return shape and dtype of each tensor, from the heads of the files."""
        shapes: dict[str, Shape] = {}
        dtypes: dict[str, torch.dtype] = {}
        experts: dict[str, set[int]] = {}
        for name in self._place:
            found = self._slice(name)
            shape, dtype = tuple(found.get_shape()), found.get_dtype()
            if dtype not in _DTYPES:
                raise UserError(f"model.model_path {self.path}: {name} is {dtype}; weights must be one of {[*_DTYPES]}")
            merged = hf_names.merged_name(name)
            if merged is not None:
                name, expert = merged
                if name in shapes and shapes[name][1:] != shape:
                    raise UserError(f"model.model_path {self.path}: the experts of {name} have several shapes")
                experts.setdefault(name, set()).add(expert)
                shape = (len(experts[name]), *shape)
            shapes[name], dtypes[name] = shape, _DTYPES[dtype]
        for name, present in experts.items():
            if present != set(range(len(present))):
                absent = min(set(range(max(present))) - present)
                raise UserError(f"model.model_path {self.path}: expert {absent} of {name} is missing")
        return shapes, dtypes

    def _slice(self, name: str) -> Any:
        place = self._place[name]
        with _report(f"{self.path}/{place}"):
            return self._files[place].get_slice(name)

    def read_rows(self, name: str, start: int, stop: int) -> Tensor:
        """Return the rows ``start`` to ``stop`` of a tensor; nothing else of it is read."""
        if start >= stop:
            return torch.empty(0, *self.shapes[name][1:], dtype=self.dtypes[name])
        split = [] if name in self._place else hf_names.split_names(name, stop)[start:]
        rows: Tensor = torch.stack([self._slice(one)[:] for one in split]) if split else self._slice(name)[start:stop]
        return rows

    def check(self, expected: Mapping[str, Shape]) -> None:
        """Raise UserError unless the folder holds exactly the tensors ``expected``."""
        found = {name: shape for name, shape in self.shapes.items() if not name.endswith("rotary_emb.inv_freq")}
        for names, verb in (
            (expected.keys() - found.keys(), "lacks"),
            (found.keys() - expected.keys(), "has, and the model of config_path has not,"),
        ):
            if names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                raise UserError(f"model.model_path {self.path}: it {verb} the tensor {min(names)}{more}")
        for name, shape in expected.items():
            if found[name] != shape:
                raise UserError(
                    f"model.model_path {self.path}: {name} is {list(found[name])}, "
                    f"the model of config_path needs {list(shape)}"
                )


def _list_files(path: str) -> list[str]:
    """Return the names of the safetensors files of a folder; all files of its index are there."""
    present = sorted(name for name in os.listdir(path) if name.endswith(".safetensors"))
    index = os.path.join(path, INDEX)
    if not os.path.isfile(index):
        return present
    try:
        with open(index, encoding="utf-8") as stream:
            wanted = sorted(set(json.load(stream)["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index}: not an index of weights: {first_line(error)}") from None
    missing = sorted(set(wanted) - set(present))
    if missing:
        raise UserError(f"{index}: {len(missing)} of its {len(wanted)} files are missing, the first is {missing[0]}")
    return wanted


def load_library() -> Any:
    """Return the package safetensors, which not every host has."""
    try:
        import safetensors.torch
    except ImportError:
        raise UserError("weights of Hugging Face need safetensors; type: pip install safetensors") from None
    return safetensors


@contextmanager
def _report(path: str) -> Iterator[None]:
    """Report in one line a file that is cut off or cannot be written."""
    try:
        yield
    except (OSError, load_library().SafetensorError) as error:
        raise UserError(f"{path}: {first_line(error)}") from None


def write_tensors(
    directory: str,
    plan: Mapping[str, tuple[Shape, torch.dtype]],
    read: Callable[[str], Tensor],
    *,
    leader: bool = True,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the tensors of ``plan`` into ``directory``: one file, or several and an index.

    All ranks call it together, because ``read`` may be a collective. Only the ``leader`` writes. Its mistake is raised
    after the last ``read``, so that no other rank waits for it.
    """
    files = _name_files(plan, shard_bytes)
    mistake: UserError | None = None
    for file, names in files.items():
        tensors = {}
        for name in names:
            tensor = read(name)
            if leader and mistake is None:
                tensors[name] = tensor.to("cpu", plan[name][1]).contiguous()
        try:
            if tensors:
                with _report(f"{directory}/{file}"):
                    load_library().torch.save_file(tensors, os.path.join(directory, file), metadata={"format": "pt"})
        except UserError as error:
            mistake = error
    if mistake is not None:
        raise mistake
    if leader and len(files) > 1:
        places = {name: file for file, names in files.items() for name in names}
        total = sum(_count_bytes(plan[name]) for name in plan)
        with _report(f"{directory}/{INDEX}"), open(os.path.join(directory, INDEX), "w", encoding="utf-8") as stream:
            json.dump({"metadata": {"total_size": total}, "weight_map": places}, stream, indent=1)


def _name_files(plan: Mapping[str, tuple[Shape, torch.dtype]], most: int) -> dict[str, list[str]]:
    """Divide the tensors over files of at most ``most`` bytes each, or of one tensor."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, entry in plan.items():
        if groups[-1] and size + _count_bytes(entry) > most:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += _count_bytes(entry)
    if len(groups) == 1:
        return {"model.safetensors": groups[0]}
    return {f"model-{i:05}-of-{len(groups):05}.safetensors": names for i, names in enumerate(groups, 1)}


def _count_bytes(entry: tuple[Shape, torch.dtype]) -> int:
    shape, dtype = entry
    return torch.Size(shape).numel() * dtype.itemsize
