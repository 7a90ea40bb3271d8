"""Option table, first part: the groups of options that several commands share. The second part is command_options."""

from __future__ import annotations

from fanout.model.connection_options import CONNECTION_OPTIONS
from fanout.model.option import (
    LAUNCH,
    MAX_SECONDS,
    OUTPUT,
    RECORD,
    RECOVERY,
    SELECTION,
    TIMEOUTS,
    ByteSize,
    Duration,
    Option,
    Setting,
)

DEFAULT_RETENTION = "30d,100,5GB"  # for runs in fanout's own directory of runs
RUN_COMMANDS = ("ps", "attach", "logs", "report", "replay", "stacks", "stop")

LAUNCH_OPTIONS = (
    Option(
        "-n --dry-run",
        "print what each host would run; contact no host",
        kind=bool, default=False, group=LAUNCH, only="run rerun",
    ),
    Option(
        "-d --detach",
        "return when all hosts have started, or a wait begins",
        kind=bool, default=False, group=LAUNCH, only="run rerun",
    ),
    Option(
        "--wait",
        "wait until all hosts, their GPUs and the port are free, at most TIME (default: no limit)",
        kind=Duration, default=None, metavar="[TIME]", bounds=(1, MAX_SECONDS), zero=True, implied="0", group=LAUNCH,
        only="run rerun",
    ),
    # "" is the launcher's own working directory
    Option(
        "--name", "name the run; commands accept NAME like the run id", metavar="NAME", group=LAUNCH, only="run rerun export",
        help_of={"export": "name the job (default: the task's file name)"},
    ),
    # HOSTS of the command line takes precedence
    Setting("", name="hosts"),
    Setting(
        "-C --chdir", "work in DIR on the hosts (default: this directory)", metavar="DIR", group=LAUNCH, commands=("sync",),
        help_of={"sync": "write to DIR on the hosts (default: the same path as here)"},
    ),
    Setting(
        "--script",
        "start FILE on the hosts (default: {default}, or else torchrun)",
        default="train.sh", metavar="FILE", group=LAUNCH,
    ),
    Setting(
        "--shell",
        "run the script in bash with pipefail, or sh (default: {default})",
        default="bash", choices=("bash", "sh"), group=LAUNCH,
    ),
    Setting(
        "--venv",
        "put DIR on PATH; auto: the active one, if hosts have it",
        metavar="DIR|auto|none", group=LAUNCH,
    ),
    # Computed: the user named the venv, so its absence on a host is an error; and whether it is one of conda.
    Setting("", name="venv_sure", kind=bool, default=False, in_files=False),
    Setting("", name="master_port_given", kind=bool, default=False, in_files=False),
    Setting("", name="venv_is_conda", kind=bool, default=False, in_files=False),
    Setting(
        "--setup", "source FILE, or evaluate CMD, on each host before the script", metavar="FILE|CMD", group=LAUNCH
    ),
    Setting(
        "-E --env",
        "export NAME; without =V, with this shell's value",
        kind=tuple, default=(), metavar="NAME[=V]", in_files=False, group=LAUNCH,
    ),
    Option(
        "--env-file",
        "export the names in a .env file; values are not expanded",
        kind=tuple, default=None, metavar="FILE", group=LAUNCH,
    ),
    Setting(
        "--nproc-per-node",
        "start N processes on every host, not slots=",
        kind=int, default=None, metavar="N", bounds=(1, 10_000), group=LAUNCH, commands=("hosts",),
    ),
    Setting(
        "--master-addr", "set the address of the first host for the other hosts", metavar="ADDR", group=LAUNCH
    ),
    Setting(
        "--master-port",
        "set MASTER_PORT (default: {default}, or the next free port if another run holds it)",
        kind=int, default=29500, metavar="PORT", bounds=(1, 65_535), group=LAUNCH,
    ),
    Setting(
        "--force",
        "launch even if a check failed; let --env set reserved names",
        kind=bool, default=False, in_files=False, group=LAUNCH, only="run rerun",
    ),
    Setting("--skip-check", "do not check the hosts first", kind=bool, default=False, group=LAUNCH, only="run rerun"),
)  # fmt: skip

