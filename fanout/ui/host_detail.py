"""Host detail: the rows of the view of one host. Pure, without rich."""

from __future__ import annotations

from fanout.model.process_names import get_container, name_process
from fanout.model.state import HostState
from fanout.text.units import GIB, count_noun, format_age, format_count, format_size
from fanout.ui.host_load import HostLoad
from fanout.ui.host_rows import Row, RowContext, build_host_rows


def build_host_detail(frame: RowContext, host: HostState) -> list[Row]:
    """Return the row of a host, and below it all that is known about it."""
    texts = [
        _describe_difference(frame, host),
        _describe_load(frame.display.loads.get(host.name), frame),
        _describe_steps(frame, host),
        _describe_output(frame, host),
        _describe_processes(frame, host),
    ]
    return [*build_host_rows(frame, [host]), *([(f"   {text}", "")] for text in texts if text)]


def _describe_difference(frame: RowContext, host: HostState) -> str:
    outlier = frame.outliers.get(host.name)
    return outlier.words if outlier is not None else ""


def _describe_load(load: HostLoad | None, frame: RowContext) -> str:
    """Return the load of every GPU, and what the row has no room for."""
    if load is None:
        return ""
    parts = []
    if load.gpus:
        parts.append(
            "GPU " + "  ".join(f"{at}: {'?' if gpu is None else f'{gpu:.0f}%'}" for at, gpu in enumerate(load.gpus))
        )
    if load.error:
        parts.append(load.error)
    if load.cpu is not None:
        parts.append(f"CPU {load.cpu:.0f}%")
    if load.memory is not None:
        parts.append(f"memory {load.memory[0] / GIB:.0f}/{load.memory[1] / GIB:.0f}G")
    if load.temp is not None:
        parts.append(f"{load.temp:.0f}{'°' if frame.unicode else ' '}C")
    if load.watts is not None:
        parts.append(f"{load.watts:.0f} W")
    return "  ".join(parts)


def _describe_steps(frame: RowContext, host: HostState) -> str:
    reading = frame.display.readings.get(host.name)
    if reading is None:
        return ""
    parts = []
    if host.name in frame.display.ranks.steps:
        parts.append(
            "steps {} to {}, its ranks do not wait for each other".format(*frame.display.ranks.steps[host.name])
        )
    elif reading.step is not None:
        parts.append(f"step {reading.step}" + (f"/{reading.total}" if reading.total else ""))
    if reading.loss is not None:
        parts.append(f"loss {reading.loss:.4f}")
    if reading.speed is not None:
        parts.append(f"{format_count(reading.speed)} tok/s")
    return "  ".join(parts)


def _describe_output(frame: RowContext, host: HostState) -> str:
    if host.last_output_at is None:
        return ""
    name = host.name
    parts = [
        count_noun(frame.display.lines.get(name, 0), "line"),
        format_size(host.received_bytes),
        count_noun(frame.display.warnings.get(name, 0), "warning"),
        count_noun(frame.display.errors.get(name, 0), "error"),
        f"last line {format_age(frame.state.now - host.last_output_at)}",
    ]
    return "  ".join(parts)


def _describe_processes(frame: RowContext, host: HostState) -> str:
    node, count = frame.heading.ranks.get(host.name, (None, None))
    parts = [] if node is None else [f"node {node}"]
    if count is not None:
        parts.append(count_noun(count, "rank"))
    if host.pid is not None:
        parts.append(f"train.sh has {name_process(host.pid, get_container(host.hello))}")
    if host.started_at is not None:
        age = format_age(frame.state.now - host.started_at)
        parts.append(f"started {age} ago" if age != "now" else "started now")
    return "  ".join(parts)
