"""Faults of real hosts, by scenes: each is put on a host of its own, so that one `fanout check` answers for all of a scene.

A fault names the check that finds it, the level of the finding, and other findings that follow (``also``). A scene may need
its hosts, its project and its hostfile in a certain way.
"""

from __future__ import annotations

import uuid

from tests.lab.specs import HostSpec
from tests.lab.spoil import HOME, Fault, Inject, Scene, add_rc_line, inject_all, run_on_host, run_python, write_on_host

_WAIT = "print('up', flush=True); import signal; signal.pause()"

# A file system whose server never answers.
_HANGS = (
    "import ctypes, os\n"
    "fuse = os.open('/dev/fuse', os.O_RDWR)\n"
    "data = b'fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other' % fuse\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    f"assert libc.mount(b'fuse', b'{HOME}/shared/proj', b'fuse', 0, data) == 0, ctypes.get_errno()\n" + _WAIT
)
# Another one that the run does not need, and a process of the user that waits for it.
_STUCK = _HANGS.replace(f"{HOME}/shared/proj", f"{HOME}/gone").replace(
    "print('up'",
    f"if os.fork() == 0: os.setgid(47001); os.setuid(47001); os.execvp('ls', ['ls', '{HOME}/gone/x'])\nprint('up'",
)

PROJECT = {"proj/task.py": "import json\n", "proj/cfg.yaml": "lr: 0.1\n", "proj/train.sh": "echo hi\n"}

LOGIN = Scene(
    files=PROJECT,
    faults=(
        Fault(check="login-noise", level="info", host="h2", inject=add_rc_line("echo Welcome to h2")),
        Fault(check="environment", level="warn", host="h3", inject=add_rc_line("export PET_NNODES=7")),
        Fault(check="proxy", level="info", host="h4", inject=add_rc_line("export http_proxy=http://proxy:3128")),
        Fault(check="open-files", level="warn", host="h5", inject=add_rc_line("ulimit -n 1024")),
        Fault(check="memory-cap", level="warn", host="h6", inject=add_rc_line("ulimit -v 8000000")),
        Fault(check="leftovers", level="warn", host="h8", inject=run_python(_WAIT, user="lab", env={"FANOUT_RUN_ID": "old"})),
        Fault(
            check="build-locks", level="warn", host="h9",
            inject=run_on_host(f"cd {HOME} && mkdir -p .cache/torch_extensions/x && touch -d '1 hour ago' .cache/torch_extensions/x/lock", user="lab"),
        ),
        Fault(check="login-time", level="warn", host="h10", inject=add_rc_line("sleep 7")),
        Fault(check="processes", level="warn", host="h11", inject=add_rc_line("ulimit -u 2000")),
        Fault(check="environment", level="info", host="h12", inject=add_rc_line("export LD_LIBRARY_PATH=/opt/old/lib")),
    ),
)  # fmt: skip

