"""The failures that are the user's to mend, told in one line each and never as a traceback."""

from __future__ import annotations


class UserError(Exception):
    """A file, a value or an option is wrong; ``str(error)`` is one line that says which, why and what to type."""


class FieldError(UserError):
    """One field of the configuration is wrong; whoever read it adds where the field was written."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field} {text}")
        self.field = field
