"""Notices: what a transport did that the user must know, one sentence for all hosts that it concerns."""

from __future__ import annotations

import os
import threading

from fanout.remote.transports.ssh_options import SshOptions

MOST_NAMES = 3


class Notices:
    """Sentences, each with its hosts. Safe to fill from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: dict[str, list[str]] = {}
        self._reported: set[tuple[str, str]] = set()

    def add_notice(self, host: str, sentence: str) -> None:
        """Store a sentence about ``host``; ignore the same sentence for the same host."""
        with self._lock:
            if (host, sentence) not in self._reported:
                self._reported.add((host, sentence))
                self._new.setdefault(sentence, []).append(host)

    def take_new(self) -> list[str]:
        """Return the notices since the last call, one line for each sentence."""
        with self._lock:
            new, self._new = self._new, {}
        return [f"{_format_hosts(hosts)}: {sentence}" for sentence, hosts in new.items()]


def _format_hosts(hosts: list[str]) -> str:
    shown = sorted(hosts)[:MOST_NAMES]
    more = len(hosts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def note_accepted_key(options: SshOptions, notices: Notices) -> None:
    """Store a notice that the configuration, not a flag, caused the acceptance of a new host key."""
    strict = options.strict_host_key_checking
    if strict not in ("no", "accept-new"):
        return
    lasting = any(path != os.devnull for path in options.user_known_hosts)
    where = "and written to known_hosts" if lasting else "and not written down, so no run verifies it"
    notices.add_notice(
        options.name,
        f"the host key was new, and was accepted {where}: ssh's configuration has StrictHostKeyChecking {strict}",
    )
