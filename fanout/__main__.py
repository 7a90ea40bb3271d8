"""Entry point of ``python -m fanout``."""

from fanout.cli import entry

entry()