TIMEOUT_OPTIONS = (
    Setting(
        "--grace",
        "send SIGKILL TIME after SIGTERM (default: {default}; torchrun itself waits 30s)",
        kind=Duration, default=40.0, metavar="TIME", on_hosts=True, group=TIMEOUTS,
        bounds=(0, MAX_SECONDS / 2),  # a stop waits for twice as long
        commands=("stop",), help_of={"stop": "with HOSTS: send SIGKILL TIME after SIGTERM (default: {default})"},
    ),
    Setting(
        "--lease",
        "stop a host's part of the run after TIME without contact with the launcher (default: {default})",
        kind=Duration, default=300.0, metavar="TIME", bounds=(5, MAX_SECONDS), on_hosts=True, group=TIMEOUTS,
    ),
    Setting(
        "--last-words",
        "stop the other hosts TIME after a failure (default: {default})",
        kind=Duration, default=3.0, metavar="TIME", bounds=(0, MAX_SECONDS), group=TIMEOUTS,
    ),
    Setting(
        "--start-timeout",
        "stop if a host has not started after TIME (default: {default})",
        kind=Duration, default=120.0, metavar="TIME", bounds=(1, MAX_SECONDS), group=TIMEOUTS,
    ),
    Setting(
        "--time-limit",
        "stop after TIME with status 124 (default: 0, no limit)",
        kind=Duration, default=None, metavar="TIME", bounds=(0, 10_000 * 86400), group=TIMEOUTS,
        commands=("export",),
    ),
    Setting(
        "--save-before",
        "send --save-signal to the ranks TIME before the time limit, so that they save (default: 10m with --save-signal)",
        kind=Duration, default=None, metavar="TIME", bounds=(1, MAX_SECONDS), group=TIMEOUTS,
    ),
    Setting(
        "--save-signal",
        "signal of a planned stop; only ranks that handle it receive it (default: USR1)",
        metavar="NAME", group=TIMEOUTS,
    ),
    Setting(
        "--on-early-exit",
        "if a host exits with 0 while others run, wait for the others or stop them (default: {default})",
        default="wait", choices=("wait", "stop"), group=TIMEOUTS,
    ),
    Setting(
        "--background",
        "if the script exits 0 while processes of it run: wait for torchrun or another launcher, "
        "end all, or keep all (default: {default})",
        default="wait", choices=("wait", "end", "keep"), on_hosts=True, group=TIMEOUTS,
    ),
    Setting(
        "--hang-timeout",
        "treat the run as hung after TIME without output or stack changes (default: off)",
        kind=Duration, words=("", "off", "auto"), metavar="TIME|auto", bounds=(1, MAX_SECONDS), group=TIMEOUTS, commands=("attach",),
        help_of={
            "attach": "with HOSTS: report a hang after TIME, as run does"
            " (default: off; without HOSTS the launcher reports)"
        },
    ),
    Setting(
        "--on-hang",
        "if the run hangs, report the stack of every rank; also stop, or stop and restart it (default: {default})",
        default="report", choices=("report", "stop", "restart"), group=TIMEOUTS,
    ),
    Setting(
        "--on-hangup",
        "if the terminal closes, stop the run as on SIGTERM, or keep it running detached (default: {default})",
        default="stop", choices=("stop", "keep"), group=TIMEOUTS,
    ),
)  # fmt: skip

RECOVERY_OPTIONS = (
    Setting(
        "--max-restarts",
        "restart up to N times without progress (default: {default})",
        kind=int, default=0, metavar="N", bounds=(0, 1000), group=RECOVERY, only="run rerun",
    ),
    Setting(
        "--resume-args",
        "append ARGS to the task's arguments from the first restart on",
        metavar="ARGS", group=RECOVERY, only="run rerun",
    ),
    Setting(
        "--restart-codes",
        "exit statuses with which the task saved its state and asks for a restart (default: {default})",
        default="75", metavar="CODES", group=RECOVERY, only="run rerun",
    ),
    Setting(
        "--restart-rate",
        "stop the run after N starts in TIME, with or without progress; off: no limit (default: {default})",
        default="5/30m", metavar="N/TIME", group=RECOVERY, only="run rerun",
    ),
    Setting(
        "--allow-from-scratch",
        "restart a task that does not resume from a checkpoint",
        kind=bool, default=False, group=RECOVERY, only="run rerun",
    ),
)  # fmt: skip

SELECTION_OPTIONS = (
    Option("-w --nodes", "use only these hosts: gpu[01-04],gpu07", metavar="NODES", group=SELECTION),
    Option("-x --without", "leave out these hosts: gpu[01-04],gpu07", metavar="NODES", group=SELECTION),
    Option("-i --include", "use only DeepSpeed's worker-0@worker-1:0,2", metavar="SPEC", group=SELECTION),
    Option("-e --exclude", "leave out DeepSpeed's worker-0@worker-1:0,2", metavar="SPEC", group=SELECTION),
    Option(
        "--nnodes",
        "use only the first N hosts; MIN:MAX: continue after a failure with at least MIN hosts",
        metavar="N", group=SELECTION,
    ),
    Option("--tag", "use only hosts with tag=TAG", metavar="TAG", group=SELECTION),
    Option(
        "--pick",
        "free: use the first --nnodes hosts whose GPUs are free and that pass the check",
        choices=("free",), metavar="free", group=SELECTION, only="run rerun check",
    ),
)  # fmt: skip

