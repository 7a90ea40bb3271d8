"""What a line is worth, judged by its words: an error, a warning, or neither."""

from __future__ import annotations

import re

_ERROR = re.compile(
    r"\b[A-Z]\w*(?:Error|Exception)\b(?!\s*[:=]\s*[-+]?\d*\.?\d+\s*(?:$|[,;|]))|\b(?:ERROR|FATAL|CRITICAL|FAILED|PANIC)\b"
    r"|(?:^|[\s\[(|:])(?:[Ee]rror|[Ff]atal|[Pp]anic)(?:\[\w+\]|\s\w+)?\s*:(?!\s*[-+\d.])|\bfailed\b(?<!\b0 failed)"
    r"|[Oo]ut of memory|Segmentation fault|core dumped|\bKilled\b|\bAborted\b|^During handling of|^The above exception"
    r"|Traceback \(most recent"
)
_WARNING = re.compile(r"\bWARN(?:ING)?\b|Warning\b|\b[Ww]arning\s*:|warnings\.warn\(")
_LOGGED = re.compile(r"(?:\[rank\d+\]:\s?)?\[?([WEF])\d{4} \d\d:\d\d")  # glog's and torch's own way
_LOGGED_LEVEL = {"W": "warning", "E": "error", "F": "error"}


def level_of(text: str) -> str:
    """``error``, ``warning`` or "". Nearly every line is neither: those cost a few searches for a word."""
    low = text.lower()
    if (
        "err" in low or "fail" in low or "warn" in low or "exception" in low or "fatal" in low or "memory" in low
        or "panic" in low or "killed" in low or "critical" in low or "abort" in low or "fault" in low or "trace" in low
        or "dumped" in low
    ):  # fmt: skip
        if _ERROR.search(text):
            return "error"
        if _WARNING.search(text):
            return "warning"
    if text[:1] in "WEF[" and (logged := _LOGGED.match(text)):
        return _LOGGED_LEVEL[logged[1]]
    return ""