_NUMA = "/proc/sys/kernel/numa_balancing"
_RESTRICT = "/proc/sys/kernel/dmesg_restrict"
_OPEN_LOG = (  # a kernel log that every user may read, whether or not this machine's own log is readable
    "touch /tmp/kmsg && chmod 644 /tmp/kmsg && mount --bind /tmp/kmsg /dev/kmsg\n"
    f"echo 0 > /tmp/restrict && mount --bind /tmp/restrict {_RESTRICT}"
)
# An Ubuntu that may replace its driver by night: two packages, one of which is held.
_UPGRADES = """
mkdir -p /tmp/apt /tmp/dpkg
echo 'APT::Periodic::Unattended-Upgrade "1";' > /tmp/apt/20auto-upgrades
for name in "nvidia-driver-570:install" "libnvidia-compute-570:hold" "bash:install"; do
  printf 'Package: %s\\nStatus: %s ok installed\\nVersion: 1\\n\\n' ${name%:*} ${name#*:}
done > /tmp/dpkg/status
mount --bind /tmp/apt /etc/apt/apt.conf.d && mount --bind /tmp/dpkg /var/lib/dpkg
"""
MACHINE = Scene(
    files=PROJECT,
    ready=f"echo 0 > /tmp/numa && mount --bind /tmp/numa {_NUMA}\n{_OPEN_LOG}",
    faults=(
        Fault(check="port-range", level="warn", host="h1", inject=run_on_host("echo 29000 60999 > /proc/sys/net/ipv4/ip_local_port_range")),
        Fault(check="hostname", level="warn", host="h3", inject=run_on_host("{ echo 10.77.0.3 h2; cat /etc/hosts; } > /tmp/h; cat /tmp/h > /etc/hosts; hostname h2")),
        Fault(check="user", level="warn", host="h5", inject=run_on_host("sed 's/:47001:47001:/:47001:47002:/' /etc/passwd > /tmp/p; cat /tmp/p > /etc/passwd")),
        Fault(check="shm-left", level="info", host="h4", inject=run_on_host("truncate -s 9m /dev/shm/nccl-old && touch -d '1 hour ago' /dev/shm/nccl-old", user="lab")),
        Fault(check="numa", level="info", host="h2", inject=run_on_host("echo 1 > /tmp/numa")),
        Fault(check="mtu", level="warn", host="h6", inject=run_on_host("ip link set dev eth0 mtu 1400")),
        Fault(check="session", level="info", host="h7", inject=run_on_host("mkdir -p /run/systemd/system /run/systemd/sessions")),
        Fault(check="reboot", level="info", host="h8", inject=run_on_host("touch /var/run/reboot-required")),
        Fault(check="shm", level="warn", host="h9", inject=run_on_host("mount -o remount,size=100m /dev/shm")),
        Fault(
            check="reverse-names", level="warn", host="h10",
            inject=run_on_host("grep -v ' h[12]$' /etc/hosts > /tmp/h; cat /tmp/h > /etc/hosts; echo nameserver 10.77.0.9 > /etc/resolv.conf; iptables -w -A INPUT -p icmp -j DROP"),
        ),
        Fault(check="evidence", level="info", host="h12", inject=run_on_host("chmod 600 /tmp/kmsg && echo 1 > /tmp/restrict")),
        Fault(check="upgrades", level="info", host="h13", inject=run_on_host(_UPGRADES)),
        Fault(check="pace", level="warn", host="h14", inject=run_on_host("tc qdisc add dev eth0 root tbf rate 25mbit burst 64kb latency 9s")),
        Fault(check="loss", level="warn", host="h15", inject=run_on_host("iptables -w -A INPUT -p tcp ! --dport 22 -m length --length 1000: -m statistic --mode random --probability 0.08 -j DROP")),
        Fault(check="machine-id", level="warn", host="h11", inject=run_on_host(f"echo {uuid.uuid5(uuid.NAMESPACE_DNS, 'h4').hex} > /etc/machine-id")),
    ),
)  # fmt: skip

_CONFIG = f"data:\n  path: {HOME}/data\ntrain:\n  output_dir: {HOME}/out/x\n"
FILES = Scene(
    files={**PROJECT, "proj/cfg.yaml": _CONFIG, "data/part": "1\n", "out/keep": "", "venv/bin/keep": ""},
    flags=("--venv", f"{HOME}/venv"),
    faults=(
        Fault(check="venv", level="fail", host="h1", inject=run_on_host(f"rm -r {HOME}/venv")),
        Fault(check="task", level="fail", host="h2", inject=run_on_host(f"rm {HOME}/proj/task.py")),
        Fault(check="config", level="fail", host="h3", inject=write_on_host("proj/cfg.yaml", _CONFIG + "x: 1\n")),
        Fault(check="script", level="fail", host="h4", inject=write_on_host("proj/train.sh", "echo hi\r\n")),
        Fault(check="writable", level="warn", host="h5", inject=run_on_host(f"chmod 555 {HOME}/proj")),
        Fault(check="code", level="warn", host="h6", inject=write_on_host("proj/lib.py", "x = 1\n")),
        Fault(check="file-times", level="warn", host="h7", inject=run_on_host(f"touch -d '1 hour' {HOME}/proj/task.py")),
        Fault(check="home", level="warn", host="h11", inject=run_on_host(f"chmod 555 {HOME}")),
        Fault(check="data", level="fail", host="h8", inject=run_on_host(f"rm -r {HOME}/data")),
        Fault(check="output", level="fail", host="h9", inject=run_on_host(f"chown -R root {HOME}/out")),
        Fault(check="mount", level="warn", host="h10", inject=run_on_host(f"mount --bind {HOME}/proj {HOME}/proj && mount -o remount,bind,noexec {HOME}/proj")),
    ),
)  # fmt: skip

