"""Recordings of the injected failures as cases of the corpus: ``python -m tests.lab.verdicts.recording DIR [NAME…]``.

DIR is that of ``python -m tests.lab.verdicts --keep DIR``. The logs are printed in the form of the corpus: paths of this
machine are replaced, and known blocks are directives. In every second case all ranks of a host write to one file. The
author of the case reads the logs and writes the expected verdict.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.diagnose.corpus.cases import load_forms

BLOCKS = (
    "gloo-closed-213",
    "gloo-reset-213",
    "gloo-timeout-213",
    "gloo-send-timeout-213",
    "init-213",
    "assigned-213",
    "roles-213",
    "rendezvous-213",
)
#: What a path or an address of the lab becomes.
_PATHS = (
    (re.compile(r"/[\w./-]+/lib/python3\.\d+/site-packages/"), "/opt/venv/lib/python3.11/site-packages/"),
    (re.compile(r"/[\w./-]+/bin/(torchrun|python)3?\b"), r"/opt/venv/bin/\1"),
    (re.compile(r"/[\w./-]+/lib/python3\.\d+/(?!site-packages)"), "/opt/python/lib/python3.11/"),
    (re.compile(r"/[\w./-]+/task\.py"), "/proj/task.py"),
    (re.compile(r"(before reporting an error\.) .*"), r"\1"),
    (re.compile(r"(\[[WEI]\d{4} [\d:.]+) \d+ (?=torch/)"), r"\1 12 "),
)
_DROPPED = re.compile(
    r"^(?:\[rank\d+\]: )?(?:\s*[~^]+\s*$|frame #\d+: |Exception raised from |\s*$|\[W.* socket\.cpp:207\] )"
)
_STEP = re.compile(r"step (\d+)/(\d+) loss [\d.]+ step_time [\d.]+$")
_TORCHRUN = (
    (
        re.compile(
            r"E(?P<at>\d{4} [\d:.]+) +\d+ .*\] failed \(exitcode: (?P<code>-?\d+)\) local_rank: (?P<local>\d+) \(pid: (?P<pid>\d+)\)"
        ),
        "failed-213",
    ),
    (
        re.compile(r"W(?P<at>\d{4} [\d:.]+) +\d+ .*\] Sending process (?P<pid>\d+) closing signal SIGTERM"),
        "closing-213",
    ),
)
_MOST_STEPS = 120
_ENTRY = re.compile(
    r"\[\d+\]:\n  time      : (?P<at>.+)\n  host      : (?P<host>.+)\n  rank      : (?P<rank>\d+) \(local_rank: (?P<local>\d+)\)\n"
    r"  exitcode  : (?P<code>-?\d+) \(pid: (?P<pid>\d+)\).*\n(?:  error_file.*\n)?(?:  traceback .*\n)?"
)
_CHILD_FAILED = re.compile(r"(?m)^Traceback .*\n(?:  .*\n)+torch\.\S+\.ChildFailedError: *\n")
_REPORT = re.compile(r"=+\n.*FAILED\n-+\nFailures:\n(?P<others>[\s\S]*?)-+\nRoot Cause .*\n(?P<first>[\s\S]*?)=+\n")


def main() -> int:
    """Print the cases."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    for number, record in enumerate(sorted(folder.iterdir())):
        if not names or record.name in names:
            print(format_case(record, is_merged=bool(number % 2)))
    return 0


def format_case(record: Path, *, is_merged: bool) -> str:
    """Return the case of one record, without its expected verdict."""
    injected = json.loads((record / "injected.json").read_text(encoding="utf-8"))
    logs = {path.name: fold_log(path.read_text(encoding="utf-8", errors="replace")) for path in list_logs(record)}
    logs = {name: text for name, text in logs.items() if text.strip()}
    logs = merge_hosts(logs) if is_merged else logs
    hosts = dict.fromkeys(name.partition(".")[0] for name in logs)
    rows = ["[[case]]", f'id = "lab-{injected["kind"]}-{injected["place"]}"', 'source = "recorded: torch 2.13, gloo"']
    if len(hosts) < len(logs):
        rows.append("file_prefixes = [" + ", ".join(f'"{host}."' for host in hosts) + "]")
    rows.append("[case.logs]")
    for name, text in logs.items():
        rows += [f"\"{name}\" = '''", text.rstrip("\n").replace("\x1b", "␛"), "'''"]
    return "\n".join(rows) + "\n"


