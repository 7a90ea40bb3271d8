"""Catalogue texts: the list of all checks, the explanation of one check, and docs/checks.md. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from fanout.checks.engine.definition import GROUPS, Check
from fanout.model.errors import UsageError
from fanout.text.suggest import suggest_nearest

_HEAD = """\
# The checks of `fanout check`

Each row is one check. If a check *fails*, `fanout run` refuses to start (exit status 125), unless `--force` is given.
A *warn* stops a run only with `--strict`. An *info* is a note. A check with a missing fact is shown as not checked,
with the reason; it never counts as passed. `fanout check --explain NAME` prints one check. `--only NAME` and
`--skip NAME` take names of checks and groups. The check changes nothing on the hosts and leaves nothing on them.

## The deep check

The group `deep` runs only with `--deep`, or if `--only` names one of its checks. It runs after all other checks, and
only if none of them failed. It starts processes with the task's Python and the exports of a run. If every host has
GPUs, it starts one process per GPU, with nccl. Otherwise it starts one process per host, with gloo, because several
would share one network. The steps:

1. Import torch, connect to MASTER_ADDR:MASTER_PORT, and all-reduce 4 bytes.
2. All-reduce tensors of up to 256 MB, as long as one all-reduce takes less than half a second.
3. Measure pairs of hosts. Up to eight hosts, every host is paired with every other. Beyond eight hosts, each is paired
   with its neighbours in a ring and with the opposite host.
4. Pair each host below half of the median bandwidth with known good hosts, up to twice, until a host or a link is named.
5. On GPUs, repeat a matrix product and compare the results bit for bit.

Bandwidths are those of nccl-tests: algorithm = bytes / seconds, bus = algorithm × 2 (n-1)/n
(https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md). Each step has its own timeout. `--json` prints
all measured values.
"""

_TAIL = """
## The rehearsal

If a TASK is given, `fanout check` runs the real `train.sh` on every host, with the command line, directory and
environment of a run. A replacement for `torchrun` only records how it was called. The same holds for other launchers and
for their modules behind `python -m`:

* Flags that were read in the source: `accelerate launch`, `trl`, `axolotl train`, `tune run`, `swift`, `composer`,
  `deepspeed`, `llamafactory-cli train`.
* Flags that come from manuals only: `fabric run`, `mpirun`, `horovodrun`, `srun`, `colossalai run`, `ray start`.

A script may do anything else, so it runs in a sandbox:

* It has its own namespaces, without a network and without the sockets of services.
* Every file system is read-only, with a layer in memory over the work directory, the home directory and /tmp.
* It cannot reach other processes, and it runs for at most six seconds.

All that the script removes, writes or downloads disappears with the sandbox; the host is not changed. The sandbox needs
Linux 5.12 and unprivileged user namespaces. If the host forbids them (Ubuntu 24.04 does, by
`kernel.apparmor_restrict_unprivileged_userns`), these checks are shown as not checked, and fanout reads the script
instead. The script is never run outside a sandbox. A script that needs the network before it calls torchrun is not
judged either.

Each launcher is judged by its own flags: number of hosts, node rank, address and port of host 0, and processes per host.
The values in accelerate's config file count, and so does the number of hosts in DeepSpeed's hostfile. A launcher that
starts the ranks of all hosts by itself fails if several hosts call it. `srun` needs a Slurm job. `mpirun` without a list
of hosts is a warning. If the script starts the task itself, RANK and WORLD_SIZE of all hosts must form one group. Without
these variables it is a note: the check does not see how the task finds the other hosts. A launcher that fanout does not
know is named as not checked. After such a note the last line does not claim that all checks passed.

The rehearsal also shows which program and which Python train.sh would start, after all its changes to PATH. fanout
checks torch, packages, syntax and imports with that Python. Without a rehearsal it uses the Python of the login. If
train.sh changes PATH, a module that is missing there is then only a warning.

If a finding follows from another one on the same host, only the first one is reported. For example, if the work
directory is missing, the files in it are not reported.
"""


def render_check_list(checks: Sequence[Check], width: int = 100) -> tuple[str, ...]:
    """Return lines: every check with the fact that it verifies, by group."""
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


def render_check(check: Check, width: int = 100) -> tuple[str, ...]:
    """Return lines: the fact that one check verifies, why training breaks without it, and the fix."""
    lines = [f"{check.name}   ({check.group}, at worst: {check.worst})", ""]
    for heading, text in (("verifies", check.verifies), ("why", check.why), ("fix", check.fix)):
        lead = f"  {heading:<10}"
        lines += textwrap.wrap(
            text,
            width,
            initial_indent=lead,
            subsequent_indent=" " * len(lead),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return tuple(lines)


def find_check(checks: Iterable[Check], name: str) -> Check:
    """Return the check of that name. Raises UsageError with similar names."""
    by_name = {check.name: check for check in checks}
    if name in by_name:
        return by_name[name]
    meant = suggest_nearest(name, by_name, most=3, quoted=False)
    listing = "to list all checks:  fanout check --list"
    raise UsageError(f"no check is called {name!r}", hint=f"{meant}  {listing}" if meant else listing)


def validate_check_names(checks: Sequence[Check], names: Iterable[str]) -> frozenset[str]:
    """Validate the names of checks and groups that --only and --skip take. Raises UsageError."""
    groups = {check.group for check in checks}
    return frozenset(name if name in groups else find_check(checks, name).name for name in names)


def render_manual(checks: Sequence[Check]) -> str:
    """Return the text of docs/checks.md."""
    parts = [_HEAD]
    for group in GROUPS:
        rows = [check for check in checks if check.group == group]
        if rows:
            parts.append(f"\n## {group}\n\n| name | at worst | verifies | why | fix |\n|---|---|---|---|---|\n")
            parts += [
                f"| `{check.name}` | {check.worst} | {_escape_cell(check.verifies)} | {_escape_cell(check.why)} | {_escape_cell(check.fix)} |\n"
                for check in rows
            ]
    return "".join([*parts, _TAIL])


def _escape_cell(text: str) -> str:
    return text.replace("|", "\\|")
