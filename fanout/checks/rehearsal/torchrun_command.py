"""torchrun parser: read a torchrun command line as torchrun does, with the options from PET_* variables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_FLAGS = {"standalone", "m", "module", "no_python", "run_path", "use_env", "virtual_local_rank"}
_SHORT = {"r": "redirects", "t": "tee"}
_DEFAULTS = {"nnodes": "1", "node_rank": "0", "nproc_per_node": "1", "rdzv_backend": "static"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchrunCall:
    """Parsed call of torchrun: ``script`` is the program that it starts ("" if none), ``words`` are its arguments."""

    options: Mapping[str, str]
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
    def is_static(self) -> bool:
        """Return whether ranks come from the command line and not from the rendezvous."""
        return self.options["rdzv_backend"] == "static"

    @property
    def endpoint(self) -> tuple[str, str]:
        """(address, port) of the rendezvous; the port may be ""."""
        meeting = self.options.get("rdzv_endpoint", "")
        if meeting:
            host, colon, port = meeting.rpartition(":")
            return (host, port) if colon and port.isdigit() else (meeting, "")
        return self.options.get("master_addr", "127.0.0.1"), self.options.get("master_port", "29500")


def parse_torchrun_call(argv: Sequence[str], env: Mapping[str, str]) -> TorchrunCall:
    """Parse ``argv`` without the program's name; skip ``-m torch.distributed.run`` and the flags of python before it."""
    words = list(argv)
    for at, word in enumerate(words[:-1]):
        if word == "-m" and words[at + 1].startswith("torch.distributed."):
            words = words[at + 2 :]
            break
    options = {name[4:].lower(): value for name, value in env.items() if name.startswith("PET_")}
    while words and words[0].startswith("-") and words[0] != "--":
        name, equals, value = words.pop(0).lstrip("-").partition("=")
        name = _SHORT.get(name, name.replace("-", "_"))
        if not equals and name not in _FLAGS and words:
            value = words.pop(0)
        options[name] = value
    if words and words[0] == "--":
        words.pop(0)
    return TorchrunCall(options={**_DEFAULTS, **options}, script=words[0] if words else "", words=tuple(words[1:]))
