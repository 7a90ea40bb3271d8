"""The packages of fanout and their layers: a package imports from lower layers only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package: its layer (1 is the lowest), what it contains, and the module to read first."""

    name: str
    layer: int
    contains: str
    start: str


PACKAGES = (
    Package(name="agent", layer=1, contains="the program that fanout sends to each host", start="relay.py"),
    Package(name="text", layer=1, contains="units, tables, line wrapping, harmless text", start="sanitize.py"),
    Package(name="model", layer=2, contains="events, state, policy, plan, settings: pure values", start="events.py"),
    Package(name="hostfile", layer=3, contains="readers of every hostfile dialect", start="source.py"),
    Package(name="remote", layer=3, contains="connections to hosts and their transports", start="pool.py"),
    Package(name="record", layer=3, contains="the run directory: writer, reader, retention", start="run_writer.py"),
    Package(name="logs", layer=3, contains="bytes of a log to labelled, filtered lines", start="pipeline.py"),
    Package(
        name="checks", layer=3, contains="the checks of preflight, one file per topic", start="engine/definition.py"
    ),
    Package(name="recovery", layer=3, contains="what follows a failed attempt: pure decisions", start="decision.py"),
    Package(name="export", layer=3, contains="a launch plan as the job of a scheduler", start="job.py"),
    Package(
        name="sharing", layer=3, contains="who holds which host, and when a waiting run starts", start="availability.py"
    ),
    Package(name="sync", layer=3, contains="the files of a project, and how they differ on hosts", start="manifest.py"),
    Package(name="demo", layer=3, contains="the embedded lab of `fanout demo`", start="embedded_lab.py"),
    Package(name="preflight", layer=4, contains="the order of questions behind `fanout check`", start="run_checks.py"),
    Package(name="diagnose", layer=4, contains="evidence to the first cause of a failure", start="first_cause.py"),
    Package(name="ui", layer=4, contains="live view, plain view, JSON, report, HTML page", start="live_view.py"),
    Package(name="notify", layer=4, contains="messages to hooks, chat services, Prometheus", start="message.py"),
    Package(name="run", layer=5, contains="launch, watch, stop, detach, take over a run", start="launch.py"),
    Package(name="api", layer=6, contains="the functions of the Python API", start="calls.py"),
    Package(name="commands", layer=6, contains="one file per command of the command line", start="run.py"),
    Package(name="cli", layer=7, contains="argv to a command and its exit status", start="main.py"),
)

LAYERS = {package.name: package.layer for package in PACKAGES} | {"__main__": 8}


def format_layer_table() -> str:
    """Return the table of docs/architecture.md, highest layer first."""
    rows = ["| layer | package | contains | start reading in |", "|---|---|---|---|"]
    rows += [
        f"| {package.layer} | `{package.name}/` | {package.contains} | `{package.name}/{package.start}` |"
        for package in sorted(PACKAGES, key=lambda package: (-package.layer, package.name))
    ]
    return "\n".join(rows) + "\n"