def merge_hosts(logs: Mapping[str, str]) -> dict[str, str]:
    """Return one log for each host: what its ranks wrote, then what torchrun wrote."""
    merged: dict[str, str] = {}
    for name, text in sorted(logs.items(), key=lambda each: (".rank-" not in each[0], "-err" in each[0], each[0])):
        host = f"{name.partition('.')[0]}.log"
        merged[host] = merged.get(host, "") + text
    return dict(sorted(merged.items()))


def list_logs(record: Path) -> list[Path]:
    """Return the logs that are not empty."""
    return [path for path in sorted((record / "logs").glob("*.log")) if path.stat().st_size]


def fold_log(text: str) -> str:
    """Return a log in the form of the corpus."""
    for pattern, instead in _PATHS:
        text = pattern.sub(instead, text)
    lines = [line for line in text.splitlines() if not _DROPPED.match(line)]
    text = "".join(f"{line}\n" for line in lines)
    text = _CHILD_FAILED.sub("@child-failed\n", _REPORT.sub(_fold_report, text))
    for name in BLOCKS:
        text = _fold_blocks(name, text)
    return "".join(f"{line}\n" for line in _fold_lines(text.splitlines()))


def _fold_report(found: re.Match[str]) -> str:
    """Return the directive of torchrun's failure report."""
    entries = [*_ENTRY.finditer(found["first"]), *_ENTRY.finditer(found["others"])]
    host = entries[0]["host"].partition(".")[0]
    ranks = " ".join(f"{each['rank']}:{each['local']}:{each['code']}:{each['pid']}" for each in entries)
    return f"@report host={host} | at={entries[0]['at']} | ranks={ranks}\n"


def _fold_blocks(name: str, text: str) -> str:
    """Replace each block that has this form by its directive."""

    def build_directive(found: re.Match[str]) -> str:
        fields = {key: value for key, value in found.groupdict().items() if value is not None}
        return f"@{name} " + " | ".join(f"{key}={value}" for key, value in fields.items()) + "\n"

    return _build_pattern(load_forms()[name]["text"]).sub(build_directive, text)


def _build_pattern(form: str) -> re.Pattern[str]:
    """Return the pattern of a form: its fields are groups; numbers of lines and ports may differ."""
    lines: list[str] = []
    for line in form.removeprefix("\n").splitlines():
        if _DROPPED.match(line.removeprefix("{m}")):
            continue
        body = re.escape(line.removeprefix("{m}").replace("{{", "\0").replace("}}", "\1"))
        body = re.sub(r"(line\\ )\d+|(\]:)\d+(?=\\\.\\ |:\\ )", lambda found: (found[1] or found[2]) + r"\d+", body)
        for field in re.findall(r"\\\{(\w+)\\\}", body):
            body = body.replace(rf"\{{{field}\}}", rf"(?P<{field}>.+?)", 1)
        body = body.replace("\0", r"\{").replace("\1", r"\}")
        mark = (
            ""
            if not line.startswith("{m}")
            else r"(?:\[rank(?P<rank>\d+)\]: )?"
            if not lines
            else r"(?:\[rank\d+\]: )?"
        )
        lines.append(mark + body + r"\n")
    return re.compile("(?m)^" + "".join(lines))


def _fold_lines(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines; torchrun's own and the steps become directives."""
    at = 0
    while at < len(lines):
        step = _STEP.match(lines[at])
        if step is None:
            yield _fold_line(lines[at])
            at += 1
            continue
        first, count = at, int(step[2])
        while at < len(lines) and (found := _STEP.match(lines[at])) and int(found[1]) == int(step[1]) + at - first:
            at += 1
        yield f"@times {min(at - first, _MOST_STEPS)} step %n/{count} loss 4.000 step_time 0.051"


def _fold_line(line: str) -> str:
    for pattern, name in _TORCHRUN:
        found = pattern.match(line)
        if found is not None:
            fields: Mapping[str, str] = found.groupdict()
            return f"@{name} " + " | ".join(f"{key}={fields[key]}" for key in sorted(fields))
    return line


if __name__ == "__main__":
    sys.exit(main())
