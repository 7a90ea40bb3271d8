"""``fanout lnav``: print or install the format that lets the log viewer lnav read a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources

from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.request import Request
from fanout.run.process_context import ProcessContext

NAME = "fanout_log.json"


def run_lnav(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0. Raises UsageError."""
    text = (resources.files("fanout.ui") / "fanout_log.lnav.json").read_text(encoding="utf-8")
    if not request.given["install"]:
        process.stdout.write(text)
        return ExitStatus.SUCCESS
    path = os.path.join(find_lnav_directory(process.environ), "formats", "installed", NAME)
    if not os.path.isabs(path):
        raise UsageError("lnav: no home directory, and HOME is not set", hint="fanout lnav > FILE; lnav -i FILE")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="fanout lnav > FILE; lnav -i FILE") from None
    process.print_message(f"wrote {path}")
    process.print_message("try:  fanout replay --json | lnav        # lines and events of the latest run, on one clock")
    return ExitStatus.SUCCESS


def find_lnav_directory(environ: Mapping[str, str]) -> str:
    """Return lnav's configuration directory, found as lnav does: ~/.lnav if it exists, else the XDG directory."""
    home = environ.get("HOME") or os.path.expanduser("~")
    old = os.path.join(home, ".lnav")
    if os.path.isdir(old):
        return old
    if environ.get("XDG_CONFIG_HOME"):
        return os.path.join(environ["XDG_CONFIG_HOME"], "lnav")
    config = os.path.join(home, ".config")
    return os.path.join(config, "lnav") if os.path.isdir(config) else old