_EMPTY = f"mount -t tmpfs none {HOME}/shared/proj"
MOUNTS = Scene(
    files={path.replace("proj/", "shared/proj/"): text for path, text in PROJECT.items()},
    shared=f"{HOME}/shared",
    project=f"{HOME}/shared/proj",
    faults=(
        Fault(check="space", level="warn", host="h3", inject=run_on_host("mount -o remount,size=1m /tmp && head -c 1020k /dev/zero > /tmp/full")),
        Fault(
            check="shared", level="warn", host="h4",
            inject=run_on_host(f"cp -r {HOME}/shared/proj /tmp/p && {_EMPTY} && chown lab {HOME}/shared/proj && cp -r /tmp/p/. {HOME}/shared/proj"),
        ),
        Fault(
            check="workdir", level="fail", host="h5", inject=run_on_host(f"mount -t tmpfs none {HOME}/shared"),
        ),
        Fault(check="file-server", level="fail", host="h6", inject=run_python(_HANGS)),
        Fault(check="stuck", level="warn", host="h2", inject=inject_all(run_on_host(f"mkdir {HOME}/gone"), run_python(_STUCK))),
    ),
)  # fmt: skip

_GPU = "NVIDIA H100 80GB HBM3, 81559, 4, 580.95.05, Default, Enabled, 0, Disabled, 31, 16, 16, 700.00"
_SMI = rf"""#!/bin/sh
me=$(uname -n)
case "$*" in
*--query-gpu=index,uuid*) echo "0, GPU-0-$me, {_GPU}"; echo "1, GPU-1-$me, {_GPU}" ;;
*--query-compute-apps*) ;;
*clocks_event_reasons*) echo "0, Not Active, Not Active"; echo "1, Not Active, Not Active" ;;
*--query-remapped-rows*) echo "GPU-0-$me, No, No"; echo "GPU-1-$me, No, No" ;;
*gpu_recovery_action*) echo "0, None"; echo "1, None" ;;
*fabric*) echo "0, Completed, Success"; echo "1, Completed, Success" ;;
*p2p*) printf '\tGPU0\tGPU1\nGPU0\tX\tOK\nGPU1\tOK\tX\n\nLegend:\n  X = Self\n' ;;
*topo*) printf '\t\033[4mGPU0\tGPU1\tNUMA\033[0m\nGPU0\t X \tNV18\t0\nGPU1\tNV18\t X \t0\n\nLegend:\n  X = Self\n' ;;
*) echo 'Field "x" is not a valid field to query.'; exit 2 ;;
esac
"""


# Simulate torch with a python3 that prints the requested answers: no host of the lab has torch.
_SOFTWARE = (
    '{"version": [3, 11, 9], "executable": "/home/lab/venv/bin/python3", "prefix": "/home/lab/venv", '
    '"packages": {"torch": "2.9.1", "nvidia-nccl-cu12": "2.27.5", "numpy": "2.1.0"}, '
    '"torch": {"version": "2.9.1+cu128", "cuda": "12.8", "hip": null}, "absent": [], "syntax": ""}'
)


def patch_python(old: str = "", new: str = "") -> str:
    return f"#!/bin/sh\necho '{_SOFTWARE.replace(old, new) if old else _SOFTWARE}'\n"


def replace_output(old: str, new: str) -> Inject:
    assert old in _SOFTWARE
    return write_on_host("venv/bin/python3", patch_python(old, new), mode=0o755)


