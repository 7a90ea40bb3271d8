"""Task of `fanout demo`: train a small model on several hosts with the standard library alone.

    task.py hello                    each rank prints where it runs, and all ranks add up their numbers
    task.py train [--fail KIND]      data-parallel training; KIND makes the last rank fail
    task.py train --timeout SECONDS  a rank fails if another one is silent for so long

The ranks exchange gradients over TCP, as torch.distributed does: rank 0 listens on MASTER_ADDR:MASTER_PORT.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import resource
import signal
import socket
import struct
import sys
import time
from typing import Any

RANK, SIZE = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
HOST = os.environ.get("FANOUT_HOST_ID") or socket.gethostname()
KINDS = ("oom", "hang", "import", "lost-host")
STEPS, STEP_SECONDS, FAIL_STEP = 60, 0.1, 15
TRUE_WEIGHTS = (3.0, -2.0, 0.5, 1.0)
BATCH, LEARNING_RATE = 64, 0.1
JOIN_SECONDS = 60.0
MEMORY_LIMIT = 512 << 20  # bytes of address space of the rank that runs out of memory
SWITCH = "power-switch"


class ProcessGroup:
    """Connections between rank 0 and all other ranks."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        address = (os.environ.get("MASTER_ADDR", "127.0.0.1"), int(os.environ.get("MASTER_PORT", "29500")))
        self.peers: list[socket.socket] = []
        if SIZE == 1:
            return
        if RANK == 0:
            with socket.create_server(address, backlog=SIZE) as listener:
                listener.settimeout(JOIN_SECONDS)
                self.peers = [listener.accept()[0] for _ in range(SIZE - 1)]
        else:
            self.peers = [connect_to_master(address)]

    def all_reduce(self, values: list[float]) -> list[float]:
        """Return the sum of the values over all ranks."""
        if RANK:
            send_values(self.peers[0], values)
            return receive_values(self.peers[0], len(values), self.timeout)
        parts = [values, *(receive_values(peer, len(values), self.timeout) for peer in self.peers)]
        total = [sum(column) for column in zip(*parts)]
        for peer in self.peers:
            send_values(peer, total)
        return total


def connect_to_master(address: tuple[str, int]) -> socket.socket:
    """Connect to rank 0, which may start later."""
    deadline = time.monotonic() + JOIN_SECONDS
    source = (HOST, 0) if HOST.startswith("127.") else None  # so that messages name the simulated host
    while True:
        try:
            return socket.create_connection(address, JOIN_SECONDS, source)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def send_values(peer: socket.socket, values: list[float]) -> None:
    peer.sendall(struct.pack(f"!{len(values)}d", *values))


def receive_values(peer: socket.socket, count: int, timeout: float) -> list[float]:
    peer.settimeout(timeout)
    data = b""
    while len(data) < 8 * count:
        try:
            part = peer.recv(8 * count - len(data))
        except socket.timeout:
            raise TimeoutError(f"Timed out waiting {timeout * 1000:.0f}ms for recv operation to complete") from None
        if not part:
            host, port = peer.getpeername()[:2]
            raise ConnectionError(f"Connection closed by peer [{host}]:{port}")
        data += part
    return list(struct.unpack(f"!{count}d", data))


def load_batch(generator: random.Random, step: int, fails: str) -> list[Any]:
    """Return the inputs and targets of one step. If this rank ``fails``, it does so at FAIL_STEP."""
    batch = []
    if step == FAIL_STEP and fails == "oom":
        batch += hold_memory()
    elif step == FAIL_STEP and fails == "hang":
        batch += queue.Queue().get()  # its worker never puts a batch into the queue
    elif step == FAIL_STEP and fails == "import":
        import demo_missing_module

        batch += demo_missing_module.load_batch()
    elif step == FAIL_STEP and fails == "lost-host":
        switch_off_host()
    for _ in range(BATCH):
        inputs = [generator.gauss(0, 1) for _ in TRUE_WEIGHTS]
        noise = generator.gauss(0, 0.3)
        batch.append((inputs, sum(w * x for w, x in zip(TRUE_WEIGHTS, inputs)) + noise))
    return batch


def hold_memory() -> list[Any]:
    """Allocate memory until the system refuses it."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY or most > MEMORY_LIMIT:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, most))
    pieces = [bytearray(MEMORY_LIMIT // 8) for _ in range(8)]
    return [*pieces, bytearray(1 << 60)]  # macOS ignores the limit, and refuses this size


def switch_off_host() -> None:
    """Ask the demo to disconnect this host. Its network has failed, so this rank reaches no other rank."""
    switch = os.open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", SWITCH), os.O_WRONLY)
    os.write(switch, HOST.encode())
    while True:
        signal.pause()


def compute_gradient(weights: list[float], batch: list[tuple[list[float], float]]) -> tuple[float, list[float]]:
    """Return the summed loss of the batch, and its gradient."""
    loss, gradient = 0.0, [0.0] * len(weights)
    for inputs, target in batch:
        error = sum(w * x for w, x in zip(weights, inputs)) - target
        loss += error * error
        for index, value in enumerate(inputs):
            gradient[index] += 2 * error * value
    return loss, gradient


def train(group: ProcessGroup, fails: str) -> None:
    """Train the weights; all ranks apply the mean gradient of all ranks."""
    generator, weights = random.Random(RANK), [0.0] * len(TRUE_WEIGHTS)
    for step in range(1, STEPS + 1):
        batch = load_batch(generator, step, fails)
        loss, gradient = compute_gradient(weights, batch)
        total, *summed = group.all_reduce([loss, *gradient])
        weights = [w - LEARNING_RATE * g / (BATCH * SIZE) for w, g in zip(weights, summed)]
        time.sleep(STEP_SECONDS)
        if step == 1 or step % 5 == 0:
            print(f"step {step}/{STEPS} loss {total / (BATCH * SIZE):.4f}", flush=True)


def greet(group: ProcessGroup) -> bool:
    """Print where this rank runs; return whether the sum over all ranks is right."""
    where = f"MASTER_ADDR={os.environ.get('MASTER_ADDR')} MASTER_PORT={os.environ.get('MASTER_PORT')}"
    print(f"hello from rank {RANK} of {SIZE} on {HOST}, pid {os.getpid()}: {where}", flush=True)
    total = group.all_reduce([float(RANK), 1.0])
    expected = [SIZE * (SIZE - 1) / 2, float(SIZE)]
    if RANK == 0:
        word = "right" if total == expected else "WRONG"
        print(f"the sum of all ranks is {total[0]:.0f} over {total[1]:.0f} ranks: {word}", flush=True)
    return total == expected


def main(arguments: list[str]) -> int:
    """Run the task; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=["hello", "train"])
    parser.add_argument("--fail", choices=KINDS, default="")
    parser.add_argument("--timeout", type=float, default=120.0)
    options = parser.parse_args(arguments)
    group = ProcessGroup(options.timeout)
    if options.job == "hello":
        return 0 if greet(group) else 1
    train(group, options.fail if RANK == SIZE - 1 else "")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
