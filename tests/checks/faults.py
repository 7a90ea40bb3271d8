"""Every fault that a check knows, as recorded facts: what is wrong, and what exactly one check must say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fanout.checks.model import Case, Level, PortTest, Unreachable
from tests.checks.kit import a_file, changed, healthy_case, hosts, missing_file, played, without

Change = Callable[[Case], Case]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong, and what exactly one check must say of it."""

    check: str
    level: Level
    change: Change
    hosts: tuple[str, ...] = ("gpu03",)
    saw: str = ""
    advice: str = ""
    label: str = ""

    @property
    def id(self) -> str:
        return f"{self.check}{'-' if self.label else ''}{self.label}"


def fact(path: str, value: Any, host: str = "gpu03") -> Change:
    return lambda case: changed(case, host, path, value)


def asked(**more: Any) -> Change:
    return lambda case: replace(case, request=replace(case.request, **more))


def both(*changes: Change) -> Change:
    def apply(case: Case) -> Case:
        for change in changes:
            case = change(case)
        return case

    return apply


def unreached(case: Case) -> Case:
    trouble = Unreachable(
        message="ann@10.0.0.3:22  Permission denied (publickey).", hint="try:  ssh-copy-id ann@10.0.0.3"
    )
    return healthy_case(unreached={"gpu03": trouble})


def silent_host(case: Case) -> Case:
    broken = healthy_case(unreached={"gpu03": Unreachable(message="")})
    request = replace(broken.request, unreached={})
    return replace(
        broken, request=request, facts={**broken.facts, "gpu03": {}}, missing={"gpu03": {"": "no answer within 15 s"}}
    )  # fmt: skip


def dialled(outcome: str, **more: Any) -> Change:
    def apply(case: Case) -> Case:
        assert case.port is not None
        dials = {**case.port.dials, ("gpu03", "10.0.0.1"): {"outcome": outcome, **more}}
        return replace(case, port=replace(case.port, dials=dials, chosen=""))

    return apply


def taken(case: Case) -> Case:
    holder = {
        "uid": 1001,
        "user": "bob",
        "pid": 4711,
        "command": "python train_old.py",
        "age": 7500.0,
        "listening": True,
    }
    problem = {"error": "EADDRINUSE", "text": "Address already in use", "holder": holder}
    return replace(case, port=PortTest(port=29500, candidates=("10.0.0.1",), problem=problem))


def meshed(outcome: str, where: Callable[[str, str], bool]) -> Change:
    def apply(case: Case) -> Case:
        assert case.mesh is not None
        dials = {
            pair: {"outcome": outcome, "seconds": 3.0} if where(*pair) else dial
            for pair, dial in case.mesh.dials.items()
        }
        return replace(case, mesh=replace(case.mesh, dials=dials))

    return apply


def paced(what: str, there: float, elsewhere: float) -> Change:
    """How long it takes in the pairs of gpu03, and in all others."""

    def apply(case: Case) -> Case:
        assert case.mesh is not None
        dials = {
            pair: {**dial, what: there if "gpu03" in pair else elsewhere} for pair, dial in case.mesh.dials.items()
        }
        return replace(case, mesh=replace(case.mesh, dials=dials))

    return apply


def lossy(case: Case) -> Case:
    """What goes to gpu03 loses six in a hundred."""
    assert case.mesh is not None
    dials = {
        pair: {**dial, "sent": 200, "resent": 12 if pair[1] == "gpu03" else 0} for pair, dial in case.mesh.dials.items()
    }
    return replace(case, mesh=replace(case.mesh, dials=dials))


def process(**more: Any) -> dict[str, Any]:
    row = {
        "gpu": "GPU-5-of-gpu03",
        "pid": 41822,
        "memory": "61200",
        "command": "python old.py",
        "uid": 1,
        "user": "ann",
        "age": 3e5,
    }
    return {**row, **more}