OUTPUT_OPTIONS = (
    Setting(
        "--output",
        "choose the view (default: {default}, live in a terminal, plain in a pipe)",
        default="auto", choices=("auto", "live", "plain", "json"), group=OUTPUT,
    ),
    Option("--json", "same as --output json", name="output", const="json", default=None, group=OUTPUT),
    Setting(
        "--color",
        "print colors (default: {default})",
        default="auto", choices=("auto", "always", "never"), group=OUTPUT,
        commands=("check", "ps", "logs", "stacks", "stop", "report", "why", "lnav", "hosts", "init", "exec", "clean", "export", "notify", "top", "sync"),
    ),
    # "" is smart, or all if --grep is given
    Setting(
        "--show",
        "show smart (rank 0 in full, warnings and errors of all ranks), all, or global ranks: 0,8-15 (default: smart)",
        metavar="RANKS", group=OUTPUT,
    ),
    Setting("--grep", "show only lines that match, of all ranks", metavar="RE", group=OUTPUT),
    Setting("--hide", "hide lines that match", metavar="RE", group=OUTPUT),
    Setting(
        "--fold",
        "merge lines of many ranks: exact (equal), similar (only numbers differ) "
        "(default: {default}, similar in the live view, off in a pipe)",
        default="auto", choices=("auto", "off", "exact", "similar"), group=OUTPUT,
    ),
    Setting("-T --timestamps", "print the time of every line", kind=bool, default=False, group=OUTPUT),
    Setting(
        "--prefix",
        "print before every line: '{who} {mark} '; also {host} {rank} {time} {stamp}",
        default=None, metavar="FORMAT", group=OUTPUT,
    ),
    Setting(
        "--metric",
        "find metrics with groups named step, total, loss, speed or other names; a single group is the loss",
        metavar="RE", group=OUTPUT, commands=("report",),
    ),
)  # fmt: skip

RECORD_OPTIONS = (
    Setting(
        "--log-dir",
        "find runs in DIR (default: $XDG_STATE_HOME/fanout/runs)",
        metavar="DIR", group=RECORD, commands=RUN_COMMANDS,
        help_of={"run": "record runs in DIR (default: $XDG_STATE_HOME/fanout/runs)"},
    ),
    # "" is DEFAULT_RETENTION, or all if --log-dir is given
    Setting(
        "--keep",
        f"keep runs up to this age, number and size (5G and 5GB: 1000^3, 5GiB: 1024^3), or all (default: {DEFAULT_RETENTION}; with --log-dir: all)",
        metavar="BOUNDS", group=RECORD,
    ),
    Setting(
        "--rank-logs",
        "write one stream and file per rank under torchrun (auto), or one per host (off) (default: {default})",
        default="auto", choices=("auto", "off"), group=RECORD,
    ),
    Setting(
        "--stacks",
        "let fanout stacks read the stacks of ranks (auto), or leave PYTHONPATH unchanged (off) (default: {default})",
        default="auto", choices=("auto", "off"), on_hosts=True, group=RECORD,
    ),
    Setting(
        "--spool-limit",
        "keep at most SIZE of log on each host's disk (4G and 4GB: 1000^3, 4GiB: 1024^3); 0: no limit (default: {default})",
        kind=ByteSize, default=4 * 10**9, metavar="SIZE", bounds=(32 * 10**6, 10**15), zero=True, on_hosts=True, group=RECORD,
    ),
    Setting(
        "--signatures",
        "add your own error signatures (docs/diagnosis.md)",
        metavar="FILE", group=RECORD, commands=("report", "why"),
    ),
    Setting(
        "--hook",
        "call CMD for each of started, failed, ended, hang, host-lost, restarted, with the event as JSON on stdin",
        metavar="CMD", group=RECORD,
    ),
    Setting(
        "--notify",
        "send failures, hangs, restarts and the end of a run of at least 5 minutes to NAME of ~/.config/fanout/notify.toml",
        metavar="NAME", group=RECORD,
    ),
    Setting(
        "--metrics-file",
        "write state, step, loss and speed to FILE every 15 s, in the format of Prometheus",
        metavar="FILE", group=RECORD,
    ),
)  # fmt: skip

SHARED_OPTIONS: tuple[Option, ...] = (
    *LAUNCH_OPTIONS,
    *TIMEOUT_OPTIONS,
    *RECOVERY_OPTIONS,
    *SELECTION_OPTIONS,
    *CONNECTION_OPTIONS,
    *OUTPUT_OPTIONS,
    *RECORD_OPTIONS,
)
