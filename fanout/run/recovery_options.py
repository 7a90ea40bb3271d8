"""Options of the restart decision, from the settings of a run."""

from __future__ import annotations

from fanout.model import hang_detection
from fanout.model.errors import UsageError
from fanout.model.host_count import HostCount
from fanout.model.restart_rate import parse_restart_rate
from fanout.model.settings import Settings
from fanout.recovery.attempt import RecoveryOptions
from fanout.text.parse_units import write_duration

HANG_RESTARTS = 3  # of --on-hang restart without --max-restarts


def build_recovery_options(settings: Settings, count: HostCount | None) -> RecoveryOptions:
    """Return the options. ``--on-hang restart`` alone allows restarts too."""
    restarts = settings.max_restarts
    if settings.on_hang == "restart" and not restarts:
        restarts = HANG_RESTARTS
    return RecoveryOptions(
        max_restarts=restarts,
        min_hosts=count.least if count is not None and count.least < count.most else None,
        restart_codes=parse_codes(settings.restart_codes),
        rate=parse_restart_rate(settings.restart_rate),
        allow_from_scratch=settings.allow_from_scratch,
        only_hangs=bool(settings.on_hang == "restart" and not settings.max_restarts),
    )


def parse_codes(text: str) -> tuple[int, ...]:
    """Parse ``75`` or ``75,99``. Raises UsageError."""
    codes = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if not (part.isascii() and part.isdigit() and 1 <= int(part) <= 255):
            raise UsageError(f"--restart-codes {text}: {part!r} is not an exit status", hint="--restart-codes 75,99")
        codes.append(int(part))
    return tuple(codes)


def check_restart_settings(settings: Settings) -> None:
    """Raise UsageError if a setting about restarts, hangs or planned stops has no effect or is malformed."""
    parse_codes(settings.restart_codes)
    parse_restart_rate(settings.restart_rate)
    _check_planned_stop(settings)
    if settings.on_hang in hang_detection.ENDING and settings.hang_timeout in ("", "off"):
        raise UsageError(
            f"--on-hang {settings.on_hang} needs --hang-timeout (hang detection is off)",
            hint="add --hang-timeout 10m (the time without output), or --hang-timeout auto",
        )


def _check_planned_stop(settings: Settings) -> None:
    """Raise UsageError if --save-before has no time limit, or one that is too short."""
    before, limit = settings.save_before, settings.time_limit
    if before is None:
        return
    if limit is None:
        raise UsageError(
            f"--save-before {write_duration(before)} needs --time-limit: it is a time before that limit",
            hint="add --time-limit 11h; to save and stop at any other time: fanout stop --save",
        )
    if before >= limit:
        raise UsageError(
            f"--save-before {write_duration(before)} is not shorter than --time-limit {write_duration(limit)}",
            hint=f"--save-before {write_duration(max(1.0, limit // 10))}",
        )
