"""File of the HTML page: verified before the record is read, and replaced as a whole by each write."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat

from fanout.model.errors import UsageError


class PageFile:
    """The file that ``--html`` names. A reader always finds a whole page: a new one replaces it by a rename."""

    def __init__(self, name: str, cwd: str, *, is_rewritten: bool = False) -> None:
        """Verify that the page can be written. ``is_rewritten``: the page is written again and again. Raises UsageError."""
        self.name = name
        self._path = os.path.realpath(os.path.join(cwd, os.path.expanduser(name)))
        folder = os.path.dirname(self._path)
        if not os.path.isdir(folder):
            raise UsageError(f"--html {name}: no such directory", hint=f"mkdir -p {folder}")
        if os.path.isdir(self._path):
            raise UsageError(f"--html {name}: this is a directory", hint=f"--html {os.path.join(name, 'run.html')}")
        self._is_stream = os.path.exists(self._path) and not os.path.isfile(self._path)  # such as /dev/stdout
        if self._is_stream and is_rewritten:
            raise UsageError(
                f"--html {name}: --follow needs a file that it can replace", hint="--html run.html --follow"
            )
        self._refuse_other_file()
        if not self._is_stream and not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"--html {name}: cannot create a file in {folder}: Permission denied")

    def write(self, text: str) -> int:
        """Replace the page; return its size. Raises UsageError or OSError, and then the earlier page is unchanged."""
        data = text.encode("utf-8", "replace")
        if self._is_stream:
            with open(self._path, "wb") as file:
                file.write(data)
        else:
            self._refuse_other_file()
            self._replace_file(data)
        return len(data)

    def _replace_file(self, data: bytes) -> None:
        """Write a new file beside the page, then rename it. Another user of the directory cannot guess its name."""
        folder, base = os.path.split(self._path)
        temporary = os.path.join(folder, f".{base}.{secrets.token_hex(8)}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with open(descriptor, "wb") as file:
                if os.path.exists(self._path):
                    os.fchmod(descriptor, stat.S_IMODE(os.stat(self._path).st_mode))
                file.write(data)
            os.replace(temporary, self._path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):  # an interrupt may come after the rename
                os.unlink(temporary)
            raise

    def _refuse_other_file(self) -> None:
        """Raise UsageError if the file exists and is neither empty nor an HTML page."""
        if not os.path.isfile(self._path):
            return
        try:
            with open(self._path, "rb") as file:
                start = file.read(100)
        except OSError as error:
            raise UsageError(f"--html {self.name}: {error.strerror}") from None
        if start.strip() and not start.lstrip().lower().startswith(b"<!doctype html"):
            raise UsageError(f"--html {self.name}: this file exists and is not an HTML page", hint="name another file")
