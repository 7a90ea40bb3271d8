"""Command table: one row for each command. A new command is a file in commands/ and a row here."""

from __future__ import annotations

from fanout.model.option import CONNECTION, LAUNCH, OUTPUT, RECORD, RECOVERY, SELECTION, TIMEOUTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Positional:
    """Word of a command line that is not a flag."""

    def __init__(self, name: str, metavar: str, text: str = "", *, optional: bool = False, many: bool = False) -> None:
        self.name = name
        self.metavar = metavar
        self.help = text
        self.optional = optional
        self.many = many


class Command:
    """One command: its help, its words, its groups of options, and its function.

    ``function``: an import path; only the chosen command is imported. It gets the request and the process context, and
    with ``needs`` also a function of cli/, which is an import path too.
    ``takes_task``: the words after the positionals belong to the task, or are the command of ``exec``.
    ``flags_after``: fanout's flags may follow the last positional.
    ``missing_task``: (message, example) of the error for a command line without a task.
    ``section``: the part of the overview that lists the command; "": it is named in the last line only.
    ``main_flags``: flags of groups that the short help page explains too; ``details``: text of the long page only.
    """

    def __init__(
        self,
        name: str,
        usage: str,
        about: str,
        function: str,
        *,
        positionals: tuple[Positional, ...] = (),
        groups: tuple[str, ...] = (),
        takes_task: bool = False,
        flags_after: bool = True,
        missing_task: tuple[str, str] | None = None,
        needs: str = "",
        section: str = "",
        main_flags: tuple[str, ...] = (),
        epilog: str = "",
        details: str = "",
    ) -> None:
        self.name = name
        self.usage = usage
        self.about = about
        self.function = function
        self.positionals = positionals
        self.groups = groups
        self.takes_task = takes_task
        self.flags_after = flags_after
        self.missing_task = missing_task
        self.needs = needs
        self.section = section
        self.main_flags = main_flags
        self.epilog = epilog
        self.details = details

    @property
    def summary(self) -> str:
        """Return what the command does, as a part of a sentence."""
        return self.about[0].lower() + self.about[1:].rstrip(".")

    @property
    def has_task(self) -> bool:
        """Return whether the last positional is the task, which may be ``-m MODULE``."""
        return bool(self.positionals) and self.positionals[-1] is TASK

    @property
    def takes_hosts_and_task(self) -> bool:
        """Return whether the command line is HOSTS TASK [ARG…]."""
        return [word.name for word in self.positionals] == ["hosts", "task"]

    @property
    def most_positionals(self) -> int | None:
        """Return the number of words before the words of the task; None: no limit."""
        return None if any(word.many for word in self.positionals) else len(self.positionals)

    def import_function(self) -> Callable[..., int]:
        """Import the module of the command and return its function."""
        return import_function(self.function)


def import_function(path: str) -> Callable[..., Any]:
    """Import a function: ``package.module:name``."""
    from importlib import import_module

    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


PARSER = "fanout.cli.parser:parse_arguments"
#: Sections of the overview, in order.
SECTIONS = ("launch", "watch", "after", "hosts")

HOSTS = Positional("hosts", "HOSTS", "hostfile, or hosts: gpu01,gpu02 (default: hosts in fanout.toml)", optional=True)
PS_HOSTS = Positional("hosts", "HOSTS", "ask these hosts for your runs (default: list the records here)", optional=True)
ASKED_HOSTS = Positional("hosts", "HOSTS", "ask these hosts, if there is no record here", optional=True)
TASK = Positional("task", "TASK", "training script, or -m MODULE; all words after it are its arguments", optional=True)
FORMAT = Positional("format", "FORMAT", "slurm, kubernetes, skypilot or dstack")
LATEST_RUN = Positional("run", "RUN", "run id, part of it, name, or @-1 (default: the latest)", optional=True)
ACTIVE_RUN = Positional("run", "RUN", "run id, part of it, name, or @-1 (default: the active run)", optional=True)
SHELL = Positional("shell_name", "SHELL", "bash, zsh or fish", optional=True)
SOURCE = Positional("source", "DIR", "directory to send (default: this directory)", optional=True)
NEW_FILE = Positional("file", "FILE", "file to create (default: hosts.txt)", optional=True)
LOG_FILES = Positional("task", "FILE|DIR|RUN|-", "logs, a directory of logs, a run, or - for standard input", many=True)

