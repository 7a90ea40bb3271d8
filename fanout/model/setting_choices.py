"""Allowed values of the settings with fixed choices. ``--help`` imports this module, but not settings."""

from __future__ import annotations

CHOICES: dict[str, tuple[str, ...]] = {
    "shell": ("bash", "sh"),
    "transport": ("auto", "ssh", "openssh", "local"),
    "output": ("auto", "live", "plain", "json"),
    "color": ("auto", "always", "never"),
    "on_early_exit": ("wait", "stop"),
    "on_hangup": ("stop", "keep"),
    "fold": ("auto", "off", "exact", "similar"),
    "rank_logs": ("auto", "off"),
    "stacks": ("auto", "off"),
    "on_hang": ("report", "stop", "restart"),
}
