"""The catalogue in words: the list of all checks, one check explained, and the same as a table for the manual. Pure."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Sequence

from fanout.checks.model import GROUPS, Check
from fanout.errors import UsageError

_HEAD = """\
# What `fanout check` looks at

Each row is one check. A *fail* makes `fanout run` refuse (exit status 125) unless `--force` is given; a *warn* does not,
unless `--strict` is given; an *info* is a note. A fact that could not be had is shown as not checked, with the reason,
and never as fine. `fanout check --explain NAME` prints one of them; `--only NAME` and `--skip NAME` take names of
checks and of groups. Nothing is changed on the hosts, and nothing is left there.

The group `deep` is made only with `--deep` (or when `--only` names one of it), after all others, and not where one of
those failed. It starts processes with the task's Python and the exports of a run: one a GPU with nccl where every host
has GPUs, else one a host with gloo (more would share the same network). They import torch, meet at
MASTER_ADDR:MASTER_PORT, add up 4 bytes, then tensors up to 256 MB as long as one sum takes less than half a second.
Then pairs: everybody with everybody up to eight hosts, beyond that the neighbours in the ring and the one opposite;
whoever comes out at less than half of what is usual meets hosts known to be good, twice if it must be, until a host or
a link is named. Bandwidths are those of nccl-tests: algorithm = bytes / seconds, bus = algorithm × 2 (n-1)/n
(https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md). On GPUs a product of matrices is repeated and
compared bit for bit. Each step has a time-out of its own; `--json` holds every figure.
"""

_TAIL = """
## The rehearsal

With a task, `fanout check` plays the real `train.sh` on every host, with the command line, directory and environment
that a run would have, and with a `torchrun` that only writes down how it was called (so are `python -m
torch.distributed.run`, `accelerate`, `deepspeed` and their like). Nobody knows what else a script does, so it is played
in a box: namespaces of its own without a network and without the sockets of services; every file system read-only, with
a layer in memory over the work directory, the home directory and /tmp; no way to another process; six seconds at most.
What the script removes, writes or downloads there is gone with the box, and the host never saw it. That takes Linux 5.12
and user namespaces for everybody; where they are forbidden (Ubuntu 24.04 does so by
`kernel.apparmor_restrict_unprivileged_userns`), the rows say so and are not checked, and the script is read instead.
It is never played outside a box. A script that needs the network before it comes to torchrun is not judged either.

The rehearsal also shows which program and which Python train.sh would start, after all that it does to PATH. That
Python is asked about torch, packages, syntax and imports. Without a rehearsal it is the Python of the login, and what is
missing there is only a warning where train.sh changes PATH.

A finding that follows from another one on the same host is not told as well: where the work directory is missing or
empty, so are the files in it.
"""


def listing(checks: Sequence[Check], width: int = 100) -> tuple[str, ...]:
    """Every check with what it verifies, by group."""
    lines: list[str] = []
    longest = max(len(check.name) for check in checks)
    for group in GROUPS:
        rows = [check for check in checks if check.group == group]
        if rows:
            lines += ["", group.upper()] if lines else [group.upper()]
        for check in rows:
            lead = f"  {check.name:<{longest}}  {check.worst:<4}  "
            lines += textwrap.wrap(check.verifies, width, initial_indent=lead, subsequent_indent=" " * len(lead))
    return tuple(lines)


def explained(check: Check, width: int = 100) -> tuple[str, ...]:
    """What one check verifies, why training breaks without it, and the fix."""
    lines = [f"{check.name}   ({check.group}, at worst: {check.worst})", ""]
    for heading, text in (("verifies", check.verifies), ("why", check.why), ("fix", check.fix)):
        lead = f"  {heading:<10}"
        lines += textwrap.wrap(
            text, width, initial_indent=lead, subsequent_indent=" " * len(lead),
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return tuple(lines)


def named(checks: Iterable[Check], name: str) -> Check:
    """The check of that name. Raises UsageError, with the nearest names."""
    by_name = {check.name: check for check in checks}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name, by_name, n=3)
    meant = f"did you mean {' or '.join(near)}?  " if near else ""
    raise UsageError(f"no check is called {name!r}", hint=f"{meant}all of them:  fanout check --list")


def chosen(checks: Sequence[Check], names: Iterable[str]) -> frozenset[str]:
    """Names of checks and groups, as --only and --skip take them, made sure of. Raises UsageError."""
    groups = {check.group for check in checks}
    return frozenset(name if name in groups else named(checks, name).name for name in names)


def table(checks: Sequence[Check]) -> str:
    """docs/checks.md."""
    parts = [_HEAD]
    for group in GROUPS:
        rows = [check for check in checks if check.group == group]
        if rows:
            parts.append(f"\n## {group}\n\n| name | at worst | verifies | without it | fix |\n|---|---|---|---|---|\n")
            parts += [
                f"| `{check.name}` | {check.worst} | {_cell(check.verifies)} | {_cell(check.why)} | {_cell(check.fix)} |\n"
                for check in rows
            ]
    return "".join([*parts, _TAIL])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