_ROWS = (
    Command(
        "check", "[FLAGS] HOSTS [TASK [ARG…]]", "Check that the hosts can train; print each problem and its fix.",
        "fanout.commands.check:run_check", section="launch",
        positionals=(HOSTS, TASK), takes_task=True, flags_after=False,
        groups=(LAUNCH, SELECTION, CONNECTION), main_flags=("--without",),
    ),
    Command(
        "run", "[FLAGS] HOSTS TASK [ARG…]", "Check, launch on all hosts, watch, stop together, diagnose.",
        "fanout.commands.run:run_training", section="launch",
        positionals=(HOSTS, TASK), takes_task=True, flags_after=False,
        groups=(LAUNCH, TIMEOUTS, RECOVERY, SELECTION, CONNECTION, OUTPUT, RECORD),
        main_flags=("--dry-run", "--detach", "--name", "--venv", "--env", "--max-restarts"),
        missing_task=("TASK is missing", "fanout run hosts.txt task.py cfg.yaml"),
        details="All words after TASK are arguments of the task: fanout run hosts.txt task.py cfg.yaml --train.lr 1e-4. "
        "fanout run hosts.txt -m package.module cfg.yaml runs a module, as torchrun -m does. "
        "After TASK, fanout warns about its own flags and refuses --dry-run; put -- before TASK to allow them.",
    ),
    Command(
        "rerun", "[FLAGS] [RUN]", "Repeat a recorded run with its own command line.",
        "fanout.commands.rerun:rerun_training", section="launch", positionals=(LATEST_RUN,), needs=PARSER,
        groups=(LAUNCH, TIMEOUTS, RECOVERY, SELECTION, CONNECTION, OUTPUT, RECORD), main_flags=("--env",),
        epilog="Flags take precedence over those of the recorded run. Values of --env are not recorded: give them again. "
        "fanout reads the hostfile, the config and the code as they are now.",
    ),
    Command(
        "export", "[FLAGS] FORMAT HOSTS TASK [ARG…]", "Print the launch plan as a job of a scheduler.",
        "fanout.commands.export:run_export", positionals=(FORMAT, HOSTS, TASK), takes_task=True, flags_after=False,
        groups=(LAUNCH, SELECTION), main_flags=("--env",),
        missing_task=("HOSTS or TASK is missing", "fanout export slurm hosts.txt task.py cfg.yaml"),
        epilog="Comments at the top of the job name what you must fill in. fanout writes credentials by name only. "
        "Example: fanout export slurm hosts.txt task.py cfg.yaml > job.sh && sbatch job.sh",
    ),
    Command(
        "demo", "[FLAGS]", "Simulate hosts on this machine and train on them.", "fanout.commands.demo:run_demo",
        section="launch", groups=(OUTPUT,), needs=PARSER, epilog="demo needs no root and no ssh server, and works in any directory. If torch is installed, a checkout trains "
        "tasks/train_llada2_bd.py, and any other directory a small model. Without torch it trains with Python alone. At the end it "
        "deletes all its files except the record of the run. Exit status: that of the run.",
    ),
    Command(
        "ps", "[FLAGS] [HOSTS]", "List runs, on HOSTS or launched from this machine.", "fanout.commands.ps:run_ps",
        section="watch", positionals=(PS_HOSTS,), groups=(SELECTION, CONNECTION),
        epilog="With HOSTS, fanout asks each host for your runs, from whichever machine they were launched. Without HOSTS, it "
        "lists the active runs that were launched from this machine, and the last 5 that have ended. "
        "Exit status: 0, 255 if a host could not be asked, 130 after Ctrl-C.",
    ),
    Command(
        "top", "[FLAGS] HOSTS", "Show who uses which GPU on all hosts, live.", "fanout.commands.top:run_top",
        section="hosts", positionals=(HOSTS,), groups=(SELECTION, CONNECTION),
        epilog="A block shows the load of one GPU in the colour of its user; a dot is a free GPU. The keys ?, arrows, /, f, u and "
        "s show help, select, filter and sort. A pipe gets the text once, as with --once. An unreachable host is a row, and is "
        "tried again. Exit status: 0, 255 if --once reached no host, 130 after Ctrl-C.",
    ),
    Command(
        "attach", "[FLAGS] [RUN] [HOSTS]", "Return to a run and follow it to its end.",
        "fanout.commands.attach:run_attach", section="watch",
        positionals=(ACTIVE_RUN, ASKED_HOSTS), groups=(SELECTION, CONNECTION, OUTPUT),
        epilog="On the machine that launched the run, attach follows the record. If the launcher died, a new one replaces it. "
        "On any other machine, give HOSTS: fanout asks them for the run and for its log from the first byte. "
        "Ctrl-C leaves the run running. Exit status: that of the run, or 130 after Ctrl-C.",
    ),
    Command(
        "logs", "[FLAGS] [RUN]", "Print the log lines of a run, also while it is active.",
        "fanout.commands.logs:run_logs", section="watch", positionals=(LATEST_RUN,),
    ),
    Command(
        "stacks", "[FLAGS] [RUN]", "Show the current Python stack of every rank, grouped.",
        "fanout.commands.stacks:run_stacks", section="watch", positionals=(ACTIVE_RUN,),
        epilog="fanout asks each rank with a signal; the training code does not notice, and the rank goes on. If a rank does not "
        "react, fanout uses py-spy, if the host has it. Exit status: 0 if every host answered, 1 if not, 255 unreachable.",
    ),
    Command(
        "stop", "[FLAGS] [RUN] [HOSTS]", "Stop a run on all hosts, and verify that nothing is left.",
        "fanout.commands.stop:run_stop", section="watch",
        positionals=(ACTIVE_RUN, ASKED_HOSTS), groups=(SELECTION, CONNECTION),
        epilog="If the launcher is alive, stop asks it to end the run; a second stop makes it kill the run at once. Otherwise, "
        "or with HOSTS on a machine without a record of the run, stop ends the run on the hosts itself. "
        "Exit status: 0 nothing is left, 255 not verified on every host.",
    ),
    Command(
        "report", "[FLAGS] [RUN]", "Show the report and diagnosis of a run.", "fanout.commands.report:run_report",
        section="after", positionals=(LATEST_RUN,),
    ),
    Command(
        "why", "[FLAGS] FILE|DIR|RUN|-…", "Diagnose a failed run of any launcher from its logs.",
        "fanout.commands.why:run_why", section="after",
        positionals=(LOG_FILES,), takes_task=True, flags_after=False,
        missing_task=("no log file given", "fanout why gpu01.log gpu02.log, or fanout why DIR"),
        epilog="why reads plain, .gz, .bz2, .xz and .zst files. It takes hosts and ranks from file names, line labels and "
        "torchrun's reports, and the order from the times in the logs. Exit status: 0 a cause is named, 1 undetermined.",
    ),
    Command(
        "replay", "[FLAGS] [RUN]", "Play back a recorded run in the live view.", "fanout.commands.replay:run_replay",
        positionals=(LATEST_RUN,), groups=(OUTPUT,),
    ),
    Command(
        "notify", "[--test NAME]", "List the services for messages, or test one.", "fanout.commands.notify:run_notify",
        epilog="The services are entries of ~/.config/fanout/notify.toml, and env, which stands for $FANOUT_NOTIFY_URL. "
        "Exit status: 0, or 1 if the service did not accept the test.",
    ),
    Command(
        "lnav", "[--install]", "Print or install the format with which lnav reads records.",
        "fanout.commands.lnav:run_lnav",
        epilog="lnav is a viewer of log files. After --install: lnav ~/.local/state/fanout/runs/RUN/events.jsonl, or the files "
        "in logs/ beside it.",
    ),
    Command(
        "completion", "SHELL", "Print the script that completes fanout's words in a shell.",
        "fanout.commands.completion:run_completion", positionals=(SHELL,), takes_task=True, flags_after=False,
        needs="fanout.cli.complete_words:complete_words",
        epilog="The script completes commands, flags, values, runs, hosts and files. Put it where the shell looks for it:\n"
        "  fanout completion bash > ~/.local/share/bash-completion/completions/fanout\n"
        "  fanout completion zsh > ~/.zfunc/_fanout      # a directory of fpath\n"
        "  fanout completion fish > ~/.config/fish/completions/fanout.fish",
    ),
    Command(
        "hosts", "[FLAGS] HOSTS", "Show how fanout reads a hostfile.", "fanout.commands.hosts:run_hosts",
        section="hosts", positionals=(HOSTS,), groups=(SELECTION, CONNECTION),
    ),
    Command(
        "init", "[FLAGS] [FILE]", "Write a hostfile from ~/.ssh/config, after a yes.", "fanout.commands.init:run_init",
        section="hosts", positionals=(NEW_FILE,),
        epilog="init lists the names of the Host entries, also of included files, without patterns and without entries with "
        "the user git. It never overwrites a file. Exit status: 0 the file was written, 1 you declined.",
    ),
    Command(
        "exec", "[FLAGS] HOSTS -- COMMAND…", "Run a command on all hosts; print equal output once.",
        "fanout.commands.exec:run_exec", section="hosts",
        positionals=(HOSTS,), takes_task=True, groups=(SELECTION, CONNECTION),
        missing_task=("no command given", "fanout exec HOSTS -- nvidia-smi -L"),
        epilog="The login shell of each host runs the command line, so quote what the hosts must expand. fanout merges stdout "
        "and stderr. Ctrl-C closes the command's stdin, sends it SIGTERM, and names the hosts where it has ended and those "
        "where it may still run.",
    ),
    Command(
        "sync", "[FLAGS] HOSTS [DIR]", "Copy the code in this directory to all hosts.",
        "fanout.commands.sync:run_sync", positionals=(HOSTS, SOURCE), groups=(SELECTION, CONNECTION),
        epilog="sync sends what git tracks, and what .gitignore and .fanoutignore do not exclude.",
        details="An interrupted sync leaves each file whole, old or new. "
        "Exit status: 0 all hosts have the same code, 1 a host refused, 255 a host was unreachable or lost.",
    ),
    Command(
        "clean", "[FLAGS] HOSTS", "List what finished runs left on hosts; remove it after a yes.",
        "fanout.commands.clean:run_clean", section="hosts",
        positionals=(HOSTS,), groups=(SELECTION, CONNECTION),
        epilog="clean lists orphan processes that carry a run's mark, and records of runs without a keeper. After a yes it kills "
        "the processes, deletes the records, and checks again. It never touches active runs: use fanout stop. "
        "Exit status: 0 nothing is left, 1 something is left, 255 a host could not be asked.",
    ),
)  # fmt: skip

COMMANDS: dict[str, Command] = {row.name: row for row in _ROWS}