_TRAIN = """\
if [ -f ~/site.sh ]; then . ~/site.sh; fi
torchrun --nnodes=$NNODES --node-rank=$NODE_RANK --nproc-per-node=$NPROC_PER_NODE --rdzv_endpoint=$MASTER_ADDR:$MASTER_PORT "$@" | tee log.txt
"""
SOFTWARE = Scene(
    files={
        **PROJECT, "proj/task.py": "import torch\n", "proj/train.sh": _TRAIN,
        "venv/bin/python3": patch_python(), "venv/bin/torchrun": "#!/bin/sh\nexit 9\n",
    },
    hosts={"h8": HostSpec(name="h8", shell="/bin/sh", without=("bash",))},
    flags=("--venv", f"{HOME}/venv"),
    faults=(
        Fault(check="interpreter", level="fail", host="h2", inject=replace_output("[3, 11, 9]", "[3, 10, 1]")),
        Fault(check="torch", level="fail", host="h3", inject=replace_output("2.9.1+cu128", "2.8.0+cu128")),
        Fault(check="nccl", level="fail", host="h4", inject=replace_output("2.27.5", "2.21.5"), also=(("packages", "info"),)),
        Fault(check="packages", level="info", host="h5", inject=replace_output("2.1.0", "1.26.4")),
        Fault(check="imports", level="fail", host="h6", inject=replace_output('"absent": []', '"absent": ["einops"]')),
        Fault(check="syntax", level="fail", host="h16", inject=replace_output('"syntax": ""', '"syntax": "line 3: invalid syntax"')),
        Fault(check="torchrun", level="fail", host="h7", inject=run_on_host(f"rm {HOME}/venv/bin/torchrun")),
        Fault(check="bash", level="fail", host="h8", inject=lambda node: None),
        Fault(check="script-starts", level="fail", host="h9", inject=write_on_host("site.sh", "prepare-my-data || exit\n")),
        Fault(check="passes-on", level="fail", host="h10", inject=write_on_host("site.sh", "NNODES=1 MASTER_ADDR=localhost\n")),
        Fault(check="exit-status", level="warn", host="h11", inject=write_on_host("site.sh", "trap 'exit 0' EXIT\n")),
        Fault(check="script-waits", level="warn", host="h18", inject=write_on_host("site.sh", "ssh h2 true || :\n")),
        Fault(
            check="script-python", level="info", host="h12",
            inject=run_on_host(f"cp -r {HOME}/venv {HOME}/other && echo 'PATH={HOME}/other/bin:$PATH' > {HOME}/site.sh"),
        ),
        Fault(check="known-bugs", level="warn", host="h15", inject=replace_output("2.9.1+cu128", "2.7.0+cu128"), also=(("torch", "fail"),)),
        Fault(check="nccl-files", level="warn", host="h17", inject=write_on_host(".nccl.conf", "NCCL_DEBUG=INFO\n")),
        Fault(check="stack", level="warn", host="h13", inject=add_rc_line("ulimit -s unlimited")),
        Fault(check="cuda", level="warn", host="h14", inject=write_on_host("venv/bin/nvidia-smi", _SMI.replace("580.95.05", "470.82.01"), mode=0o755)),
    ),
)  # fmt: skip


def replace_smi_output(old: str, new: str) -> Inject:
    assert old in _SMI
    return write_on_host("bin/nvidia-smi", _SMI.replace(old, new), mode=0o755)


_PATH = "export PATH=$HOME/bin:$PATH"
_XID = "3,2212,91140900,-;NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus.\n"
GPU = Scene(
    files={**PROJECT, "proj/cfg.yaml": "train:\n  global_batch_size: 7\n  micro_batch_size: 1\n", ".bashrc": f"{_PATH}\n", "bin/nvidia-smi": _SMI},
    slots=2,
    ready=_OPEN_LOG,
    everywhere=(("batch", "warn"), ("nccl-interface", "info")),
    faults=(
        Fault(check="gpu-model", level="warn", host="h2", inject=replace_smi_output("H100 80GB HBM3", "A100-SXM4-80GB")),
        Fault(check="driver", level="warn", host="h3", inject=replace_smi_output("580.95.05", "535.183.01")),
        Fault(check="gpu-busy", level="warn", host="h4", inject=replace_smi_output("*--query-compute-apps*) ;;", "*--query-compute-apps*) echo GPU-1-$me, 1, 61200 ;;")),
        Fault(check="gpu-memory", level="warn", host="h5", inject=replace_smi_output("81559, 4,", "81559, 9000,")),
        Fault(check="gpu-ecc", level="fail", host="h6", inject=replace_smi_output("Enabled, 0, Disabled", "Enabled, 2, Disabled")),
        Fault(check="gpu-mode", level="warn", host="h7", inject=replace_smi_output("Default", "Exclusive_Process")),
        Fault(check="gpu-speed", level="warn", host="h8", inject=replace_smi_output('"1, Not Active, Not Active"', '"1, Not Active, Active"')),
        Fault(check="gpu-visible", level="warn", host="h9", inject=add_rc_line(f"{_PATH}; export CUDA_VISIBLE_DEVICES=0")),
        Fault(check="slots", level="fail", host="h10", inject=replace_smi_output(f'; echo "1, GPU-1-$me, {_GPU}"', "")),
        Fault(check="gpu", level="fail", host="h11", inject=write_on_host("bin/nvidia-smi", "#!/bin/sh\nexec sleep 1000\n", mode=0o755)),
        Fault(check="gpu-rows", level="fail", host="h12", inject=replace_smi_output('"GPU-1-$me, No, No"', '"GPU-1-$me, No, Yes"')),
        Fault(check="gpu-recovery", level="fail", host="h13", inject=replace_smi_output('"1, None"', '"1, Reset"')),
        Fault(check="gpu-fabric", level="warn", host="h14", inject=replace_smi_output('"1, Completed, Success"', '"1, In Progress, N/A"')),
        Fault(check="gpu-xid", level="warn", host="h15", inject=run_on_host(f"printf '%s\\n' '{_XID.strip()}' > /tmp/kmsg")),
        Fault(
            check="nccl-interface", level="info", host="h16",
            inject=run_on_host("ip link add ib0 type veth peer name ib0-peer; ip addr add 10.99.0.3/24 dev ib0; ip link set ib0 up; ip link set ib0-peer up"),
        ),
        Fault(check="gpu-persistence", level="warn", host="h17", inject=replace_smi_output("Default, Enabled", "Default, Disabled")),
        Fault(check="gpu-links", level="warn", host="h18", inject=replace_smi_output(r"GPU0\tX\tOK\nGPU1\tOK\tX", r"GPU0\tX\tCNS\nGPU1\tCNS\tX")),
        Fault(check="gpu-once", level="fail", host="h19", inject=replace_smi_output("$(uname -n)", "h2")),
    ),
)  # fmt: skip

