"""Words of the task: programs, configs and modules, recognized by their names alone. Pure."""

from __future__ import annotations

TYPE_CHECKING = False  # a help page must not pay for typing
if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM_ENDINGS = (".py", ".pyw", ".sh", ".bash", ".zsh", ".ipynb")
CONFIG_ENDINGS = (".yaml", ".yml", ".json", ".toml")

MODULE_FLAGS = ("-m", "--module")


def get_module(task: Sequence[str]) -> str:
    """Return the module of a task ``-m MODULE [ARG…]``; "" if the task is a file."""
    return task[1] if len(task) > 1 and task[0] == MODULE_FLAGS[0] else ""


def get_program(task: Sequence[str]) -> str:
    """Return the file or the module of a task."""
    return get_module(task) or task[0]


def get_arguments(task: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments of a task, without its file or module."""
    return tuple(task[2 if get_module(task) else 1 :])


def is_program_name(word: str) -> bool:
    """Return whether the word is the path of a program, so that it stands for the task and not for HOSTS."""
    return word.lower().endswith(PROGRAM_ENDINGS)


def is_config_name(word: str) -> bool:
    """Return whether the word is the path of a config. A hostfile may have such a name too."""
    return word.lower().endswith(CONFIG_ENDINGS)
