"""Words of a command line that are certainly not HOSTS, by their names alone. Pure."""

from __future__ import annotations

PROGRAM_ENDINGS = (".py", ".pyw", ".sh", ".bash", ".zsh", ".ipynb")
CONFIG_ENDINGS = (".yaml", ".yml", ".json", ".toml")


def is_program_name(word: str) -> bool:
    """Return whether the word is the path of a program, so that it stands for the task and not for HOSTS."""
    return word.lower().endswith(PROGRAM_ENDINGS)


def is_config_name(word: str) -> bool:
    """Return whether the word is the path of a config. A hostfile may have such a name too."""
    return word.lower().endswith(CONFIG_ENDINGS)
