"""Help topics that concern several commands: ``fanout help hostfile``, ``settings``, ``exit``, ``options``."""

from __future__ import annotations

from fanout.cli.help_format import list_rows, wrap_paragraphs

TYPE_CHECKING = False  # a help page must not pay for typing
if TYPE_CHECKING:
    from collections.abc import Mapping

HOSTFILE = """\
HOSTS is a hostfile with one host per line, a list of hosts, or - for standard input:

  gpu01 slots=8                  fanout check hosts.txt
  gpu02 slots=8 user=me          fanout check gpu01,gpu02
  gpu[03-16] slots=8             fanout check 'gpu[01-16]'

fanout also reads DeepSpeed, MPI, pdsh, Slurm, CSV and Ansible files. `fanout hosts HOSTS` shows how it reads HOSTS. \
`fanout init` writes a hostfile from ~/.ssh/config. @slurm stands for the hosts of a Slurm allocation.
With hosts = "hosts.txt" in fanout.toml, HOSTS may be left out: fanout run task.py cfg.yaml.
Users, ports, keys and jump hosts come from ~/.ssh/config, or from user= and port= in the hostfile.
"""

SETTINGS = """\
A value comes from the flag, else from the environment, else from the nearest fanout.toml (or [tool.fanout] in \
pyproject.toml), else from ~/.config/fanout/config.toml, else it is the default.

  flag           --connect-timeout 5s
  environment    FANOUT_CONNECT_TIMEOUT=5s
  fanout.toml    connect-timeout = "5s"

TIME is 90 or 90s (seconds), 10m, 2h, 1d or 1h30m. SIZE is 512MB, 4GB (or 4G), or 4GiB. RANKS are 0-7 or 0,2-3.
RUN is a run id, a part of it, the name given with --name, or @-1 for the run before the latest (@-2: one earlier).
"""

EXIT = """\
Exit status of run and attach: 0 if all hosts succeed, else the exit code of the first failing host (128+n for signal n), or
  2      usage error or invalid file; no host was contacted
  124    the time limit stopped the run
  125    fanout failed, or the check refused the run
  130    interrupted by Ctrl-C; 143 by SIGTERM
  255    a host was unreachable or lost

Exit status of check: 0 ok, 1 a check failed, 255 a host was unreachable.
Exit status of exec: 0 if the command succeeds on all hosts, else that of the first failing host.
"""

TOPICS = ("hostfile", "settings", "options", "exit")
_TEXTS: Mapping[str, str] = {"hostfile": HOSTFILE, "settings": SETTINGS, "exit": EXIT}


def format_topic(name: str, columns: int) -> str:
    """Return the page of one topic."""
    if name == "options":
        return _format_options(columns)
    return "\n".join(line.rstrip() for line in wrap_paragraphs(_TEXTS[name].rstrip("\n"), columns)) + "\n"


def _format_options(columns: int) -> str:
    """Return all options that several commands share."""
    from fanout.cli.command_table import COMMANDS
    from fanout.cli.help_page import format_flags
    from fanout.model.option_table import OPTIONS

    lines: list[str] = []
    for title in COMMANDS["run"].groups:
        users = [name for name, command in COMMANDS.items() if title in command.groups]
        rows = [(format_flags(row), row.format_help("run")) for row in OPTIONS if row.group == title and row.flags]
        lines += [*wrap_paragraphs(f"{title}: {', '.join(users)}", columns), *list_rows(rows, columns), ""]
    return "\n".join(line.rstrip() for line in lines[:-1]) + "\n"
