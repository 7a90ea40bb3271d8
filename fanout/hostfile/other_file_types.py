"""Recognize files that are not hostfiles: ssh_config, PBS node files, programs, task configs. No I/O."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from fanout.hostfile.problems import SourceSpan

_MOST_NAMED = 8
_SSH_WORDS = set(
    "host match hostname user port identityfile identitiesonly identityagent proxyjump proxycommand forwardagent include "
    "stricthostkeychecking userknownhostsfile serveraliveinterval serveralivecountmax controlmaster controlpath "
    "controlpersist addkeystoagent preferredauthentications pubkeyauthentication passwordauthentication loglevel "
    "compression connecttimeout addressfamily localforward remoteforward dynamicforward requesttty sendenv setenv "
    "hostkeyalias hostkeyalgorithms pubkeyacceptedalgorithms gssapiauthentication forwardx11 tcpkeepalive batchmode "
    "certificatefile canonicalizehostname remotecommand checkhostip visualhostkey exitonforwardfailure".split()
)
_SSH_LINE = re.compile(r"[ \t]*([A-Za-z][A-Za-z0-9]*)(?:[ \t]+|[ \t]*=[ \t]*)(\S.*)")
_NAME_ALONE = re.compile(r"[ \t]*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\.?[ \t]*")
_PYTHON = re.compile(r"(?m)^(?:import [A-Za-z_]|from [A-Za-z_.]+ import |def [A-Za-z_]\w*\(|class [A-Za-z_]\w*[(:])")
_CONFIG_KEY = re.compile(r"(?m)^(?:model|data|dataset|train|training|trainer|optimizer|scheduler)[ \t]*:")
_HOSTS_KEY = re.compile(r"(?m)^(?:hosts|all|children|groups|workers|nodes|defaults|vars)[ \t]*:")


class ForeignFile(NamedTuple):
    """Kind of a file that is not a hostfile: the place that shows it, and what to write instead."""

    spot: SourceSpan
    what: str
    fix: str


def recognize_file(lines: list[str], text: str, file: str) -> ForeignFile | None:
    """Return the kind of the file if it is certainly not a hostfile, else None."""
    return recognize_task_file(lines, text, file) or _detect_ssh_config(lines, file) or _detect_node_file(lines, file)


def recognize_task_file(lines: list[str], text: str, file: str) -> ForeignFile | None:
    """Return the kind of the file if it is a program or the config of a task, else None."""
    return _detect_program(lines, text, file) or _detect_config(text, file)


def _detect_program(lines: list[str], text: str, file: str) -> ForeignFile | None:
    ending = _get_ending(file)
    first = lines[0] if lines else ""
    if ending in ("py", "pyw") or _PYTHON.search(text[:65536]) or re.match(r"#!.*\bpython", first):
        kind = "Python"
    elif ending in ("sh", "bash", "zsh") or (re.match(r"#!.*sh\b", first) and _runs_torch(text)):
        kind = "a shell script"
    elif ending == "ipynb":
        kind = "a notebook"
    else:
        return None
    return ForeignFile(SourceSpan(file, 1, first), f"{kind}, not a hostfile", _advise_order(file))


def _get_ending(file: str) -> str:
    return file.rpartition(".")[2].lower() if "." in file else ""


def _runs_torch(text: str) -> bool:
    return re.search(r"(?m)^[ \t]*(?:exec[ \t]+)?(?:torchrun|accelerate|deepspeed|python3?)\b", text) is not None


def _detect_config(text: str, file: str) -> ForeignFile | None:
    if _get_ending(file) not in ("yaml", "yml") or _HOSTS_KEY.search(text):
        return None
    found = _CONFIG_KEY.search(text)
    if found is None:
        return None
    number = text.count("\n", 0, found.start()) + 1
    return ForeignFile(
        SourceSpan(file, number, found[0], 0, len(found[0])), "a task's config, not a hostfile", _advise_order(file)
    )


def _advise_order(file: str) -> str:
    name = file.rpartition("/")[2]
    return f"HOSTS comes first, then the task:  fanout run hosts.txt {name}"


def _detect_ssh_config(lines: list[str], file: str) -> ForeignFile | None:
    names: list[str] = []
    first, options = 0, 0
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _SSH_LINE.fullmatch(line)
        if match is None or match[1].lower() not in _SSH_WORDS:
            return None
        first = first or number
        if match[1].lower() == "host":
            names += [name for name in match[2].split() if not re.search(r"[*?!\"]", name)]
        else:
            options += 1
    if not options or not any(re.match(r"[ \t]*(?:Host|Match)[ \t=]", line, re.IGNORECASE) for line in lines):
        return None
    if names:
        hosts = "1 host in it is" if len(names) == 1 else "hosts in it are"
        listed = _join_names(names)
        fix = f"the {hosts} {listed}: write these names, one per line, and give this file with --ssh-config (-F) {file}"
    else:
        fix = f"write the names of the hosts, one per line, and give this file with --ssh-config (-F) {file}"
    return ForeignFile(
        SourceSpan(file, first, lines[first - 1], 0, len(lines[first - 1])), "an ssh_config, not a hostfile", fix
    )


def _detect_node_file(lines: list[str], file: str) -> ForeignFile | None:
    """Detect a file with one line per slot. Only the user knows how many slots are GPUs."""
    counts: Counter[str] = Counter()
    lines_of_name: dict[str, list[int]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _NAME_ALONE.fullmatch(line)
        if match is None:
            return None
        name = match[1].casefold()
        counts[name] += 1
        lines_of_name.setdefault(name, []).append(number)
    if not counts or min(counts.values()) < 2:
        return None
    name = next(iter(counts))
    begun, again = lines_of_name[name][:2]
    shown = lines[again - 1].strip()
    as_there = lines[begun - 1].strip().removesuffix(".")
    other = f" as {as_there}" if as_there != shown.removesuffix(".") else ""
    what = f"{shown.removesuffix('.')} is already on line {begun}{other}: a host once per slot, as in a PBS or LSF node file"
    entries = [f"{host} slots={count}" for host, count in counts.items()]
    more = f", and so on for {len(entries) - _MOST_NAMED} more" if len(entries) > _MOST_NAMED else ""
    fix = (
        "write each host once:  " + ", ".join(entries[:_MOST_NAMED]) + more + ", each on a line of its own; "
        "or without slots= for one process per GPU (sort -u)"
    )
    return ForeignFile(SourceSpan(file, again, lines[again - 1], 0, len(shown)), what, fix)


def _join_names(names: list[str]) -> str:
    shown = names[:_MOST_NAMED]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    if len(shown) == 1 or more:
        return ", ".join(shown) + more
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
