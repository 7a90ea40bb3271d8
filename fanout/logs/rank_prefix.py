"""Line patterns: the rank of a stream or a line prefix, log records, and exceptions."""

from __future__ import annotations

import re

from fanout.logs import glog

_MARK = re.compile(r"^\[(?P<word>rank|Rank |RANK |default|trainer|worker|role)?(?P<number>\d{1,9})\]:? ?")
_GROUP = re.compile(r"^\[?.{0,60}?\[(?:PG \d+ |PG ID 0 PG GUID \S+\()?(?:\(?default_pg\) )?Rank (?P<rank>\d{1,9})\]")
_PREFIXED = re.compile(
    r"^.{1,120}?[\s\])}|:>](?=\[rank\d{1,9}\]: )"
)  # a tool's prefix, or a progress bar, before a rank prefix
_LOGGED = re.compile(rf"^(?:{glog.HEAD}|\[[EWIF] |\d{{4}}-\d\d-\d\d|Traceback |=====)")
_RAISED = re.compile(r"^(?!nccl)[A-Za-z_][\w.]{0,200}(?:Error|Exception)(?:: |$)")


def split_rank_prefix(text: str) -> tuple[str, int | None, int | None]:
    """Return (text without the prefix, global rank, local rank): ``[rank5]: x`` and torchrun's ``[default1]:x``."""
    if "[rank" in text and not text.startswith("[rank") and (before := _PREFIXED.match(text)):
        inner, rank, _ = split_rank_prefix(text[before.end() :])
        _, _, local = split_rank_prefix(text[: before.end()]) if text.startswith("[") else (text, None, None)
        return inner, rank, local
    match = _MARK.match(text) if text.startswith("[") else None
    if match is None or match["word"] is None:
        group = _GROUP.match(text) if "Rank " in text else None
        return text, int(group["rank"]) if group else None, None
    number = int(match["number"])
    rest = text[match.end() :]
    if match["word"].strip().lower() == "rank":
        return rest, number, None
    inner, rank, _ = split_rank_prefix(rest)  # `[default1]:[rank5]: …`
    return inner, rank, number


def has_rank(text: str) -> bool:
    """Return whether the line has the prefix of a rank."""
    _, rank, local = split_rank_prefix(text)
    return rank is not None or local is not None


def is_log_record(text: str) -> bool:
    """Return whether the line begins a log record, so that it does not continue a message."""
    return bool(_LOGGED.match(text))


def is_exception(text: str) -> bool:
    """Return whether the line names an exception, as the last line of a traceback does. NCCL names do not count."""
    return bool(_RAISED.match(text))


def parse_number(text: str | None) -> int | None:
    """Return the text as a whole number; None if it is not one."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None


def parse_stream_rank(name: str) -> int | None:
    """Return the global rank in a stream's name (``rank 5``, ``rank 5 err``); None without one."""
    word, number, *_ = [*name.split(), "", ""]
    return parse_number(number) if word == "rank" else None
