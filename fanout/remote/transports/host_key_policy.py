"""Host key policy for paramiko: accept the expected key, or raise an error with fingerprint and command."""

from __future__ import annotations

import os

import paramiko

from fanout.model.errors import HostKeyChanged, HostKeyUnknown
from fanout.remote.transports.host_keys import ExpectedKeys, HostKeyStatus, KnownHosts, PresentedKey
from fanout.remote.transports.notices import Notices, note_accepted_key


class HostKeyPolicy(paramiko.MissingHostKeyPolicy):
    """Verify every host key: paramiko's own list is empty, so it reports every key as missing."""

    def __init__(self, known: KnownHosts, expected: ExpectedKeys, notices: Notices) -> None:
        self._known = known
        self._expected = expected
        self._notices = notices

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Return if the key is accepted. Raises HostKeyUnknown, HostKeyChanged."""
        blob = getattr(key, "public_blob", None)
        certificate = blob.key_blob if blob is not None else b""
        shown = PresentedKey(key_type=key.get_name(), key=key.asbytes(), certificate=certificate)
        verdict = self._known.verify_key(self._expected, shown)
        if verdict is HostKeyStatus.KNOWN:
            return
        words = f"{shown.key_type} SHA256:{key.fingerprint.removeprefix('SHA256:')}"
        if verdict is HostKeyStatus.ACCEPTED:
            note_accepted_key(self._expected.options, self._notices)
        elif verdict is HostKeyStatus.UNKNOWN:
            raise self._unknown_key_error(words, has_certificate=bool(certificate))
        elif verdict is HostKeyStatus.REVOKED:
            raise HostKeyChanged(f"its host key is marked @revoked: {words}", hint="ask the machine's administrator")
        else:
            raise self._changed_key_error(words)

    def _unknown_key_error(self, words: str, *, has_certificate: bool) -> HostKeyUnknown:
        files = [path for path in self._expected.files if path != os.devnull]
        why = "; no @cert-authority there has signed its certificate for this name" if has_certificate else ""
        by_hand = f"log in once by hand and compare the fingerprint:  {self._expected.by_hand}"
        return HostKeyUnknown(
            f"its host key is not in {files[0] if files else 'any file: the configuration names none'}: {words}{why}",
            hint=f"{by_hand}   (or add --accept-new-host-keys)" if files else "add --accept-new-host-keys",
        )

    def _changed_key_error(self, words: str) -> HostKeyChanged:
        found = self._expected.found_in
        if not found:
            return HostKeyChanged(
                f"its host key has CHANGED since fanout first logged in: it now shows {words}",
                hint=f"if the host was reinstalled, run it again; to look:  {self._expected.by_hand}",
            )
        removals = "; ".join(f"ssh-keygen -R '{self._expected.name}' -f {path}" for path in found)
        strict = self._expected.options.strict_host_key_checking
        although = ", which fanout never accepts although StrictHostKeyChecking is no" if strict == "no" else ""
        return HostKeyChanged(
            f"its host key has CHANGED{although}: it now shows {words}, {' and '.join(found)} has another",
            hint=f"if the host was reinstalled:  {removals}   and log in once by hand",
        )
