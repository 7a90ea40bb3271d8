"""The rows of a weight that this rank holds: all of them, or the shard that FSDP2 gave it."""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor


def row_range(weight: Tensor) -> slice:
    """Return the rows (dimension 0) of ``weight`` on this rank; FSDP2 divides them as ``torch.chunk`` does."""
    rows = weight.shape[0]
    if not isinstance(weight, DTensor):
        return slice(0, rows)
    mesh = weight.device_mesh
    share = -(-rows // mesh.size())
    start = min(rows, mesh.get_local_rank() * share)
    return slice(start, min(rows, start + share))


def local_rows(weight: Tensor) -> Tensor:
    """Return this rank's rows of ``weight`` as a plain tensor that shares its memory."""
    return weight.to_local() if isinstance(weight, DTensor) else weight
