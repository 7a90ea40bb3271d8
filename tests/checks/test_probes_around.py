"""Probes of a run's surroundings: InfiniBand ports, services, links between GPUs, NCCL RAS."""

from __future__ import annotations

import json
import mmap
import os
import socket
import threading
from pathlib import Path

import pytest

from fanout.agent.probes import created_containers, gpu_topology, rdma, services, shared_dir
from fanout.agent.probes import files as probes_files
from fanout.agent.probes.probe_tools import FactUnavailable, ToolProcess
from tests.processes import join_threads

MATRIX = (
    "\t\x1b[4mGPU0\tGPU1\tGPU2\tNIC0\tCPU Affinity\x1b[0m\n"
    "GPU0\t X \tNV18\tSYS\tPIX\t0-47\nGPU1\tNV18\t X \tSYS\tSYS\t0-47\nGPU2\tSYS\tSYS\t X \tSYS\t48-95\n"
    "NIC0\tPIX\tSYS\tSYS\t X\n\nLegend:\n\n  X    = Self\n"
)


def write_port(root: Path, device: str, **files: str) -> Path:
    """Write a port as the kernel shows it; ``counters__link_downed="3"`` is the file counters/link_downed."""
    folder = root / device / "ports" / "1"
    for name, text in {"state": "4: ACTIVE", "rate": "100 Gb/sec", "link_layer": "InfiniBand", **files}.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return folder


def test_only_counters_that_grew_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier errors do not count, and a new port has no earlier count."""
    monkeypatch.setattr(rdma, "ROOT", str(tmp_path))
    folder = write_port(tmp_path, "mlx5_0", counters__link_downed="3", counters__symbol_error="0")
    before = rdma.read_counters()
    assert before == {"mlx5_0/1": {"link_downed": 3, "symbol_error": 0}}
    assert rdma.find_grown(before) == []
    (folder / "counters" / "symbol_error").write_text("44\n")
    write_port(tmp_path, "mlx5_1", counters__link_downed="9")
    assert rdma.find_grown(before) == [{"port": "mlx5_0/1", "counter": "symbol_error", "more": 44}]
    assert rdma.find_grown(None) == rdma.find_grown("nonsense") == []


def test_addresses_in_use_are_reported_with_their_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their index is the one of NCCL_IB_GID_INDEX; empty entries are ignored."""
    monkeypatch.setattr(rdma, "ROOT", str(tmp_path))
    files = {"gids__0": "fe80:0000:0000:0000:0202:c9ff:fe00:0001", "gid_attrs__types__0": "IB/RoCE v1"}
    files |= {"gids__1": "0000:0000:0000:0000:0000:0000:0000:0000", "gid_attrs__types__1": "IB/RoCE v1"}
    files |= {"gids__3": "0000:0000:0000:0000:0000:ffff:0a4d:0001", "gid_attrs__types__3": "RoCE v2"}
    write_port(tmp_path, "mlx5_0", link_layer="Ethernet", **files)
    (row,) = rdma.list_ports({})
    assert row["gids"] == {"0": "IB/RoCE v1 link-local", "3": "RoCE v2 IPv4"}
    assert (row["state"], row["link"]) == ("ACTIVE", "Ethernet")


@pytest.mark.process
@pytest.mark.parametrize(
    ("text", "count", "pairs"),
    [
        (MATRIX, 3, {"NV18": 1, "SYS": 2}),
        (MATRIX, 4, {}),
        ("Unable to determine the link topology.\n", 3, {}),
        (" \tGPU0\tGPU1\nGPU0\tX\tCNS\nGPU1\tCNS\tX\n", 2, {"CNS": 1}),
    ],
)
def test_links_are_counted_by_pair(text: str, count: int, pairs: dict[str, int]) -> None:
    """Other columns of the matrix (cards, processors) are ignored; without all GPUs there is no result."""
    program = ToolProcess(["printf", "%s", text], {"PATH": "/usr/bin:/bin"}, 5.0)
    assert gpu_topology.count_links({"paths": program}, count) == {"paths": pairs}