IB = [
    {
        "port": "mlx5_0/1", "state": "ACTIVE", "rate": "400 Gb/sec", "link": "InfiniBand", "usable": True,
        "library": True, "errors": {"link_downed": 1, "symbol_error": 0}, "gids": {"0": "IB/RoCE v1 link-local"},
    }
]  # fmt: skip
DOWN = [{**IB[0], "state": "DOWN"}]
FLAPPING = [{**IB[0], "errors": {"link_downed": 4, "symbol_error": 900}}]
ROCE = [{**IB[0], "link": "Ethernet", "gids": {"0": "IB/RoCE v1 link-local", "3": "RoCE v2 IPv4"}}]
RENUMBERED = [{**ROCE[0], "gids": {"0": "IB/RoCE v1 link-local", "3": "RoCE v2 IPv6", "5": "RoCE v2 IPv4"}}]
RAS = [
    "NCCL version 2.27.5 compiled with CUDA 12.9", "", "Job summary", "===========", "",
    "  Nodes  Processes         GPUs  Processes     GPUs", "(total)   per node  per process    (total)  (total)",
    "      4          8            1         32       32",
]  # fmt: skip
VPN = {
    "name": "wg0",
    "addresses": ["10.9.0.1/24"],
    "up": True,
    "running": True,
    "loopback": False,
    "mtu": 1420,
    "speed": 0,
}


def everywhere(path: str, value: Any) -> Change:
    return both(*(fact(path, value, f"gpu{number:02}") for number in range(1, 5)))


def vpn_first(case: Case) -> Case:
    found = case.facts["gpu03"]["interfaces"]
    return changed(case, "gpu03", "interfaces", [found[0], VPN, found[1]])


def apart(name: str) -> Change:
    """Its directory is not the others'."""

    def apply(case: Case) -> Case:
        for other in case.hosts:
            seen = [name] if other == name else [host for host in case.hosts if host != name]
            case = changed(case, other, "share/hosts", seen)
        return case

    return apply


