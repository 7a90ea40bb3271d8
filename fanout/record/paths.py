"""File names: map hosts and streams to log file names, in the same way for the writer and the reader. Pure."""

from __future__ import annotations


class LogFileNames:
    """File names of the streams of a run, unique also on a case-insensitive disk.

    A host cannot choose a harmful name: special characters are written as ``%2F``, and no name begins with a dot.
    """

    def __init__(self, hosts: tuple[str, ...]) -> None:
        self._taken: set[str] = set()
        self._names: dict[tuple[str, int], str] = {}
        for host in hosts:
            self._names[host, 0] = self._make_unique(encode_name(host))

    def get_path(self, host: str, stream: int) -> str:
        """Return the file of a stream, relative to the run directory."""
        if (host, stream) not in self._names:
            self.set_name(host, stream, "" if stream == 0 else f"stream {stream}")
        return f"logs/{self._names[host, stream]}.log"

    def set_name(self, host: str, stream: int, name: str) -> None:
        """Set the name of a stream; later calls for the same stream have no effect."""
        if (host, stream) not in self._names:
            self._names[host, stream] = self._make_unique(
                f"{encode_name(host)}.{encode_name(name)}" if name else encode_name(host)
            )

    def _make_unique(self, wanted: str) -> str:
        name, number = wanted, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{wanted}~{number}"
        self._taken.add(name.casefold())
        return name


def encode_name(name: str) -> str:
    """Encode a name as part of a file name: ``rank 5`` -> ``rank-5``, ``../x`` -> ``%2E.%2Fx``."""
    plain = "".join(char if _is_plain(char) else _percent_encode(char) for char in name.replace(" ", "-"))
    if plain.startswith("."):
        plain = "%2E" + plain[1:]
    return plain[:100] or "%"


def _is_plain(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char in "._-@[]+,=")


def _percent_encode(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))