# Ports of InfiniBand are files of the kernel's: a /sys/class of our own has them, beside the real network devices.
# NCCL's library is any library of that name, whether or not this machine has the real one.
PORT = "/sys/class/infiniband/mlx5_0/ports/1"
_IB = f"""
mkdir /tmp/net && mount --bind /sys/class/net /tmp/net && mount -t tmpfs none /sys/class
mkdir /sys/class/net && mount --bind /tmp/net /sys/class/net
mkdir -p {PORT}/counters {PORT}/gids {PORT}/gid_attrs/types
echo '4: ACTIVE' > {PORT}/state; echo '400 Gb/sec (4X NDR)' > {PORT}/rate; echo Ethernet > {PORT}/link_layer
echo 1 > {PORT}/counters/link_downed; echo 0 > {PORT}/counters/symbol_error
echo fe80:0000:0000:0000:0202:c9ff:fe00:0001 > {PORT}/gids/0; echo 'IB/RoCE v1' > {PORT}/gid_attrs/types/0
echo 0000:0000:0000:0000:0000:ffff:0a4d:0001 > {PORT}/gids/3; echo 'RoCE v2' > {PORT}/gid_attrs/types/3
mkdir /tmp/upper /tmp/work /tmp/shm /tmp/pts
mount --bind /dev/shm /tmp/shm && mount --bind /dev/pts /tmp/pts
mount -t overlay -o lowerdir=/dev,upperdir=/tmp/upper,workdir=/tmp/work overlay /dev
mount --bind /tmp/shm /dev/shm && mount --bind /tmp/pts /dev/pts
for name in /proc/[0-9]*/comm; do if grep -qx sshd $name; then prlimit --pid $(basename $(dirname $name)) --memlock=65536:65536; fi; done
mkdir -p /dev/infiniband && touch /dev/infiniband/uverbs0 && chmod 666 /dev/infiniband/uverbs0
libc=$(readlink -f "$(/sbin/ldconfig -p | awk '/libc\\.so\\.6 / {{ print $NF; exit }}')")
mkdir /tmp/libraries /tmp/scratch
mount -t overlay -o lowerdir=$(dirname $libc),upperdir=/tmp/libraries,workdir=/tmp/scratch overlay $(dirname $libc)
cp $libc $(dirname $libc)/libibverbs.so.1
"""
FABRIC = Scene(
    files=PROJECT,
    ready=_IB,
    everywhere=(("locked-memory", "warn"),),  # it cannot be raised everywhere, but it can be lowered
    faults=(
        Fault(check="infiniband", level="warn", host="h2", inject=run_on_host(f"echo '1: DOWN' > {PORT}/state")),
        Fault(check="ib-errors", level="info", host="h3", inject=run_on_host(f"echo 977 > {PORT}/counters/symbol_error")),
        Fault(check="roce-gids", level="warn", host="h4", inject=run_on_host(f"rm {PORT}/gids/3")),
        Fault(check="gpu-direct", level="info", host="h5", inject=inject_all(write_on_host("bin/nvidia-smi", _SMI, mode=0o755), add_rc_line(_PATH))),
    ),
)  # fmt: skip