FAULTS = [
    Fault(check="reached", level="fail", change=unreached, saw="Permission denied", advice="ssh-copy-id ann@10.0.0.3"),
    Fault(check="reached", level="fail", label="silent", change=silent_host, saw="no answer within 15 s"),
    Fault(check="python", level="fail", change=fact("agent/version", [3, 6, 8]), saw="Python 3.6.8", advice="gpu03 python="),
    Fault(check="login-time", level="warn", change=asked(login_seconds={"gpu01": 0.3, "gpu02": 0.4, "gpu03": 4.2, "gpu04": 0.3}), saw="4.2 s", advice="ssh -v gpu03"),
    Fault(check="login-noise", level="info", change=asked(noise={"gpu03": "Welcome!\nnews"}), saw="'Welcome!'"),
    Fault(
        check="session", level="warn", change=both(fact("session/linger", False), asked(attached=False)),
        saw="empties /dev/shm", advice="loginctl enable-linger",
    ),
    Fault(check="session", level="info", label="attached", change=fact("session/linger", False), saw="empties /dev/shm"),
    Fault(check="same-machine", level="fail", change=fact("identity/host_id", "boot-1/net:[1]"), saw="the same machine as gpu01: gpu01 (hosts.txt:1), gpu03 (hosts.txt:3)", advice="-x gpu03"),
    Fault(check="hostname", level="warn", change=fact("identity/hostname", "gpu01"), saw="calls itself 'gpu01', as gpu01 does", advice="set-hostname"),
    Fault(check="machine-id", level="warn", change=fact("identity/machine_id", "machine-2"), saw="as gpu02"),
    Fault(check="user", level="warn", change=fact("user/uid", 1005), saw="uid 1005"),
    Fault(check="user", level="info", label="umask", change=fact("user/umask", 0o77), saw="umask 077; gpu[01-02,04] have 022"),
    Fault(check="master-port", level="fail", hosts=("gpu01",), change=taken, saw="held by pid 4711  python train_old.py  (user bob, since 2 h 05 m)", advice="ssh gpu01 kill 4711"),
    Fault(check="master-addr", level="fail", label="dropped", change=dialled("dropped", seconds=3.0), saw="a firewall drops", advice="sudo ufw allow from 10.0.0.0/16 to any port 29500"),
    Fault(check="master-addr", level="fail", label="rejected", change=dialled("rejected", text="No route to host"), saw="rejects", advice="open it on gpu01"),
    Fault(check="master-addr", level="fail", label="refused", change=dialled("refused"), saw="refused by gpu01 at 10.0.0.1:29500"),
    Fault(check="master-addr", level="fail", label="stranger", change=dialled("stranger", first="HTTP/1.1 400 Bad"), saw="(HTTP)"),
    Fault(check="master-addr", level="fail", label="impostor", change=dialled("impostor"), saw="not that of this check"),
    Fault(check="master-addr", level="fail", label="silent", change=dialled("silent"), saw="says nothing", advice="ss -ltnp"),
    Fault(check="master-addr", level="fail", label="unresolvable", change=dialled("unresolvable", text="Name or service not known"), saw="cannot resolve"),
    Fault(check="master-addr", level="fail", label="no-route", change=dialled("no-route", text="Network is unreachable"), saw="no route"),
    Fault(check="port-range", level="warn", hosts=("gpu01",), change=asked(master_port=40000), saw="32768-60999"),
    Fault(check="own-name", level="warn", change=both(fact("own_name", {"addresses": [], "error": "Name or service not known", "seconds": 0.01}), asked(env={"GLOO_SOCKET_IFNAME": "eth0"})), saw="its own name gpu03 does not resolve: Name or service not known", advice="echo '10.0.0.3 gpu03' >> /etc/hosts"),
    Fault(check="own-name", level="warn", label="alone", hosts=("gpu01",), change=lambda case: changed(healthy_case(1), "gpu01", "own_name", {"addresses": [], "error": "Temporary failure in name resolution", "seconds": 0.01}), saw="its own name gpu01 does not resolve: Temporary failure"),
    Fault(check="own-name", level="warn", label="slow", change=fact("own_name/seconds", 5.01), saw="resolving its own name gpu03 took 5.0 s"),
    Fault(check="reverse-names", level="warn", change=fact("reverse/0/seconds", 2.5), saw="2.5 s for 10.0.0.250", advice="/etc/hosts"),
    Fault(check="reverse-names", level="warn", label="silent", change=lambda case: without(case, "gpu03", "reverse", "no answer within 5 s"), saw="no answer within 5 s"),
    Fault(check="proxy", level="info", change=fact("environment", {"http_proxy": "http://p:1"}), saw="http_proxy"),
    Fault(check="mesh", level="fail", label="inward", change=meshed("dropped", lambda start, end: end == "gpu03"), saw="from gpu[01-02,04]", advice="32768:60999"),
    Fault(check="mesh", level="fail", label="outward", change=meshed("no-route", lambda start, end: start == "gpu03"), saw="to gpu[01-02,04]"),
    Fault(check="mesh", level="fail", label="pair", change=meshed("refused", lambda start, end: (start, end) == ("gpu01", "gpu03")), saw="from gpu01"),
    Fault(check="bulk", level="fail", change=meshed("stalled", lambda start, end: end == "gpu03"), saw="MTU", advice="mtu 1500"),
    Fault(check="gloo-interface", level="info", hosts=("gpu01", "gpu02", "gpu03", "gpu04"), change=fact("own_name/addresses", ["127.0.1.1"]), saw="gloo would take eth0 or lo; fanout exports GLOO_SOCKET_IFNAME=eth0"),
    Fault(check="gloo-interface", level="fail", label="syntax", change=fact("environment", {"GLOO_SOCKET_IFNAME": "^lo"}), saw="names only"),
    Fault(check="gloo-interface", level="fail", label="absent", change=fact("environment", {"GLOO_SOCKET_IFNAME": "eno1"}), saw="no such interface: lo eth0"),
    Fault(check="nccl-interface", level="info", hosts=("gpu01", "gpu02", "gpu03", "gpu04"), change=vpn_first, saw="NCCL would take eth0 or wg0; fanout exports NCCL_SOCKET_IFNAME=eth0"),
    Fault(check="nccl-interface", level="fail", label="absent", change=fact("environment", {"NCCL_SOCKET_IFNAME": "eno"}), saw="fits none"),
    Fault(check="mtu", level="warn", change=fact("interfaces/1/mtu", 1500), saw="eth0 has mtu 1500; gpu[01-02,04] have 9000"),
    Fault(check="link-speed", level="warn", change=fact("interfaces/1/speed", 100), saw="100 Mb/s"),
    Fault(check="infiniband", level="warn", change=both(everywhere("infiniband", IB), fact("infiniband", DOWN)), saw="active InfiniBand ports: none; gpu[01-02,04] have 1 (400 Gb/sec); down: mlx5_0/1"),
    Fault(check="infiniband", level="warn", label="closed", change=both(everywhere("infiniband", IB), fact("infiniband", [{**IB[0], "usable": False}])), saw="may not open", advice="usermod -aG rdma"),
    Fault(check="infiniband", level="warn", label="library", change=both(everywhere("infiniband", IB), fact("infiniband", [{**IB[0], "library": False}])), saw="libibverbs.so.1", advice="apt install libibverbs1"),
    Fault(check="ib-errors", level="info", change=both(everywhere("infiniband", IB), fact("infiniband", FLAPPING)), saw="errors since boot: mlx5_0/1 symbol_error 900, mlx5_0/1 link_downed 4; 1 is usual"),
    Fault(check="roce-gids", level="warn", change=both(everywhere("infiniband", ROCE), fact("infiniband", RENUMBERED)), saw="RoCE address (GID) 3: RoCE v2 IPv6; gpu[01-02,04] have RoCE v2 IPv4", advice="--env NCCL_IB_GID_INDEX=-1"),
    Fault(check="gpu-direct", level="info", change=both(everywhere("infiniband", IB), fact("gpu/direct", "")), saw="neither nvidia_peermem", advice="modprobe nvidia-peermem"),
    Fault(check="firewall", level="info", change=fact("services/firewall", ["firewalld"]), saw="firewall: firewalld; gpu[01-02,04] have none"),
    Fault(check="nccl-job", level="info", change=fact("ras", RAS), saw="32 processes on 4 hosts, 32 GPUs"),
    Fault(check="time-service", level="warn", change=fact("services", {"firewall": [], "time": [], "killer": [], "synchronised": False}), saw="no time service", advice="set-ntp true"),
    Fault(check="time-service", level="warn", label="unset", change=fact("services/synchronised", False), saw="chronyd runs, but", advice="chronyc sources"),
    Fault(check="oom-killer", level="warn", change=fact("services/killer", ["earlyoom", "systemd-oomd"]), saw="earlyoom is active", advice="systemctl stop earlyoom"),
    Fault(check="processes", level="warn", change=fact("limits/nproc", 2000), saw="at most 2000 processes", advice="ulimit -u"),
    Fault(check="processes", level="warn", label="cgroup", change=fact("memory/pids_cap", 512), saw="pids.max", advice="TasksMax"),
    Fault(check="stack", level="warn", change=fact("limits/stack", -1), saw="NCCL 2.27.5 does not bear", advice="ulimit -s 8192"),
    Fault(check="gpu-persistence", level="warn", change=fact("gpu/gpus/2/persistence_mode", "Disabled"), saw="GPU 2: the driver is unloaded", advice="nvidia-smi -pm 1"),
    Fault(check="gpu-links", level="warn", change=fact("gpu/links/paths", {"NV17": 7, "NV18": 21}), saw="7×NV17, 21×NV18 (peer to peer 28×OK); gpu[01-02,04] have 28×NV18", advice="topo -m"),
    Fault(check="gpu-links", level="warn", label="peers", change=fact("gpu/links/peers", {"CNS": 28}), saw="peer to peer 28×CNS"),
    Fault(check="gpu-once", level="fail", change=fact("gpu/gpus/0/uuid", "GPU-0-of-gpu01"), saw="1 GPU in common with gpu01", advice="-x gpu03"),
    Fault(check="cuda", level="warn", change=both(everywhere("gpu/driver", "470.1"), everywhere("gpu/module", "470.1"), everywhere("software/torch/cuda", "11.8"), fact("software/torch/cuda", "12.8")), saw="CUDA 12.8, which needs driver 525 or later; this is 470.1"),
    Fault(check="mount", level="warn", change=fact("files/workdir/mount/options", "rw,noexec"), saw="/ is mounted noexec", advice="remount,exec"),
    Fault(check="mount", level="warn", label="soft", change=fact("files/workdir/mount", {"type": "nfs4", "source": "nas:/home", "point": "/home", "options": "rw", "of": "rw,soft,proto=tcp"}), saw="/home (nas:/home) is mounted soft"),
    Fault(check="link-speed", level="warn", label="duplex", change=fact("interfaces/1/duplex", "half"), saw="half duplex"),
    Fault(check="link-speed", level="warn", label="broken", change=fact("interfaces/1/bad", 10**6), saw="1000000 broken packets"),
    Fault(check="environment", level="info", label="libraries", change=fact("environment", {"LD_LIBRARY_PATH": "/opt/x"}), saw="LD_LIBRARY_PATH=/opt/x; gpu[01-02,04] have LD_LIBRARY_PATH unset"),
    Fault(check="memory", level="warn", label="swapped", change=fact("memory/swap_used", 1 << 40), saw="1.0T of memory are on the swap disk"),
    Fault(check="clock", level="warn", label="ours", hosts=("gpu01", "gpu02", "gpu03", "gpu04"), change=lambda case: replace(case, offsets=dict.fromkeys(case.facts, (90.0, 0.001))), saw="this machine's clock is -90.0 s against theirs", advice="set-ntp"),
    Fault(check="nccl-files", level="warn", change=fact("residue", {"/etc/nccl.conf": "NCCL_DEBUG=INFO"}), saw="/etc/nccl.conf: 'NCCL_DEBUG=INFO'; gpu[01-02,04] have nothing"),
    Fault(check="file-server", level="fail", change=lambda case: without(case, "gpu03", "files", "no answer within 5 s (state D in nfs4_wait)"), saw="no answer within 5 s (state D in nfs4_wait)", advice="dmesg"),
    Fault(check="workdir", level="fail", change=fact("files/workdir", missing_file("/home/ann/proj")), saw="no directory /home/ann/proj (/home/ann exists)", advice="ssh gpu01 tar -C /home/ann/proj -c . | ssh gpu03 'mkdir -p /home/ann/proj && tar -C /home/ann/proj -x'"),
    Fault(check="writable", level="warn", change=fact("files/workdir/writable", False), saw="cannot write"),
    Fault(check="script", level="fail", change=fact("files/script", missing_file("/home/ann/proj/train.sh")), saw="no file"),
    Fault(check="script", level="fail", label="crlf", change=fact("files/script/crlf", True), saw="Windows line ends", advice="sed -i"),
    Fault(check="task", level="fail", change=fact("files/task", missing_file("/home/ann/proj/task.py")), saw="no file /home/ann/proj/task.py"),
    Fault(check="task", level="fail", label="unreadable", change=fact("files/task/readable", False), saw="no permission to read"),
    Fault(check="config", level="fail", change=fact("files/config", a_file("/home/ann/proj/cfg.yaml", sha="ffee00112233", size=901)), saw="differs: 901 bytes, sha256 ffee0011…; gpu[01-02,04] have 900 bytes", advice="scp -3p gpu01:/home/ann/proj/cfg.yaml gpu03:/home/ann/proj/cfg.yaml"),
    Fault(check="code", level="warn", change=fact("tree/head", "0000000"), saw="commit 0000000; gpu[01-02,04] have 4f2a9c1"),
    Fault(check="code", level="warn", label="dirty", change=fact("tree/dirty", {"a/b.py": "77"}), saw="a/b.py (only here)"),
    Fault(check="code", level="fail", label="module", change=fact("tree/empty_modules", ["VeOmni"]), saw="submodule VeOmni is empty"),
    Fault(check="shared", level="warn", change=apart("gpu03"), saw="the work directory is a directory of its own; gpu[01-02,04] share one"),
    Fault(check="shared", level="warn", label="late", change=fact("share/seconds", 2.4), saw="seen after 2 s"),
    Fault(check="data", level="fail", change=both(asked(config_values={}), everywhere("files/config:data.path", a_file("/data/x")), fact("files/config:data.path", missing_file("/data/x"))), saw="data.path: no /data/x"),
    Fault(check="output", level="fail", change=both(asked(config_values={}), everywhere("files/output:out", missing_file("/out/x")), fact("files/output:out/above", {"path": "/", "writable": False})), saw="out: cannot write in /"),
    Fault(check="space", level="warn", change=fact("space/workdir/free", 1 << 29), saw="512M free in /workdir"),
    Fault(check="shm", level="warn", change=fact("space/shm/free", 60 << 20), saw="60M free in /dev/shm"),
    Fault(check="shm-left", level="info", change=fact("segments", [{"path": "/dev/shm/nccl-x1", "bytes": 9 << 20}]), saw="1 segment of shared memory that nobody uses, 9.0M", advice="rm /dev/shm/nccl-x1"),
    Fault(check="numa", level="info", change=fact("kernel/numa_balancing", True), saw="NUMA balancing: on; gpu[01-02,04] have off"),
    Fault(check="known-bugs", level="info", label="nccl", hosts=("gpu01", "gpu02", "gpu03", "gpu04"), change=everywhere("software/packages/nvidia-nccl-cu12", "2.26.2"), saw="NCCL 2.26.2 ends where something else connects", advice="2.27.3"),
    Fault(check="known-bugs", level="warn", hosts=("gpu01", "gpu02", "gpu03", "gpu04"), change=everywhere("software/torch/version", "2.7.0+cu126"), saw="torch 2.7.0+cu126 may hang"),
    Fault(check="user", level="info", label="groups", change=fact("user/groups", [1000, 44]), saw="groups 1000 44; gpu[01-02,04] have 1000"),
    Fault(check="tmpdir", level="warn", change=fact("space/tmp/type", "nfs4"), saw="nfs4", advice="TMPDIR"),
    Fault(check="build-locks", level="warn", change=fact("locks", ["/home/ann/.cache/torch_extensions/x/lock"]), saw="x/lock", advice="rm /home"),
    Fault(check="file-times", level="warn", change=fact("files/task/ahead", 90.0), saw="90 s in the future"),
    Fault(check="bash", level="fail", change=fact("programs/found/bash", ""), saw="no bash"),
    Fault(check="venv", level="fail", change=both(fact("programs/venv/exists", False), fact("programs/elsewhere", ["/opt/v/bin/torchrun"])), saw="no virtual environment at /home/ann/venv", advice="there is one at /opt/v"),
    Fault(check="venv", level="info", label="guessed", change=both(fact("programs/venv/exists", False), asked(venv_sure=False)), saw="/home/ann/venv is not there"),
    Fault(check="torchrun", level="fail", change=both(fact("programs/found/torchrun", ""), fact("programs/elsewhere", ["/opt/v/bin/torchrun"])), saw="not on the PATH", advice="try  --venv /opt/v"),
    Fault(check="interpreter", level="fail", change=fact("software/version", [3, 10, 1]), saw="Python 3.10"),
    Fault(check="interpreter", level="info", label="patch", change=fact("software/version", [3, 11, 1]), saw="Python 3.11.1"),
    Fault(check="torch", level="fail", change=fact("software/torch/version", "2.8.0+cu128"), saw="torch 2.8.0+cu128; gpu[01-02,04] have 2.9.1+cu128", advice="pip install torch==2.9.1"),
    Fault(check="torch", level="fail", label="absent", change=fact("software/torch", {}), saw="no torch in"),
    Fault(check="packages", level="info", change=fact("software/packages/numpy", "1.0"), saw="numpy 1.0 / 2.1.0"),
    Fault(check="syntax", level="warn", change=fact("software/syntax", "line 7: invalid syntax"), saw="Python 3.11.9 cannot read task.py: line 7: invalid syntax", advice="--venv DIR"),
    Fault(check="pace", level="warn", change=paced("bulk", 2.5, 0.004), saw="takes 2.5 s; between the others 4 ms", advice="ssh gpu03 ip -s link"),
    Fault(check="loss", level="warn", change=lossy, saw="from gpu[01-02,04]: 6 % of the bulk is lost", advice="ssh gpu03 ip -s link"),
    Fault(check="pace", level="warn", label="far", change=paced("connect", 0.31, 0.0001), saw="takes 310 ms", advice="gpu03 addr=ADDRESS"),
    Fault(check="imports", level="warn", change=fact("software/absent", ["einops"]), saw="einops", advice="-m pip install einops"),
    Fault(check="environment", level="warn", label="pet", change=fact("environment", {"PET_NNODES": "2"}), saw="PET_NNODES=2"),
    Fault(check="environment", level="warn", label="rank", change=fact("environment", {"RANK": "0"}), saw="RANK"),
    Fault(check="environment", level="warn", label="nccl", change=fact("environment", {"NCCL_ALGO": "Tree"}), saw="NCCL_ALGO=Tree; gpu[01-02,04] have NCCL_ALGO unset"),
    Fault(check="slots", level="fail", hosts=("gpu01", "gpu02", "gpu03", "gpu04"), change=asked(hosts=hosts(4, slots=9)), saw="slots=9, but 8 GPUs there", advice="hosts.txt:1: write  gpu01 slots=8"),
    Fault(check="gpu", level="fail", change=fact("gpu/module", "570.1"), saw="570.1", advice="reboot"),
    Fault(check="gpu-model", level="warn", change=fact("gpu/gpus/0/name", "NVIDIA A100"), saw="A100"),
    Fault(check="driver", level="warn", change=both(fact("gpu/driver", "535.1"), fact("gpu/module", "535.1")), saw="driver 535.1; gpu[01-02,04] have 580.95.05"),
    Fault(check="gpu-busy", level="warn", change=fact("gpu/processes", [process()]), saw="GPU 5: 61200 MiB held by pid 41822  python old.py  (user ann, since 3 d 11 h)", advice="ssh gpu03 kill 41822"),
    Fault(check="gpu-memory", level="warn", change=fact("gpu/gpus/2/memory.used", "9000"), saw="GPU 2 9000 MiB"),
    Fault(check="gpu-ecc", level="fail", change=fact("gpu/gpus/3/ecc.errors.uncorrected.volatile.total", "2"), saw="GPU 3: 2", advice="nvidia-smi -r -i 3"),
    Fault(check="gpu-rows", level="warn", label="pending", change=fact("gpu/pending", {"3": "row remapping pending"}), saw="GPU 3: row remapping pending", advice="nvidia-smi -r -i 3"),
    Fault(check="gpu-rows", level="fail", change=fact("gpu/pending", {"3": "row remapping failure"}), saw="no spare memory left", advice="replace"),
    Fault(check="gpu-recovery", level="fail", change=fact("gpu/recovery", {"0": "None", "1": "Reset"}), saw="GPU 1: the driver asks for: Reset", advice="ssh gpu03 sudo nvidia-smi -r -i 1"),
    Fault(check="gpu-fabric", level="warn", change=fact("gpu/fabric", {"0": "In Progress N/A"}), saw="not ready (In Progress N/A)", advice="nvidia-fabricmanager"),
    Fault(check="gpu-xid", level="warn", change=fact("gpu/xids", [{"pci": "0000:1b:00", "xid": 79, "text": "GPU has fallen off the bus.", "ago": 7500.0}, {"pci": "0000:1b:00", "xid": 31, "text": "MMU Fault", "ago": 9.0}]), saw="Xid 79 (the GPU has fallen off the bus) of the GPU at 0000:1b:00, 2 h 05 m ago"),
    Fault(check="gpu-speed", level="warn", label="power", change=fact("gpu/gpus/0/power.limit", "350.00"), saw="350 W, 700 W; gpu[01-02,04] have 700 W", advice="nvidia-smi -pl 700"),
    Fault(check="gpu", level="fail", label="hangs", change=both(fact("gpu/gpus", []), fact("gpu/problem", "nvidia-smi gave no answer within 10 s"), asked(hosts=hosts(4, slots=8))), saw="nvidia-smi gave no answer within 10 s"),
    Fault(check="gpu-mode", level="warn", change=fact("gpu/gpus/0/compute_mode", "Exclusive_Process"), saw="Exclusive_Process"),
    Fault(check="gpu-mode", level="info", label="mig", change=fact("gpu/gpus/0/mig.mode.current", "Enabled"), saw="MIG"),
    Fault(check="gpu-speed", level="warn", change=fact("gpu/throttled", ["1"]), saw="GPU 1 is held back"),
    Fault(check="gpu-speed", level="warn", label="pcie", change=fact("gpu/gpus/0/pcie.link.width.current", "8"), saw="×8 of ×16"),
    Fault(check="gpu-visible", level="warn", change=fact("environment", {"CUDA_VISIBLE_DEVICES": "0"}), saw="CUDA_VISIBLE_DEVICES=0"),
    Fault(check="clock", level="warn", change=lambda case: replace(case, offsets={**case.offsets, "gpu03": (0.9, 0.01)}), saw="+900 ms"),
    Fault(check="clock", level="fail", label="far", change=lambda case: replace(case, offsets={**case.offsets, "gpu03": (-3600.0, 0.01)}), saw="-3600.0 s"),
    Fault(check="open-files", level="warn", change=fact("limits/nofile", 1024), saw="1024"),
    Fault(check="locked-memory", level="warn", change=both(everywhere("infiniband", IB), fact("limits/memlock", 8 << 20)), saw="8.0M of locked memory"),
    Fault(check="memory-cap", level="warn", change=fact("memory/cap", 64 << 30), saw="64G of 2.0T"),
    Fault(check="memory", level="warn", change=fact("memory/available", 9 << 30), saw="9.0G of 2.0T"),
    Fault(check="load", level="warn", change=fact("cpu/load", 700.0), saw="load 700 on 128"),
    Fault(check="governor", level="warn", change=fact("cpu/governor", "powersave"), saw="powersave"),
    Fault(check="stuck", level="warn", change=fact("stuck", [{"pid": 7, "command": "ls", "wchan": "nfs4_wait"}]), saw="pid 7 ls in nfs4_wait"),
    Fault(check="leftovers", level="warn", change=fact("leftovers", [{"pid": 8, "command": "torchrun x.py", "run": "7f3a", "age": 60.0}]), saw="1 process of run 7f3a: pid 8  torchrun x.py, since 1 m", advice="ssh gpu03 kill 8"),
    Fault(check="reboot", level="info", change=fact("kernel/reboot_required", True), saw="waits for a reboot"),
    Fault(check="upgrades", level="info", change=fact("upgrades", {"unattended": True, "free": ["libnvidia-compute-570", "nvidia-driver-570"]}), saw="may replace the GPU driver (libnvidia-compute-570)", advice="ssh gpu03 sudo apt-mark hold libnvidia-compute-570 nvidia-driver-570"),
    Fault(check="evidence", level="info", change=fact("kernel/log_barred", "kernel.dmesg_restrict=1"), saw="no kernel log after a failure (kernel.dmesg_restrict=1); gpu[01-02,04] have it", advice="join the group adm"),
    Fault(check="evidence", level="info", label="yama", change=fact("kernel/ptrace_scope", "1"), saw="no py-spy after a failure (kernel.yama.ptrace_scope=1); gpu[01-02,04] have it", advice="sysctl kernel.yama.ptrace_scope=0"),
    Fault(check="evidence", level="info", label="no-spy", change=fact("programs/found/py-spy", ""), saw="no py-spy after a failure (not installed)", advice="pip install py-spy"),
    Fault(check="evidence", level="info", label="cores", change=fact("kernel/core_pattern", "core"), saw="no core dumps after a failure (ulimit -c 0)", advice="ulimit -c unlimited"),
    Fault(check="kernel", level="warn", change=fact("kernel/machine", "aarch64"), saw="aarch64"),
    Fault(check="kernel", level="info", label="release", change=fact("kernel/release", "5.4.0"), saw="5.4.0"),
    Fault(check="script-starts", level="warn", change=fact("rehearsal", played(3, status=127, calls=[], count=0, words="train.sh: line 3: torchrun: not found\n")), saw="ends with status 127 before it comes to torchrun: train.sh: line 3: torchrun: not found", advice="--venv DIR"),
    Fault(check="passes-on", level="fail", change=fact("rehearsal", played(3, "--nproc_per_node", "8", "task.py", "cfg.yaml")), saw="--nnodes=1 where NNODES=4, the meeting at 127.0.0.1 where MASTER_ADDR=10.0.0.1", advice="--nnodes=$NNODES"),
    Fault(check="passes-on", level="fail", label="rank", change=fact("rehearsal", played(3, "--nnodes", "4", "--master_addr", "gpu01", "--nproc_per_node", "8", "task.py", "cfg.yaml")), saw="--node-rank=0 where NODE_RANK=2"),
    Fault(check="passes-on", level="warn", label="port", change=fact("rehearsal", played(3, "--nnodes=4", "--node_rank=2", "--nproc_per_node=8", "--rdzv_endpoint=10.0.0.1:12345", "task.py", "cfg.yaml")), saw="takes port 12345 whatever MASTER_PORT says"),
    Fault(check="passes-on", level="warn", label="count", change=fact("rehearsal", played(3, "--nnodes=4", "--node_rank=2", "--rdzv_endpoint=10.0.0.1:29500", "other.py")), saw="starts 1 process where NPROC_PER_NODE=8, starts other.py instead of task.py"),
    Fault(check="exit-status", level="warn", change=fact("rehearsal", played(3, status=0)), saw="ends with status 0 although torchrun failed", advice="exit $?"),
    Fault(check="script-python", level="info", change=fact("rehearsal/calls/0/python", "/opt/v/bin/python3"), saw="train.sh runs /opt/v/bin/python3; gpu[01-02,04] have /home/ann/venv/bin/python3"),
    Fault(check="script-reads", level="warn", change=both(lambda case: without(case, "gpu03", "rehearsal", "it cannot be sealed"), fact("files/script/mentions", ["torchrun"])), saw="NNODES, NODE_RANK, MASTER_ADDR"),
    Fault(check="batch", level="warn", hosts=("gpu01", "gpu02", "gpu03", "gpu04"), change=asked(config_values={"train": {"global_batch_size": 100, "micro_batch_size": 2}}), saw="100 is not divisible by 32 processes × micro_batch_size 2", advice="multiple of 64, for instance 128"),
]  # fmt: skip
