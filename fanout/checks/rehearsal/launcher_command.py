"""Launcher commands: read a recorded command line as its launcher does, with its variables and its file. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fanout.checks.rehearsal.launchers import LAUNCHERS, Launcher
from fanout.model.frozen import frozen

_SHORT = {"r": "redirects", "t": "tee"}
_FLAG = re.compile(r"-(?![\d.])")  # a negative number is a value
_TRUE = ("1", "true", "y")


@frozen
class LauncherCall:
    """Parsed call of a launcher: ``script`` is the program that it starts ("" if none), ``words`` are its arguments.

    ``options`` has the common names of the table, with defaults; ``stated`` has only what the call itself states.
    """

    launcher: Launcher
    options: Mapping[str, str]
    stated: frozenset[str]
    script: str
    words: tuple[str, ...]

    @property
    def is_standalone(self) -> bool:
        return "standalone" in self.options

    @property
    def nnodes(self) -> str:
        """Return the largest number of hosts: ``2`` for ``1:2``."""
        return "1" if self.is_standalone else self.options["nnodes"].rpartition(":")[2]

    @property
    def nproc_per_node(self) -> str:
        """Return the processes of one host; "" if the launcher counts the GPUs."""
        total, count = self.options.get("nproc", ""), self.options.get("nnodes", "")
        if "nproc_per_node" not in self.options and total.isdigit() and count.isdigit() and int(count):
            return str(int(total) // int(count))
        return self.options.get("nproc_per_node", "")

    @property
    def is_static(self) -> bool:
        """Return whether ranks come from the command line and not from the rendezvous."""
        return self.options.get("rdzv_backend", "static") == "static"

    @property
    def has_built_in_file(self) -> bool:
        """Return whether the launcher reads a file of its own package, whose values are not known here."""
        return self.options.get("file", "") in self.launcher.built_in_files

    @property
    def endpoint(self) -> tuple[str, str]:
        """(address, port) of the rendezvous; the port may be ""."""
        meeting = self.options.get("rdzv_endpoint", "")
        if meeting:
            host, colon, port = meeting.rpartition(":")
            return (host, port) if colon and port.isdigit() else (meeting, "")
        if not self.is_static and self.launcher.prefix:  # torchrun reads --master-addr only for the static rendezvous
            return "localhost", ""
        return self.options.get("master_addr", ""), self.options.get("master_port", "")

    def spell_value(self, name: str) -> str:
        """Return the option as the user would write it: ``--num_machines=1 (its default)``."""
        if name == "nnodes" and name not in (*self.launcher.names.values(), *self.launcher.variables.values()):
            name = "nproc"  # composer computes the hosts from the processes
        flag = self.launcher.spell_option(name)
        if name not in self.options:
            return f"no {flag}"
        return f"{flag}={self.options[name]}{'' if name in self.stated else ' (its default)'}"


def parse_launcher_call(call: Mapping[str, Any]) -> LauncherCall | None:
    """Return the parsed call; None if the program is no launcher or its subcommand starts no ranks."""
    launcher = LAUNCHERS.get(call["program"])
    if launcher is None:
        return None
    words, module = _skip_module(list(call["argv"]), launcher)
    if launcher.starts and not module.endswith(".launch"):
        if not words or words[0] not in launcher.starts:
            return None
        words.pop(0)
    own: tuple[str, ...] = ()
    if launcher.program == "axolotl":
        launcher, own, words = _choose_inner_launcher(launcher, words)
    env = call["env"]
    stated = {
        name[len(launcher.prefix) :].lower(): value
        for name, value in env.items()
        if launcher.prefix and name.startswith(launcher.prefix)
    }
    stated.update({name: env[variable] for variable, name in launcher.variables.items() if env.get(variable)})
    given, rest = _read_all_options(words, launcher) if launcher.takes_all else _read_options(words, launcher)
    stated.update(given)
    values = call.get("file", {}).get("values", {})
    from_file = {
        name: values[key] for key, name in launcher.keys.items() if values.get(key, "null") not in ("", "null")
    }
    options = {**launcher.defaults, **from_file, **stated}
    if "rdzv_id" in stated and launcher.variables.get("RDZV_ID"):
        options["rdzv_backend"] = "c10d"
    if launcher.program == "composer":
        options.update(_count_composer_hosts(options))
    has_script = not launcher.takes_all and not own
    return LauncherCall(
        launcher=launcher,
        options=options,
        stated=frozenset({*from_file, *stated}),
        script=rest[0] if rest and has_script else "",
        words=tuple(rest[1:]) if has_script else (*own, *rest),
    )


def _choose_inner_launcher(launcher: Launcher, words: list[str]) -> tuple[Launcher, tuple[str, ...], list[str]]:
    """Return the launcher that axolotl starts, the words of axolotl, and those after ``--`` for the launcher."""
    at = words.index("--") if "--" in words else len(words)
    own, inner = words[:at], words[at + 1 :]
    pairs = [word.partition("=") for word in own]
    names = [
        value if equals else "".join(own[n + 1 : n + 2])
        for n, (flag, equals, value) in enumerate(pairs)
        if flag == "--launcher"
    ]
    program = names[0] if names else launcher.rules
    for flag in ("num-processes", "main-process-port"):  # flags of earlier versions
        for n, (word, equals, value) in enumerate(pairs):
            if word.replace("_", "-") == f"--{flag}":
                inner = [f"--{flag.replace('-', '_')}", value if equals else "".join(own[n + 1 : n + 2]), *inner]
    row = LAUNCHERS.get(program, LAUNCHERS["torchrun"])
    like = row.program if program in LAUNCHERS else program
    row = replace(row, program=launcher.program, example=launcher.example, like=like, starts=(), modules=())
    return row, tuple(own), inner


def _count_composer_hosts(options: Mapping[str, str]) -> dict[str, str]:
    """Return the hosts and the node rank that composer derives; without --nproc it counts the GPUs of the host."""
    local = options.get("nproc_per_node", options.get("gpus", ""))
    total, base = options.get("nproc", local), options.get("base_rank", "")
    if not local.isdigit() or not int(local) or not total.isdigit():
        return {"nnodes": "1"}
    rank = {"node_rank": str(int(base) // int(local))} if base.isdigit() else {}
    return {"nnodes": str(int(total) // int(local)), **rank}


def _skip_module(words: list[str], launcher: Launcher) -> tuple[list[str], str]:
    """Return the words after ``-m MODULE`` and the module, without the flags of python before it."""
    for at, word in enumerate(words[:-1]):
        if word == "-m" and words[at + 1] in launcher.modules:
            return words[at + 2 :], words[at + 1]
    return words, ""


def _read_options(words: list[str], launcher: Launcher) -> tuple[dict[str, str], list[str]]:
    """Return the options before the script by their common names, and the script with its arguments."""
    found: dict[str, str] = {}
    words = list(words)
    while words and words[0].startswith("-") and words[0] != "--":
        found.update(_take_option(words, launcher))
    if words and words[0] == "--":
        words.pop(0)
    return found, words


def _read_all_options(words: list[str], launcher: Launcher) -> tuple[dict[str, str], list[str]]:
    """Return the options at any place by their common names, and all words."""
    found: dict[str, str] = {}
    left = list(words)
    while left:
        if left[0].startswith("-"):
            found.update(_take_option(left, launcher))
        else:
            left.pop(0)
    return found, words


def _take_option(words: list[str], launcher: Launcher) -> dict[str, str]:
    """Remove the first option and its value from ``words``; return it by its common name, or {} if it has none.

    argparse accepts the beginning of a flag. A flag that the table lacks has no value if the next word is a flag or a
    script.
    """
    names = {flag.replace("-", "_"): name for flag, name in launcher.names.items()}
    switches = {flag.replace("-", "_") for flag in launcher.switches}
    flag, equals, value = words.pop(0).lstrip("-").partition("=")
    flag = _SHORT.get(flag, flag.replace("-", "_"))
    if flag not in names and flag not in switches and len(flag) > 3:
        meant = {name: full for full, name in names.items() if full.startswith(flag)}
        flag = next(iter(meant.values())) if len(meant) == 1 else flag
    if not equals and flag not in switches and words:
        is_value = flag in names or not (_FLAG.match(words[0]) or words[0].endswith(".py"))
        value = words.pop(0) if is_value else ""
    return {names[flag]: value} if flag in names else {}


def explain_single_host(call: LauncherCall, gpus: int) -> str:
    """Return why a call that names all hosts starts a group of this host alone; "" if it does not.

    axolotl can start a plain process. LLaMA-Factory uses torchrun only if it is forced to or sees several GPUs. accelerate starts one plain process
    without a kind of group, unless it sees several GPUs.
    """
    options = call.options
    if call.launcher.program == "llamafactory-cli":
        forced = any(options.get(name, "").lower() in _TRUE for name in ("forced", "forced_too", "by_ray"))
        return "" if forced or gpus > 1 else "no FORCE_TORCHRUN=1, so that it starts one process without a group"
    if call.launcher.rules == "python":
        return "--launcher python, so that it starts one process without a group"
    if call.launcher.rules == "accelerate" and not call.has_built_in_file:
        kinds = [
            name for name in ("multi_gpu", "use_deepspeed", "use_fsdp", "use_megatron_lm", "tpu") if name in options
        ]
        if kinds or gpus > 1 or options.get("kind", "NO").strip("'\"").upper() != "NO":
            return ""
        return "no --multi_gpu, so that it starts one process without a group"
    return ""


def starts_all_hosts(call: LauncherCall) -> bool:
    """Return whether accelerate would start DeepSpeed's runner, which logs in to all hosts by itself."""
    options = call.options
    uses = "use_deepspeed" in options or options.get("kind", "").strip("'\"").upper() == "DEEPSPEED"
    return call.launcher.rules == "accelerate" and uses and options.get("by", "pdsh") not in ("standard", "nossh")
