"""Classification: find the failure class of an attempt, and whether two attempts failed at the same place."""

from __future__ import annotations

import re

from fanout.recovery.attempt import AttemptEnd, RecoveryOptions
from fanout.recovery.failure_classes import (
    FAILURE_CLASSES,
    HARDWARE_XIDS,
    RECOVERY_WORDS,
    RECOVERY_XID,
    REQUESTED_RESTART,
    STOP_SIGNALS,
    TRANSIENT_TEXTS,
    UNDETERMINED,
    USAGE_CODES,
    USAGE_ERROR,
    FailureClass,
)

_BY_SIGNATURE = {signature: row for row in FAILURE_CLASSES for signature in row.signatures}
_FILE_SERVER = _BY_SIGNATURE["stale-file"]
#: Causes that only repeat the exit status.
_UNNAMED = frozenset(
    "exit stated-error stated-by-program called-process deepspeed-exit spawn-exited lightning-ended mpi-first-exit "
    "slurm-task-exit".split()
) | {""}
_XID = re.compile(r"\bXid (?:\([^)]{1,64}\): )?(\d{1,4})\b")


def classify_failure(options: RecoveryOptions, attempt: AttemptEnd) -> FailureClass:
    """Return the class of the attempt's first cause.

    A restart code and a usage code of the script decide if no signature explains more. A lost host decides if the cause
    is undetermined. An error of user code that names a passing fault (a stale file, a broken connection) is a fault of
    the file server or of the network. The number of an Xid separates broken GPUs from faults of a program. A signal
    that asks a process to stop comes from a person or another program, if nothing else failed.
    """
    unnamed = attempt.signature in _UNNAMED
    if attempt.code in options.restart_codes and unnamed:
        return REQUESTED_RESTART
    if attempt.code in USAGE_CODES and unnamed:
        return USAGE_ERROR
    if attempt.rebooted:
        return _BY_SIGNATURE["rebooted"]
    if attempt.lost and (unnamed or attempt.host in attempt.lost):
        return _BY_SIGNATURE["lost"]
    if attempt.code in STOP_SIGNALS and (unnamed or attempt.signature == "signal"):
        return _BY_SIGNATURE["shell-terminated"]
    row = _BY_SIGNATURE.get(attempt.signature, UNDETERMINED)
    if attempt.signature == "xid" and _names_broken_gpu(f"{attempt.text} {attempt.sentence}"):
        row = _BY_SIGNATURE["gpu-lost"]
    if row.name == "user-code" and any(text in attempt.text for text in TRANSIENT_TEXTS):
        return _FILE_SERVER
    if attempt.confidence in ("low", "undetermined") and row.answer == "stop":
        return UNDETERMINED  # a wrong stop costs the night; a wrong restart costs minutes
    return row


def _names_broken_gpu(text: str) -> bool:
    numbers = {int(number) for number in _XID.findall(text)}
    needs_reset = RECOVERY_XID in numbers and any(word in text.lower() for word in RECOVERY_WORDS)
    return needs_reset or not numbers.isdisjoint(HARDWARE_XIDS)


def failed_at_same_place(now: AttemptEnd, before: AttemptEnd) -> bool:
    """Return whether two attempts ended with the same error at the same step."""
    if not now.place or now.place != before.place:
        return False
    return (now.steps.last if now.steps else None) == (before.steps.last if before.steps else None)
