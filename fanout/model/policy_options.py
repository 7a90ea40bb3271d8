"""Policy options: the settings that decide when a run is prepared, asked to save, stopped and released."""

from __future__ import annotations

from dataclasses import fields

from fanout.model.frozen import frozen
from fanout.model.option_table import default_of
from fanout.model.settings import Settings


@frozen
class Policy:
    """The settings of the policy; times in seconds. ``prepare`` False: only observe (attach, exec).

    ``hold``: do not release the hosts after the end, because the next attempt takes over their claims.
    """

    grace: float = default_of("grace")
    last_words: float = default_of("last_words")
    lease: float = default_of("lease")
    start_timeout: float = default_of("start_timeout")
    time_limit: float | None = default_of("time_limit")
    save_before: float | None = default_of("save_before")
    save_signal: str = default_of("save_signal")
    on_early_exit: str = default_of("on_early_exit")
    hang_timeout: str = default_of("hang_timeout")
    on_hang: str = default_of("on_hang")
    prepare: bool = True
    hold: bool = False


POLICY_SETTINGS = tuple(
    field.name for field in fields(Policy) if field.name not in ("prepare", "hold")
)  # settings of the same names


def policy_of(settings: Settings, *, prepare: bool = True, hold: bool = False) -> Policy:
    """Return the policy of the user's settings."""
    return Policy(**{name: getattr(settings, name) for name in POLICY_SETTINGS}, prepare=prepare, hold=hold)
