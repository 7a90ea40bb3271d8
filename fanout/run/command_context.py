"""Context of a command without hosts: this process, the command line, the settings, and where runs are recorded."""

from __future__ import annotations

import os

from fanout.model.errors import UsageError
from fanout.model.frozen import frozen
from fanout.model.request import Request
from fanout.model.settings import Settings
from fanout.model.suggested_commands import CommandBuilder
from fanout.record.run_lookup import find_active_run, find_attempts, find_followed_attempts, find_run
from fanout.run.load_settings import load_settings
from fanout.run.process_context import ProcessContext


@frozen
class CommandContext:
    """Input of a command. Each command builds it once and passes it on."""

    process: ProcessContext
    request: Request
    settings: Settings

    def find_runs_directory(self) -> str:
        """Return the directory of recorded runs. Raises UsageError if the user has no home directory."""
        process = self.process
        if self.settings.log_dir:
            return os.path.abspath(os.path.join(process.cwd, self.settings.log_dir))
        state = process.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        if state.startswith("~"):
            raise UsageError(
                f"no directory for the record of runs: {process.user} has no home directory, and HOME is not set",
                hint="set HOME, or choose a directory with --log-dir DIR",
            )
        return os.path.abspath(os.path.join(process.cwd, state, "fanout", "runs"))

    @property
    def can_ask_hosts(self) -> bool:
        """Return whether hosts can be asked for a run without a record here.

        The hosts of fanout.toml are asked only for a run that the user names.
        """
        return bool(self.request.hosts or (self.settings.hosts and self.request.given["run"]))

    def find_run(self) -> str:
        """Return the directory of the run that the command line names. Raises UsageError."""
        return find_run(self.request.given["run"], self.find_runs_directory())

    def find_attempts(self) -> list[str]:
        """Return the directories of all attempts that the command line names: RUN means all, RUN.N one. Raises UsageError."""
        return find_attempts(self.request.given["run"], self.find_runs_directory())

    def find_active_run(self) -> str:
        """Return the directory of the active run that the command line names. Raises UsageError."""
        return find_active_run(self.request.given["run"], self.find_runs_directory(), self.request.verb)

    def find_followed_attempts(self) -> list[str]:
        """Return the attempts of the run to follow: the named one, else the only active one, else the latest.

        Raises UsageError.
        """
        return find_followed_attempts(self.request.given["run"], self.find_runs_directory(), self.request.verb)

    def build_host_command(self, verb: str, *words: str) -> str:
        """Return a fanout command for the same HOSTS and the same ssh configuration."""
        settings = self.settings
        made = CommandBuilder(ssh_config=settings.ssh_config, ssh_option=settings.ssh_option, source=self.request.hosts)
        return made.build_fanout_command(verb, *words, hosts=True)


def load_command_context(request: Request, process: ProcessContext) -> CommandContext:
    """Return the context of a command, with its settings checked. Raises UsageError."""
    return CommandContext(process=process, request=request, settings=load_settings(request, process).settings)