def read_services(folder: Path, monkeypatch: pytest.MonkeyPatch, units: str, synchronised: str) -> dict[str, object]:
    """Return what is reported if systemd runs and these units are active."""
    for name, text in (
        ("systemctl", f"shift; for u; do case $u in {units}) echo active ;; *) echo inactive ;; esac; done; exit 3"),
        ("timedatectl", f"echo {synchronised}"),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(services, "BOOTED", str(folder))
    return services.finish_query(services.start_query({}))


@pytest.mark.process
def test_active_services_are_grouped_by_their_purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock's state is that of timedatectl; an unknown value is no answer."""
    services = read_services(tmp_path, monkeypatch, "firewalld|chrony|earlyoom", "no")
    assert services == {"firewall": ["firewalld"], "time": ["chrony"], "killer": ["earlyoom"], "synchronised": False}
    assert read_services(tmp_path, monkeypatch, "none", "Unknown command verb show.")["synchronised"] is None


def test_shared_memory_that_is_mapped_new_or_unknown_is_not_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only segments that training creates, that are old, and that no process of ours has mapped are stale."""
    monkeypatch.setattr(probes_files, "_SHM", str(tmp_path))
    for name in ("nccl-old", "nccl-new", "torch_mapped", "mine.db"):
        (tmp_path / name).write_bytes(bytes(8192))
        if name != "nccl-new":
            os.utime(tmp_path / name, (1.0, 1.0))
    with open(tmp_path / "torch_mapped", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        found = probes_files.find_shared_memory({})
    assert found == [{"path": str(tmp_path / "nccl-old"), "bytes": 8192}]


@pytest.mark.process
def test_without_systemd_systemctl_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container that is the reason; a systemctl that fails is a reason too, not a host without services."""
    monkeypatch.setattr(services, "BOOTED", str(tmp_path / "nowhere"))
    with pytest.raises(FactUnavailable, match="no systemd"):
        services.start_query({})
    (tmp_path / "x").mkdir()
    with pytest.raises(FactUnavailable, match="Failed to connect"):
        read_services(tmp_path / "x", monkeypatch, "*) echo Failed to connect to bus; exit 1 ;; none", "yes")


@pytest.mark.process
def test_a_ras_service_is_read_within_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that answers and never closes costs only its timeout; without a listener there is no job."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        monkeypatch.setattr(services, "RAS_PORT", door.getsockname()[1])
        guests = []

        def serve_client() -> None:
            guests.append(door.accept()[0])
            guests[0].sendall(b"NCCL version 2.27.5\n")

        thread = threading.Thread(target=serve_client)
        thread.start()
        assert services.query_ras(0.3) == ["NCCL version 2.27.5"]
        join_threads(thread)
        guests[0].close()
    assert services.query_other_job({}) == []


def test_only_tokens_of_a_check_are_deleted(tmp_path: Path) -> None:
    """A check that lost its host left tokens; other files with such names belong to the user."""
    stale, mine, link = (tmp_path / f".fanout-check-{name}" for name in ("00ff", "notes", "link"))
    for folder, token in ((stale, "00ff"), (mine, "text of the user")):
        folder.mkdir()
        (folder / "0").write_text(token)
    (mine / "results.csv").write_text("1,2\n")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "1").write_text("link")
    link.symlink_to(tmp_path / "target")
    for path in (stale, mine, tmp_path / "target"):
        os.utime(path, (1.0, 1.0))
    shared_dir._remove_stale_tokens(str(tmp_path))
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {".fanout-check-notes/0", ".fanout-check-notes/results.csv", "target/1"}
    assert not stale.exists()


def test_a_mount_point_with_bytes_that_the_kernel_escapes_is_found(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        r"57 22 0:52 / /data/a\040b\134c\011d rw,nosuid - nfs4 nas:/export\040one rw,vers=4.2" + "\n"
    )
    found = probes_files.find_mount("/data/a b\\c\td/run", str(table))
    assert (found["point"], found["source"], found["type"]) == ("/data/a b\\c\td", "nas:/export one", "nfs4")
    assert probes_files.find_mount("/data/a b", str(table))["type"] == "ext4"


@pytest.mark.parametrize(
    ("uid", "names", "expected"), [(0, None, True), (7, None, False), (7, "work", False), (7, "fanout-r1", True)]
)
def test_podman_of_a_user_is_only_started_if_it_has_a_container_of_fanout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, names: str | None, expected: bool
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    if names is not None:
        storage = tmp_path / "containers" / "storage" / "overlay-containers"
        storage.mkdir(parents=True)
        (storage / "containers.json").write_text(json.dumps([{"id": "0b", "names": [names], "image": "9f"}]))
    assert created_containers.may_have_container() == expected
