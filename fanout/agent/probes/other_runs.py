"""Runs of other users on this host, from the claims that all users see."""

from __future__ import annotations

from .. import shared_claims
from .host import read_age

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any


def list_other_runs(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each process of another user that holds claims: its user, pid, run, age and claims.

    ``run`` is "" if the process reports none. ``uid`` and ``pid`` are None if the kernel cannot name the process.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for holder in shared_claims.list_claims_of_others():
        pid, run = holder["pid"], holder["run"]
        known = {key: holder[key] for key in ("uid", "user", "pid", "run", "since")}
        row = found.setdefault((holder["uid"], pid, run), dict(known, age=read_age(pid) if pid else None, claims=[]))
        row["claims"].append(holder["claim"])
    return list(found.values())
