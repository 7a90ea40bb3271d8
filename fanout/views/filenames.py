"""Names of hosts and streams as names of files, the same for who writes a run's record and who reads it. Pure."""

from __future__ import annotations


class FileNames:
    """Names of hosts and streams as names of files: unique also where the disk knows no upper and lower case.

    A host decides its name nowhere: what is not plain in it is written as ``%2F``, and it never begins with a dot.
    """

    def __init__(self, hosts: tuple[str, ...]) -> None:
        self._taken: set[str] = set()
        self._names: dict[tuple[str, int], str] = {}
        for host in hosts:
            self._names[host, 0] = self._free(safe(host))

    def of(self, host: str, stream: int) -> str:
        """The file of a stream, relative to the run's directory."""
        if (host, stream) not in self._names:
            self.name(host, stream, "" if stream == 0 else f"stream {stream}")
        return f"logs/{self._names[host, stream]}.log"

    def name(self, host: str, stream: int, name: str) -> None:
        """Give a stream its name; the first name that it gets stays."""
        if (host, stream) not in self._names:
            self._names[host, stream] = self._free(f"{safe(host)}.{safe(name)}" if name else safe(host))

    def _free(self, wanted: str) -> str:
        name, number = wanted, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{wanted}~{number}"
        self._taken.add(name.casefold())
        return name


def safe(name: str) -> str:
    """A name as part of a file name: ``rank 5`` -> ``rank-5``, ``../x`` -> ``%2E.%2Fx``."""
    plain = "".join(char if _is_plain(char) else _percent(char) for char in name.replace(" ", "-"))
    if plain.startswith("."):
        plain = "%2E" + plain[1:]
    return plain[:100] or "%"


def _is_plain(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char in "._-@[]+,=")


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))
