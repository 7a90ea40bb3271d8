"""Recognize lines that are not hosts: shell commands, block lists, rank files."""

from __future__ import annotations

import re

from fanout.hostfile.ssh_commands import advise_entry, is_ssh_command

COMMANDS = {
    "accelerate", "alias", "apt", "apt-get", "bash", "cd", "chmod", "clush", "conda", "cp", "curl",
    "deepspeed", "docker", "echo", "exit", "export", "horovodrun", "kubectl", "module", "mpiexec", "mpirun",
    "nohup", "pdsh", "pip", "podman", "prterun", "python", "python3", "rsync", "scp", "set", "sh",
    "singularity", "source", "srun", "ssh", "sudo", "torchrun", "ulimit", "wget",
}  # fmt: skip

_LIKELY: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"(0\.0\.0\.0|127\.0\.0\.1|::1?)[ \t]+[A-Za-z]"),
        "a line of /etc/hosts or of an ad-block list, not of a hostfile",
        "give the list of machines to train on: one host per line",
    ),
    (
        re.compile(r"[\d.]+[ \t]+[A-Za-z][\w.-]*([ \t]+[A-Za-z][\w.-]*)*$"),
        "an address and names, as in /etc/hosts",
        "write: {second} addr={first}",
    ),
    (
        re.compile(r"rank[ \t]*\d+[ \t]*="),
        "a line of an Open MPI rankfile",
        "one host per line, in the order of the ranks",
    ),
    (
        re.compile(r"\+[ne]\d*"),
        "Open MPI's relative host (+n, +e) has no meaning without its allocation",
        "name the host",
    ),
    (re.compile(r"ssh://([\w.@:-]+)"), "a URL, not a host", "write: {m1}"),
    (
        re.compile(r"Host[ \t]"),
        "a line of ssh_config, not of a hostfile",
        "leave it in ~/.ssh/config and write the host's name here",
    ),
    (re.compile(r"[A-Za-z_]\w*="), "a setting without a host", "write the host first: gpu01 {first}"),
    (re.compile(r"[<{]"), "markup, not a host", "one host per line, e.g.: gpu01 slots=8"),
)


def recognize_line(line: str) -> tuple[str, str] | None:
    """Return (what, fix) if the line has a well-known form that is not a host, else None."""
    words = line.split()
    if not words:
        return None
    if is_ssh_command(line):
        return "an ssh command, not a host", advise_entry(line)
    named = {"first": words[0], "second": words[1] if len(words) > 1 else ""}
    for pattern, what, fix in _LIKELY:
        match = pattern.match(line.strip())
        if match:
            groups = {f"m{number}": text or "" for number, text in enumerate(match.groups(), 1)}
            return what, fix.format(**named, **groups)
    if len(words) > 1 and words[0].rpartition("/")[2] in COMMANDS:
        return "a command, not a host", "a hostfile lists only hosts; pass the command to fanout on its command line"
    return None
