"""Calls that start processes outside the keeper's tree: by ssh on another host, or by a service of this host.

The keeper verifies its own tree at the end, but not what ssh, tmux, systemd-run or docker started elsewhere. It looks for
ssh in the tree while the run lasts, and for such programs in the text of train.sh, because a call may be short.
"""

from __future__ import annotations

import os
import re
import shlex
import time

from . import background, processes

FIRST_SECONDS, LAST_SECONDS = 1.0, 5.0  # between two looks at the run's processes
LARGEST_SCRIPT = 256 << 10
MOST_SCRIPTS = 8  # train.sh and the scripts that it calls
MOST_CALLS = 16
#: Options of ssh that take a value (ssh(1)).
_WITH_VALUE = "BbcDEeFIiJLlmOoPpQRSWw"
_CLIENTS = (b"ssh", b"slogin", b"autossh")
#: Remote commands that end with their ssh: git, rsync, scp, sftp.
_TRANSFERS = (b"git-upload-pack", b"git-receive-pack", b"git-lfs-", b"rsync --server", b"scp -", b"sftp")
#: Programs that start processes outside the tree, and the first argument with which they do ("" for any).
_STARTERS = {
    "pdsh": "", "clush": "", "pssh": "", "parallel-ssh": "", "systemd-run": "", "at": "", "batch": "(?:<|-f|$)",
    "tmux": "(?:\\S+ +)*?(?:new|send|split|respawn)", "screen": "-", "docker": "(?:run|start|exec|compose)\\b",
    "sbatch": "", "qsub": "", "bsub": "", "kubectl": "(?:run|apply|create|exec)\\b",
}  # fmt: skip
_BEFORE = r"(?:^|[;&|({`]|\b(?:then|do|else|exec|time|nohup|setsid|sudo|command|eval|if|!)\s)\s*(?:[A-Za-z_]\w*=\S*\s+)*(?:\S*/)?"
_NAMES = "ssh|slogin|autossh|" + "|".join(re.escape(name) for name in _STARTERS)
_CALL = re.compile(_BEFORE + r"(%s)(?:\s+([^;|&`]*)|$)" % _NAMES)
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$")
_HERE_DOCUMENT = re.compile(r"<<(-?)\s*(\\?['\"]?)(\w+)")
_TO_SHELL = re.compile(r"\b(?:ba|da|k|z)?sh\b")  # a program that runs a here-document as commands, also by ssh
_SCRIPT = re.compile(r"[\w./-]+\.(?:sh|bash)\b")


class OutsideWatch:
    """The calls of a run that start processes outside the keeper's tree."""

    def __init__(self) -> None:
        self._pause = FIRST_SECONDS
        self._next = 0.0
        self._hosts: list = []
        self._named: list = []

    @property
    def calls(self) -> list:
        """Return the calls as phrases, such as ``ssh to h2``: the observed ones, else those that train.sh names."""
        named = [call for call in self._named if not (self._hosts and call.startswith("ssh "))]
        return (["ssh to " + host for host in self._hosts] + named)[:MOST_CALLS]

    def read_script(self, argv: list, cwd: str) -> None:
        """Note the calls in the text of train.sh and of the scripts that it names."""
        is_shell = os.path.basename(argv[0]) in ("bash", "sh", "zsh", "dash", "ksh")
        words = [word for word in argv[1:] if not word.endswith((".py", ".yaml", ".yml"))] if is_shell else []
        names = [word for word in words if os.path.isfile(os.path.join(cwd, word))][:1]
        for name in names:  # it grows
            text = _read_script(os.path.join(cwd, name))
            self._named += [call for call in find_named_calls(text, name) if call not in self._named]
            lines = "\n".join(line for _, line in _list_commands(text))
            called = (found for found in _SCRIPT.findall(lines) if found not in names)
            names += list(dict.fromkeys(called))[: MOST_SCRIPTS - len(names)]

    def scan(self, keeper: int, *, now: bool = False) -> None:
        """Look for ssh clients below the keeper, if a scan is due or with ``now``."""
        if time.monotonic() < self._next and not now:
            return
        self._next = time.monotonic() + self._pause
        self._pause = min(self._pause * 1.1, LAST_SECONDS)
        for pid in processes.watch_descendants(keeper):
            host = find_ssh_host(background.read_words(pid))
            if host and host not in self._hosts:
                self._hosts.append(host)


def find_named_calls(text: str, script: str) -> list:
    """Return the calls in the text of a script that start processes outside the tree of the keeper."""
    found = []
    for number, line in _list_commands(text):
        for program, rest in _CALL.findall(line):
            place = "%s in line %d of %s" % (program, number, script)
            if program in _STARTERS:
                if re.match(_STARTERS[program], rest or ""):
                    found.append(place)
                continue
            host = find_ssh_host([b"ssh", *(word.encode() for word in _split_words(rest))])
            if host:
                found.append("ssh to " + host if re.fullmatch(r"[\w.:-]+", host) else place)
    return list(dict.fromkeys(found))


def find_ssh_host(words: list) -> str:
    """Return the host on which this command line of ssh runs a command or a shell; "" for any other command line."""
    if not words or os.path.basename(words[0]) not in _CLIENTS:
        return ""
    flags, rest = "", list(words[1:])
    while rest and rest[0].startswith(b"-") and len(rest[0]) > 1:
        word = rest.pop(0).decode("utf-8", "replace")[1:]
        for at, letter in enumerate(word):
            flags += letter
            if letter in _WITH_VALUE:
                if at == len(word) - 1 and rest:
                    rest.pop(0)
                break
    remote = b" ".join(rest[1:]).strip()
    if not rest or "N" in flags or "W" in flags or "O" in flags or remote.startswith(_TRANSFERS):
        return ""
    host = rest[0].decode("utf-8", "replace")
    host = host[6:] if host.startswith("ssh://") else host
    return str(host.rpartition("@")[2][:200])


def _split_words(text: str) -> list:
    try:
        return shlex.split(text)
    except ValueError:  # a quoted text that continues in the next line
        return text.replace('"', " ").replace("'", " ").split()


def _list_commands(text: str) -> list:
    """Return (number, line) of each line that a shell runs, without comments; a continued line is one line.

    Of a here-document for another program, such as ``python - <<EOF``, only the commands in it remain: ``$(ssh h2 ls)``.
    """
    found, lines, at = [], text.replace("<<<", "   ").split("\n"), 0
    while at < len(lines):
        number, line = at + 1, _COMMENT.sub("", lines[at])
        while line.endswith("\\") and at + 1 < len(lines):
            at += 1
            line = line[:-1] + "  " + _COMMENT.sub("", lines[at])
        found.append((number, line))
        at += 1
        for tabs, quote, end in _HERE_DOCUMENT.findall(line):
            following = [each.lstrip("\t") if tabs else each for each in lines[at:]]
            if end in following:  # else it is no here-document, such as $((1 << n))
                body, is_script = following[: following.index(end)], bool(_TO_SHELL.search(line))
                found += _list_run_lines(body, at + 1, is_script=is_script, is_quoted=bool(quote))
                at += len(body) + 1
    return found


def _list_run_lines(body: list, first: int, *, is_script: bool, is_quoted: bool) -> list:
    """Return (number, line) of the lines of a here-document that a shell runs; the body begins in line ``first``."""
    if is_script:
        return list(enumerate(body, first))
    if is_quoted:
        return []
    return [(number, " ".join(re.findall(r"\$\([^)]*\)|`[^`]*`", line))) for number, line in enumerate(body, first)]


def _read_script(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(LARGEST_SCRIPT)
    except (OSError, ValueError):
        return ""
