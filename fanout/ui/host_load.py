"""Host load: parse the load in a heartbeat, per GPU if the host has GPUs, else of its CPU and memory.

The report comes from a host and is not trusted: a value that is not a number counts as missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from fanout.model.frozen import frozen

MAX_GPUS = 64
IDLE_PERCENT = 5.0


@frozen
class HostLoad:
    """Load of a host in percent, bytes, degrees Celsius and watts; unknown values are empty or None."""

    cpu: float | None = None
    memory: tuple[float, float] | None = None  # used, total
    gpus: tuple[float | None, ...] = ()  # utilisation of each GPU
    gpu_memory: tuple[float, float] | None = None  # used, total of the GPU with the highest share
    temp: float | None = None  # of the hottest GPU
    watts: float | None = None  # mean over the GPUs
    error: str = ""  # why the load of the GPUs is unknown

    @property
    def utilisation(self) -> float | None:
        """Return the utilisation of the host: the mean of its GPUs, or its CPU if it has no GPU."""
        known = [gpu for gpu in self.gpus if gpu is not None]
        return fmean(known) if known else None if self.gpus or self.error else self.cpu

    @property
    def idle_gpus(self) -> tuple[int, ...]:
        """Return the GPUs that are idle while another GPU works; this is the most common sign of a hang."""
        if not any(gpu is not None and gpu >= 50 for gpu in self.gpus):
            return ()
        return tuple(at for at, gpu in enumerate(self.gpus) if gpu is not None and gpu < IDLE_PERCENT)


def parse_load(report: Mapping[str, Any]) -> HostLoad | None:
    """Parse the load report of a heartbeat; None if it is empty."""
    if not report:
        return None
    listed = report.get("gpus")
    gpus = [gpu for gpu in listed if isinstance(gpu, Mapping)][:MAX_GPUS] if isinstance(listed, list) else []
    full = [pair for gpu in gpus if (pair := _to_pair([gpu.get("used"), gpu.get("total")])) is not None]
    watts = [number for gpu in gpus if (number := _to_number(gpu.get("watts"))) is not None]
    error = report.get("gpu_error")
    return HostLoad(
        cpu=_to_number(report.get("cpu")),
        memory=_to_pair(report.get("memory")),
        gpus=tuple(_to_number(gpu.get("util")) for gpu in gpus),
        gpu_memory=max(full, key=lambda pair: pair[0] / pair[1], default=None),
        temp=max((number for gpu in gpus if (number := _to_number(gpu.get("temp"))) is not None), default=None),
        watts=fmean(watts) if watts else None,
        error=error if isinstance(error, str) else "",
    )


def _to_number(value: Any) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e18:
        return float(value)
    return None


def _to_pair(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    used, total = _to_number(value[0]), _to_number(value[1])
    return (used, total) if used is not None and total else None
