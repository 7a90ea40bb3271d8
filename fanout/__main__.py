"""Entry point of ``python -m fanout``."""

from fanout.cli.main import entry

entry()
