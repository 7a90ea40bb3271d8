"""Line levels: classify lines as error, warning or neither by their words, and keep each traceback together.

A traceback is one log line with line ends in it. So other streams cannot split it, and equal tracebacks of many ranks
fold like lines. It ends at a line that does not belong to it, or after a short time without output.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fanout.logs import glog
from fanout.logs.demux import LogLine, split_block
from fanout.logs.torchrun_traceback import EXCEPTION, SUMMARY_BORDER
from fanout.text.sanitize import sanitize_line

HEAD = "Traceback (most recent call last)"
SILENCE_SECONDS = 0.5  # a traceback without a new line for this time has ended
NAMED_SECONDS = 0.12  # the same after the line with the exception: the rest of its message arrives at once
LONGEST = 400  # lines of one traceback
AFTER = 8  # lines of an exception's message
_ERROR = re.compile(
    r"\b[A-Z]\w*(?:Error|Exception)\b(?!\s{0,40}[:=]\s{0,40}[-+]?\d{0,19}\.?\d{1,19}\s{0,40}(?:$|[,;|]))|\b(?:ERROR|FATAL|CRITICAL|FAILED|PANIC)\b"
    r"|(?:^|[\s\[(|:])(?:[Ee]rror|[Ff]atal|[Pp]anic)(?:\[\w{1,60}\]|\s\w{1,60})?\s{0,40}:(?!\s{0,40}[-+\d.])|\bfailed\b(?<!\b0 failed)"
    r"|[Oo]ut of memory|Segmentation fault|core dumped|\bKilled\b|\bAborted\b|^During handling of|^The above exception"
    r"|Traceback \(most recent"
)
_WARNING = re.compile(r"\bWARN(?:ING)?\b|Warning\b|\b[Ww]arning\s*:|warnings\.warn\(")
_LIKE_LOGGED = re.compile(r"\n(?:[WEF]\d|\[(?:[WEF]\d|rank))")
_LOGGING = re.compile(
    rf"{glog.HEAD}|\[?(?:\d{{4}}-\d\d-\d\d[ T]\d|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\b)"
)  # the start of a line of any logger
_GLOG_LEVELS = {"W": "warning", "E": "error", "F": "error", "I": ""}


def classify_text(text: str) -> str:
    """Return ``error``, ``warning`` or "". Nearly every line is neither, and costs only a few word searches."""
    if _has_keyword(text):
        if _ERROR.search(text):
            return "error"
        if _WARNING.search(text):
            return "warning"
    if text[:1] in "WEF[" and (head := glog.RECORD.match(text)):
        return _GLOG_LEVELS[head["level"]]
    return ""


def _has_keyword(text: str) -> bool:
    low = text.lower()
    return (
        "err" in low
        or "fail" in low
        or "warn" in low
        or "exception" in low
        or "fatal" in low
        or "memory" in low
        or "panic" in low
        or "killed" in low
        or "critical" in low
        or "abort" in low
        or "fault" in low
        or "trace" in low
        or "dumped" in low
    )


def is_uneventful(block: str) -> bool:
    """Return whether no line of this block can be an error or a warning. False means "not known"."""
    if block[:1] in "WEF[" or _LIKE_LOGGED.search(block):
        return False
    without_figures = set(block.encode("utf-8", "replace").translate(None, b"0123456789.").split(b"\n"))
    return not _has_keyword(b"\n".join(without_figures).decode("utf-8", "replace"))  # a few lines


@dataclass(slots=True)
class _OpenTraceback:
    """Traceback that may still grow. ``prefix`` precedes each of its lines, such as ``[rank5]: ``."""

    first: LogLine
    prefix: str
    lines: list[str]
    since: float
    named: int = 0  # lines from the one that names the exception on; 0 before it
    is_torchrun: bool = False  # a summary between two borders may follow
    borders: int = 0

    def accept_line(self, body: str) -> bool:
        """Return whether this line still belongs to the traceback."""
        if len(self.lines) >= LONGEST or HEAD in body:
            return False
        if self.is_torchrun:
            return self._accept_summary(body)
        if self.named:
            self.named += 1
            return bool(body.strip()) and self.named <= AFTER and not _LOGGING.match(body)
        if body and body[0] not in " \t":
            self.named = 1
            self.is_torchrun = EXCEPTION.match(body) is not None
        return True

    def _accept_summary(self, body: str) -> bool:
        """Return whether this line belongs to torchrun's summary of the failed processes, which has two borders."""
        is_border = SUMMARY_BORDER.match(body) is not None
        accepted = self.borders == 1 or (self.borders == 0 and is_border)
        self.borders += is_border
        return accepted

    def to_log_line(self) -> LogLine:
        return self.first._replace(text="\n".join(self.lines), level="error")


class LineClassifier:
    """Classifier of lines that also assembles tracebacks."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], dict[str, _OpenTraceback]] = {}

    def classify_lines(self, log_lines: Iterable[LogLine], now: float) -> list[LogLine]:
        """Return the lines that can be classified now; the order of each stream is kept."""
        out = self._take_ended(now) if self._open else []
        for log_line in log_lines:
            if (
                log_line.many > 1
                and (log_line.host, log_line.stream) not in self._open
                and is_uneventful(log_line.text)
            ):
                out.append(log_line)
                continue
            for line in split_block(log_line):
                self._classify_line(line, now, out)
        return out

    def _classify_line(self, log_line: LogLine, now: float, out: list[LogLine]) -> None:
        key = (log_line.host, log_line.stream)
        if key in self._open and self._join_traceback(key, log_line, now, out):
            return
        level = classify_text(log_line.text) if log_line.kind != "bar" else ""
        if level == "error" and log_line.kind == "line" and (at := log_line.text.find(HEAD)) >= 0:
            prefix = (
                log_line.text[:at] if sanitize_line(log_line.text[:at], colour=False) else ""
            )  # drops cursor codes of a bar
            block = _OpenTraceback(first=log_line, prefix=prefix, lines=[log_line.text], since=now)
            self._open.setdefault(key, {})[block.prefix] = block
        else:
            out.append(log_line._replace(level=level) if level else log_line)

    def take_rest(self) -> list[LogLine]:
        """Return the tracebacks that were still growing."""
        return self._take_ended(float("inf"))

    def _join_traceback(self, key: tuple[str, int], log_line: LogLine, now: float, out: list[LogLine]) -> bool:
        blocks = self._open[key]
        prefix = max((each for each in blocks if log_line.text.startswith(each)), key=len, default=None)
        if prefix is None or log_line.kind == "bar":
            return False
        block = blocks[prefix]
        if block.accept_line(sanitize_line(log_line.text[len(prefix) :], colour=False)):
            block.lines.append(log_line.text)
            block.since = now
            return True
        out.append(block.to_log_line())
        self._remove_traceback(key, prefix)
        return False

    def _take_ended(self, now: float) -> list[LogLine]:
        due = [
            (key, prefix)
            for key, blocks in self._open.items()
            for prefix, block in blocks.items()
            if now - block.since >= (NAMED_SECONDS if block.named else SILENCE_SECONDS)
        ]
        out = [self._open[key][prefix].to_log_line() for key, prefix in due]
        for key, prefix in due:
            self._remove_traceback(key, prefix)
        return out

    def _remove_traceback(self, key: tuple[str, int], prefix: str) -> None:
        del self._open[key][prefix]
        if not self._open[key]:
            del self._open[key]
