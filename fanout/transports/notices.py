"""What a transport did that a user should know, once for all the hosts that it concerns."""

from __future__ import annotations

import os
import threading

from fanout.transports.sshoptions import SshOptions

MOST_NAMES = 3


class Notices:
    """Sentences and the hosts that each is about; filled by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: dict[str, list[str]] = {}
        self._told: set[tuple[str, str]] = set()

    def add(self, host: str, sentence: str) -> None:
        """Keep a sentence about ``host``; the same one a second time is nothing new."""
        with self._lock:
            if (host, sentence) not in self._told:
                self._told.add((host, sentence))
                self._new.setdefault(sentence, []).append(host)

    def take(self) -> list[str]:
        """Return what is new since the last call, a line for each sentence."""
        with self._lock:
            new, self._new = self._new, {}
        return [f"{_names(hosts)}: {sentence}" for sentence, hosts in new.items()]


def _names(hosts: list[str]) -> str:
    shown = sorted(hosts)[:MOST_NAMES]
    more = len(hosts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def tell_accepted(options: SshOptions, notices: Notices) -> None:
    """Keep in mind that the configuration, not a flag, had a host's new key accepted."""
    strict = options.strict_host_key_checking
    if strict not in ("no", "accept-new"):
        return
    lasting = any(path != os.devnull for path in options.user_known_hosts)
    where = "and written to known_hosts" if lasting else "and not written down, so no run verifies it"
    notices.add(
        options.name,
        f"the host key was new, and was accepted {where}: ssh's configuration has StrictHostKeyChecking {strict}",
    )
