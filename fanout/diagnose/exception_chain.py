"""Exceptions of one traceback: which one counts, which library raised it, and what follows in the chain. No I/O.

An exception that a library of communication raised may be the cause, or the consequence of another rank's failure. An
exception that Python raised while it handled another may be the real one: a missing key is often expected.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from fanout.diagnose.evidence import LogMatch
from fanout.diagnose.signatures import GENERIC, SignatureSet, fill_template
from fanout.diagnose.tracebacks import HEAD
from fanout.model.frozen import frozen

_FRAME = re.compile(r'\s*File "(?P<path>[^"]{1,1024})", line \d{1,9}(?:, in (?P<name>.{1,200}))?')
_LINK = re.compile(r"During handling of the above exception|The above exception was the direct cause")
_STANDARD = re.compile(r"/lib(?:64)?/python\d[^/]{0,8}/(?!(?:site|dist)-packages/)|^<frozen ")
#: Packages that raise errors of other processes: communication, and launchers of remote work.
_COMMUNICATION = re.compile(
    r"(?:^|[/.])(?:torch/distributed(?!/(?:run|launch|argparse_util)\.py)|torch/cuda/nccl|torch/_C/_distributed\w*|deepspeed/(?:comm|launcher|runtime/pipe)|"
    r"accelerate|mpi4py|horovod|ray|byteps|bagua|hivemind|oneccl_bindings_for_pytorch|torch_npu/(?:distributed|npu/distributed)|"
    r"torch_xla/(?:core|distributed)|jax/_src/distributed|colossalai/(?:cluster|legacy/communication)|megatron/core/"
    r"(?:parallel_state|pipeline_parallel/p2p_communication|tensor_parallel/mappings)|grpc|zmq|etcd3?|redis|"
    r"multiprocessing/(?:connection|context|managers|resource_sharer))(?=[/.])"
)
#: Exceptions of a connection that another process closed; the numbers are those of errors of the network.
_CONNECTION = re.compile(
    r"(?:\w+\.)*(?:EOFError\s*$|queue\.Empty|IncompleteReadError\b|Connection(?:Reset|Aborted|Refused)?Error\b|BrokenPipeError\b)|"
    r"(?:OSError|IOError|socket\.error): \[Errno (?:32|10[0-8]|11[0-3])\]"
)
#: A server with a public name is no part of the run: the rank that does not reach it failed by itself.
_PUBLIC_SERVER = re.compile(r"ConnectionPool\(host='(?P<server>[\w.-]{1,253}\.(?:com|org|net|co|io|ai|cn|dev))'")
#: Signatures that state the end of a helper process; the connection to it failed before.
_HELPER_ENDS = ("loader-killed", "loader-shm")
_HELPERS = re.compile(r"(?:^|/)(?:multiprocessing|concurrent/futures)/")
#: Code whose connections lead only to processes that the rank started on its host: pipes and local sockets.
_LOCAL_HELPERS = re.compile(
    r"(?:^|/)(?:torch/utils/data/|multiprocessing/(?:queues|pool|reductions|resource_sharer)\.py|concurrent/futures/process\.py)"
)
_PIPES = re.compile(r"(?:^|/)(?<!elastic/)multiprocessing/\w+\.py$")
_AGENT = "torch/distributed/elastic/"  # torchrun's own code
#: Exceptions that programs expect and handle: a look-up that fails, an optional package or file.
_EXPECTED = re.compile(
    r"^(?:\w+\.)*(?:KeyError|IndexError|AttributeError|StopIteration|Empty|ImportError|ModuleNotFoundError|FileNotFoundError|"
    r"NotImplementedError)\b"
)


@frozen
class ChainedException:
    """One exception of a traceback: its text, the frames above it (outermost first), and how it follows the one before."""

    text: str
    frames: tuple[tuple[str, str], ...]  # file, function
    while_handling: bool = False

    @property
    def raiser(self) -> str:
        """Return the file of the innermost frame outside of the standard library, else of the innermost frame."""
        paths = [path for path, _ in self.frames]
        return next((path for path in reversed(paths) if not _STANDARD.search(path)), paths[-1] if paths else "")

    @property
    def is_communication(self) -> bool:
        """Return whether a library of communication raised or defines it, or a connection between processes failed."""
        innermost = self.frames[-1][0] if self.frames else ""
        kind = self.text.partition(":")[0].strip().replace(".", "/")
        return bool(
            _COMMUNICATION.search(self.raiser)
            or _COMMUNICATION.search(innermost)
            or _COMMUNICATION.search(kind)
            or _CONNECTION.match(self.text)
        )

    @property
    def is_of_helper(self) -> bool:
        """Return whether Python raised it on a connection to a helper process of the rank."""
        return any(_HELPERS.search(path) for path, _ in self.frames)

    @property
    def is_lost_helper(self) -> bool:
        """Return whether the rank lost the connection to a process that it had started on its own host."""
        if not self.frames or not _PIPES.search(self.frames[-1][0]) or not _CONNECTION.match(self.text):
            return False  # a data set may itself read from a server
        return any(_LOCAL_HELPERS.search(path) for path, _ in self.frames)

    @property
    def is_exit_barrier(self) -> bool:
        """Return whether torchrun raised it while it waited for the other hosts at its end."""
        return any(_AGENT in path and name.strip() == "_exit_barrier" for path, name in self.frames)


def split_chain(lines: Sequence[str]) -> tuple[ChainedException, ...]:
    """Return the exceptions of a traceback in the order of its lines."""
    found: list[ChainedException] = []
    frames: list[tuple[str, str]] = []
    handling, inside = False, False
    for line in lines:
        link = _LINK.search(line)
        frame = _FRAME.match(line)
        if HEAD in line:
            frames, inside = [], True
        elif link is not None:
            handling, inside = link[0].startswith("During"), False
        elif frame is not None and inside:
            frames.append((frame["path"], frame["name"] or "<module>"))
        elif inside and line[:1] not in (" ", "\t", ""):
            found.append(ChainedException(text=line, frames=tuple(frames), while_handling=handling))
            handling, inside = False, False
    return tuple(found)


def assess_chain(seen: LogMatch, lines: Sequence[str], book: SignatureSet) -> LogMatch:
    """Return the match of an exception with the role that its whole traceback shows."""
    chain = split_chain(lines)
    first = next((number for number, each in enumerate(chain) if each.text.strip() == seen.text), None)
    if first is None:
        return seen
    counts, *later = chain[first:]
    server = _PUBLIC_SERVER.search(seen.text) if seen.signature in (GENERIC, "peer-trouble") else None
    if server is not None:
        advice = f"check the network and the proxy of this host: curl -I https://{server['server']}"
        return replace(seen, signature=GENERIC, role="root", advice=advice)
    if counts.is_exit_barrier and seen.role in ("root", "either"):
        return replace(
            seen, role="victim", kind="closed", says="lost the other hosts while its torchrun waited for their end"
        )
    for each in later:
        if not each.while_handling:
            break
        assessed = _match_exception(seen, each, book)
        if assessed.signature in _HELPER_ENDS and counts.is_of_helper:
            return assessed
        if seen.role != "root" or assessed.role not in ("victim", "either"):
            continue
        return assessed if _EXPECTED.match(seen.text) else replace(seen, followed=True)
    if counts.is_lost_helper and seen.signature in (GENERIC, "peer-trouble"):
        return replace(
            seen, signature="helper-lost", role="either", kind="end", says=_LOST_HELPER, advice=_LOOK_AT_HELPER
        )
    if seen.signature == GENERIC and seen.role == "root" and counts.is_communication:
        return replace(seen, role="either", advice=_ADVICE)
    return seen


_LOST_HELPER = "lost the connection to a process that it had started on its host, such as a data loader worker"
_LOOK_AT_HELPER = "dmesg -T | grep -i 'killed process'; use num_workers=0 to see an error of the worker itself"
_ADVICE = (
    "a library of communication raised it: this rank may be the first to fail, or the first to notice another failure"
)


def _match_exception(seen: LogMatch, exception: ChainedException, book: SignatureSet) -> LogMatch:
    """Return the match with another exception of its chain."""
    found = book.match_exception(exception.text)
    if found is None or found[0].role == "noise":
        return seen
    signature, fields = found
    role = "either" if signature.id == GENERIC and exception.is_communication else signature.role
    return replace(
        seen,
        signature=signature.id,
        role=role,
        kind=signature.kind,
        fields=fields,
        text=exception.text.strip(),
        says=fill_template(signature.says, fields),
        advice=fill_template(signature.advice, fields),
    )
