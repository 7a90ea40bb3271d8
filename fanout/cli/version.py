"""Text of ``fanout --version``: the version, the files that it comes from, and what does not belong to them."""

from __future__ import annotations

import os
from importlib import metadata

import fanout

DISTRIBUTION = "fanout-launcher"
OTHER = "fanout"  # a library of Fanout.io on PyPI; its only module has our name


def describe_version() -> str:
    """Return the version and the directory of the module, and a warning for each trace of another installation."""
    directory = os.path.dirname(os.path.abspath(fanout.__file__))
    lines = [f"fanout {fanout.__version__} ({directory})"]
    lines += [f"warning: {text}" for text in _list_warnings(directory)]
    return "".join(f"{line}\n" for line in lines)


def _list_warnings(directory: str) -> list[str]:
    warnings = []
    installed = _find_version(DISTRIBUTION)
    if installed and installed != fanout.__version__:
        warnings.append(
            f"{DISTRIBUTION} {installed} is installed, but Python imports version {fanout.__version__} from {directory}; "
            f"python -m pip install --force-reinstall {DISTRIBUTION}"
        )
    try:
        other = metadata.distribution(OTHER)
    except metadata.PackageNotFoundError:
        return warnings
    if any(str(path) == "fanout.py" for path in other.files or ()):
        warnings.append(
            f"the package {OTHER} {other.version} is installed too. It is another project with a module of the same name; "
            f"python -m pip uninstall {OTHER}"
        )
    return warnings


def _find_version(name: str) -> str:
    """Return the version of an installed distribution, "" if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
