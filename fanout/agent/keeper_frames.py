"""Frames of a keeper that need only a part of its state: its standing, notices about the disk, and the end."""

from __future__ import annotations

from . import frames, processes

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Iterator

    from .lease import Lease
    from .log_spool import LogSpool
    from .rank_logs import RankLogs

#: The end of train.sh if SIGKILL does not end it.
UNKILLABLE = {"code": None, "signal": None, "reason": "unkillable", "why": "train.sh could not be killed"}


def build_keeper_status(lease: Lease, relays: int) -> dict:
    """Return the number of other relays, and how long the keeper has waited and will wait for a launcher."""
    left = round(lease.left, 1) if lease.seconds else None
    silent_for = round(lease.silence, 1)
    return {
        "t": "keeper_status",
        "v": frames.PROTOCOL_VERSION,
        "relays": relays,
        "silent_for": silent_for,
        "lease": left,
    }


def iter_notices(spool: LogSpool, *notices: str) -> Iterator:
    """Yield the frames with which relays learn of a full disk, and the other notices of the keeper."""
    if spool.memory.path:
        yield {"t": "memory_buffer", "path": spool.memory.path}
    for text in filter(None, (*notices, spool.notice)):
        yield {"t": "disk_pressure", "message": text}


def build_background(how: str, processes_text: str, keeper: int) -> dict:
    """Return the frame about processes that outlived train.sh: ``how`` is waited, ended or kept."""
    return {"t": "background_found", "how": how, "processes": processes_text, "keeper": keeper}


def build_outside_called(calls: list) -> dict:
    """Return the frame about the calls that start processes outside the tree of the keeper."""
    return {"t": "outside_called", "calls": ", ".join(calls)}


def iter_requester(facts: dict) -> Iterator:
    """Yield the frame about the user who requested the stop with a command."""
    if facts.get("stopped_by"):
        yield {"t": "stop_requested", "by": facts["stopped_by"]}


def iter_background(facts: dict) -> Iterator:
    """Yield the frames about background processes and outside calls that the record holds."""
    for how, text in facts.get("background", {}).items():
        yield build_background(how, text, facts["keeper"])
    if facts.get("outside_calls"):
        yield build_outside_called(facts["outside_calls"])


def iter_end(facts: dict) -> Iterator:
    """Yield the frames about the end that the record holds."""
    if "exited" in facts:
        yield dict(facts["exited"], t="exited")
    yield from iter_background(facts)
    if "cleaned_up" in facts:
        yield dict(facts["cleaned_up"], t="cleaned_up")


def build_cleaned_up(left: list, killed: int, sizes: dict, spool: LogSpool, ranks: RankLogs | None) -> dict:
    """Return the facts about the end: killed and left processes, and the sizes and checksum of the log."""
    missing = (
        ranks.count_missing() if ranks is not None else 0
    )  # in files of ranks, which the disk had no space to copy
    return {
        "killed": killed,
        "left": [processes.describe_process(pid) for pid in left],
        "sizes": {str(number): size for number, size in sizes.items()},
        "crc": {"0": spool.crc},
        "dropped": spool.dropped + missing,
    }