# Simulate systemd with a systemctl and a timedatectl that print the requested answers: the lab has none.
_SYSTEMCTL = """#!/bin/sh
shift
for unit; do case $unit in UNITS) echo active ;; *) echo inactive ;; esac; done
exit 3
"""


def activate_units(*units: str) -> Inject:
    return write_on_host("bin/systemctl", _SYSTEMCTL.replace("UNITS", "|".join(units)), mode=0o755)


# NCCL's own service, as it answers "verbose status".
_RAS = r"""
import socket
door = socket.create_server(("127.0.0.1", 28028))
print("up", flush=True)
while True:
    guest, _ = door.accept()
    guest.recv(99)
    guest.sendall(b"NCCL version 2.27.5 compiled with CUDA 12.9\n\nJob summary\n"
                  b"  Nodes  Processes         GPUs  Processes     GPUs\n"
                  b"(total)   per node  per process    (total)  (total)\n"
                  b"      4          8            1         32       32\n")
    guest.close()
"""
SERVICES = Scene(
    files={
        **PROJECT, ".bashrc": f"{_PATH}\n", "bin/systemctl": _SYSTEMCTL.replace("UNITS", "chronyd"),
        "bin/timedatectl": "#!/bin/sh\necho yes\n",
    },
    ready="mkdir -p /run/systemd/system",
    faults=(
        Fault(check="firewall", level="info", host="h2", inject=activate_units("chronyd", "firewalld")),
        Fault(check="time-service", level="warn", host="h3", inject=inject_all(activate_units("none"), write_on_host("bin/timedatectl", "#!/bin/sh\necho no\n", mode=0o755))),
        Fault(check="oom-killer", level="warn", host="h4", inject=activate_units("chronyd", "earlyoom", "systemd-oomd")),
        Fault(check="nccl-job", level="info", host="h5", inject=run_python(_RAS)),
        Fault(
            check="mesh", level="fail", host="h6", also=(("firewall", "info"),),
            inject=inject_all(activate_units("chronyd", "nftables"), run_on_host("iptables -w -A INPUT -p tcp --syn --dport 32768:60999 -j DROP")),
        ),
    ),
)  # fmt: skip

# Faults that have tests of their own: test_lab_check, test_lone_host, test_check_and_exec, test_lab_deep.
ELSEWHERE = (
    "reached", "same-machine", "master-port", "master-addr", "mesh", "bulk", "gloo-interface", "own-name",
    "deep-torch", "deep-rendezvous", "deep-bandwidth",
)  # fmt: skip

# What a lab on one machine cannot be given is judged on recorded facts alone (tests/checks/faults.py).
RECORDED = {
    "deep-sum": "it takes a memory that miscounts (tests/checks/test_deep.py)",
    "deep-gpu": "it takes a GPU (tests/checks/test_deep.py)",
    **dict.fromkeys(
        ("engine", "image", "container-network", "container-workdir", "container-gpus", "gpu-hook", "user-name"),
        "it takes an engine, which the other scenes do not have (tests/lab/test_containers.py)",
    ),
    "answer": "it takes an agent that answers nonsense (tests/checks/test_validity.py)",
    "python": "all hosts of the lab have this machine's python3",
    "link-speed": "virtual cables have no speed of their own",
    "tmpdir": "it takes a file server",
    "clock": "all hosts of the lab share one clock",
    "memory": "all hosts of the lab share one memory",
    "load": "all hosts of the lab share one processor",
    "governor": "all hosts of the lab share one processor",
    "kernel": "all hosts of the lab share one kernel",
    "script-reads": "whether a box can be made is a setting of the whole machine",
}

SCENES = {
    "login": LOGIN,
    "machine": MACHINE,
    "files": FILES,
    "mounts": MOUNTS,
    "software": SOFTWARE,
    "gpu": GPU,
    "fabric": FABRIC,
    "services": SERVICES,
}
