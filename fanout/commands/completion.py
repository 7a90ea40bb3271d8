"""``fanout completion``: print the completion script of a shell; the script asks this command for the words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from fanout.model.completion import Completion
from fanout.model.errors import FanoutError, UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.request import Request
from fanout.run.command_context import CommandContext, load_command_context
from fanout.run.process_context import ProcessContext
from fanout.text.sanitize import to_single_line
from fanout.text.suggest import suggest_nearest

WORDS = "words"  # in place of SHELL: complete the words that follow
SHELL_KINDS = ("files", "directories", "commands")  # the shell itself completes these
_BASH = r"""# Completion of fanout for bash: source this file, or put it into ~/.local/share/bash-completion/completions/fanout
_fanout() {
    local line directive= current=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :*) directive=${line#:} ;;
            *) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done < <("${COMP_WORDS[0]}" completion words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    [ "$current" = "=" ] && current=
    local action=
    case $directive in
        files) action=-f ;;
        directories) action=-d ;;
        commands) action=-c ;;
    esac
    [ -z "$action" ] && return
    [ "$action" != -c ] && compopt -o filenames 2>/dev/null
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen "$action" -- "$current")
}
complete -F _fanout fanout
"""
_ZSH = r"""#compdef fanout
# Completion of fanout for zsh: put this file as _fanout into a directory of $fpath, or source it after compinit
_fanout() {
    local -a described
    local line directive
    for line in "${(@f)$(${words[1]} completion words "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
            '') ;;
            :*) directive=${line#:} ;;
            *) described+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    (( $#described )) && _describe -t words 'fanout' described
    case $directive in
        files) _files ;;
        directories) _files -/ ;;
        commands) _command_names -e ;;
    esac
}
if [ "$funcstack[1]" = _fanout ]; then _fanout "$@"; else compdef _fanout fanout; fi
"""
_FISH = r"""# Completion of fanout for fish: put this file into ~/.config/fish/completions/fanout.fish
function __fanout_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    for line in ($program completion words $words "$current" 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path "$current"
            case ':directories'
                __fish_complete_directories "$current"
            case ':commands'
                __fish_complete_command
            case '*'
                printf '%s\n' $line
        end
    end
end
complete -c fanout -f -a '(__fanout_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def run_completion(request: Request, process: ProcessContext, complete: Callable[[Sequence[str]], Completion]) -> int:
    """Print a script, or the words that complete a command line. Return 0. Raises UsageError."""
    shell = request.given["shell_name"]
    if shell == WORDS:
        process.stdout.write("".join(f"{line}\n" for line in _list_lines(complete(request.task), request, process)))
        return ExitStatus.SUCCESS
    if shell not in SCRIPTS or request.task:
        wrong = " ".join((shell, *request.task)).strip()
        why = f"unknown shell {wrong!r}" if wrong else "SHELL is missing"
        raise UsageError(
            f"completion: {why}; fanout completes in bash, zsh and fish",
            hint=suggest_nearest(shell, SCRIPTS, quoted=False) or "fanout completion bash",
        )
    process.stdout.write(SCRIPTS[shell])
    return ExitStatus.SUCCESS


def _list_lines(found: Completion, request: Request, process: ProcessContext) -> Iterator[str]:
    """Yield each candidate with its help, and last the kind of words that the shell shall add."""
    current = request.task[-1].removeprefix(found.prefix) if request.task else ""
    current = "" if current == "=" else current
    kept = ""  # the part of a list with commas that is complete
    if "hosts" in found.kinds or "known-hosts" in found.kinds:
        kept = current[: current.rfind(",") + 1]
    candidates = [*found.words, *_list_names(found, request, process)]
    for word, text in dict(candidates).items():
        if (kept + word).startswith(current):
            yield f"{found.prefix}{kept}{word}\t{to_single_line(text)}"
    for kind in found.kinds:
        if kind in SHELL_KINDS:
            yield f":{kind}"


def _list_names(found: Completion, request: Request, process: ProcessContext) -> list[tuple[str, str]]:
    """Return the runs, hosts and services that may stand here. What cannot be read has no names."""
    if not set(found.kinds) - set(SHELL_KINDS):
        return []
    try:
        context = load_command_context(request, process)
        return [pair for kind in found.kinds for pair in _NAMES.get(kind, _list_nothing)(context, found)]
    except (FanoutError, OSError):
        return []


def _list_nothing(context: CommandContext, found: Completion) -> Iterator[tuple[str, str]]:
    yield from ()


def _list_runs(context: CommandContext, found: Completion, *, active: bool = False) -> Iterator[tuple[str, str]]:
    from fanout.record.run_summary import list_run_summaries

    for run in reversed(list_run_summaries(context.find_runs_directory())):
        if run.active or not active:
            text = f"{run.state}: {run.title}"
            yield from ((word, text) for word in (run.run, run.name) if word)


def _list_active_runs(context: CommandContext, found: Completion) -> Iterator[tuple[str, str]]:
    return _list_runs(context, found, active=True)


def _list_hosts(context: CommandContext, found: Completion) -> Iterator[tuple[str, str]]:
    """Yield the hosts of HOSTS, or of fanout.toml if the command line has no HOSTS."""
    from fanout import hostfile

    source = found.hosts or context.settings.hosts
    if source and source != "-":
        file = hostfile.read_host_list(source, stdin=lambda size: b"", environ=context.process.environ)
        yield from ((host.name, "") for host in file.hosts)


def _list_known_hosts(context: CommandContext, found: Completion) -> Iterator[tuple[str, str]]:
    """Yield the hosts of fanout.toml and the Host entries of ~/.ssh/config."""
    from fanout.remote.transports.ssh_config import find_user_context
    from fanout.remote.transports.ssh_config_reader import ConfigReader, UnsupportedLine

    if context.settings.hosts:
        yield from _list_hosts(context, found)
    path = context.settings.ssh_config
    if path == "none":
        return
    try:
        config = ConfigReader(path, find_user_context(), system=os.devnull, comments=True, lenient=True)
    except UnsupportedLine:
        return
    yield from ((name, "") for name in config.list_host_names())


def _list_services(context: CommandContext, found: Completion) -> Iterator[tuple[str, str]]:
    from fanout.notify.chat_services import list_entries

    yield from ((name, "") for name in list_entries(context.process.environ))


_NAMES: dict[str, Callable[[CommandContext, Completion], Iterator[tuple[str, str]]]] = {
    "runs": _list_runs,
    "active-runs": _list_active_runs,
    "hosts": _list_hosts,
    "known-hosts": _list_known_hosts,
    "services": _list_services,
}
