"""torchrun's own messages: show its traceback as one line, and recognize what it prints because fanout stops it.

The traceback only reports that a process of the program failed, and has a summary of the failed processes below it. A
traceback of torchrun with another exception has a cause of its own, such as a port that is in use, and stays whole.
"""

from __future__ import annotations

import re

from fanout.logs.demux import LogLine

EXCEPTION = re.compile(
    r"^(?:torch\.distributed\.[\w.]+\.)?(?P<name>ChildFailedError|SignalException)\b:?\s*(?P<message>.*)"
)
SUMMARY_BORDER = re.compile(r"^={10,}\s*$")
_STOP_MESSAGE = re.compile(
    r"torch[./]distributed[./]elastic[./].{0,200}\b(?:Received \S{1,20} death signal, shutting down|"
    r"Sending process \d{1,9} closing signal|Unable to shutdown process \d{1,9} via)"
)
_FOLDED = "torchrun's own traceback: "
_STOP_EXCEPTION = re.compile(rf"^(?:torch\.distributed\.[\w.]+\.|{_FOLDED})?SignalException\b", re.MULTILINE)
_ROOT_CAUSE = "Root Cause (first observed failure)"
_RANK = re.compile(r"^\s*rank\s*:\s*(\d+)")
_EXIT_CODE = re.compile(r"^\s*exitcode\s*:\s*(-?\d+)\s*\(pid: \d+\)(?:\s*\((\w+)\))?")


def fold_torchrun_traceback(log_line: LogLine) -> LogLine:
    """Return torchrun's own traceback as one line with the rank that failed first; any other line as it is."""
    if log_line.level != "error" or "\n" not in log_line.text or log_line.many > 1:
        return log_line
    lines = log_line.text.split("\n")
    found = next((match for line in lines if (match := EXCEPTION.match(line))), None)
    if found is None:
        return log_line
    reason = _describe_root_cause(lines) or f"{found['name']} {found['message']}".strip()
    return log_line._replace(text=f"{_FOLDED}{reason} ({len(lines)} lines, see fanout logs)")


def is_stop_message(log_line: LogLine) -> bool:
    """Return whether torchrun printed this line or traceback only because a signal stops it."""
    if not log_line.level or log_line.many > 1:
        return False
    return _STOP_MESSAGE.search(log_line.text) is not None or (
        log_line.level == "error" and _STOP_EXCEPTION.search(log_line.text) is not None
    )


def _describe_root_cause(lines: list[str]) -> str:
    """Return the rank and the exit code of the process that failed first; "" if the summary has none."""
    begin = next((at for at, line in enumerate(lines) if line.startswith(_ROOT_CAUSE)), len(lines))
    rank = next((match[1] for line in lines[begin:] if (match := _RANK.match(line))), None)
    code = next((match for line in lines[begin:] if (match := _EXIT_CODE.match(line))), None)
    if rank is None or code is None:
        return ""
    return f"first failure: rank {rank}, {code[2] or f'exit code {code[1]}'}"
