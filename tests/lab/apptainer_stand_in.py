"""Stand-in for the program apptainer, which no package of Debian has: its command line over real namespaces, for root.

An instance is a process of its own pid and mount namespace whose root is the image directory. Like apptainer's own first
process, it reaps, and ignores a signal to stop while nothing was started by it. ``exec`` enters the namespaces. Messages
and exit statuses are those of apptainer 1.x. No .sif file can be mounted, and no directory is added to an image.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = "/mnt"  # of an instance, in its own mount namespace
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FATAL = 255
STARTER = "while running /usr/libexec/apptainer/bin/starter: exit status 255"


def print_failure(message: str, status: int = FATAL) -> int:
    print(f"FATAL:   {message}", file=sys.stderr)
    return status


class Instances:
    """The files that describe this user's instances on this host."""

    def __init__(self) -> None:
        user = pwd.getpwuid(os.getuid())
        self.home = Path(user.pw_dir)
        self.base = self.home / ".apptainer" / "instances"
        self.place = Path(socket.gethostname()) / user.pw_name

    def get_log(self, name: str, kind: str) -> Path:
        return self.base / "logs" / self.place / f"{name}.{kind}"

    def get_path(self, name: str) -> Path:
        return self.base / "app" / self.place / name / f"{name}.json"

    def list_live(self, pattern: str = "*") -> list[dict[str, object]]:
        """Return those whose parent is alive, and delete the files of the others."""
        found = []
        for path in sorted((self.base / "app" / self.place).glob(f"{pattern}/{pattern}.json")):
            entry = json.loads(path.read_text())
            if is_alive(entry["ppid"]):
                found.append(entry)
            else:
                shutil.rmtree(path.parent)
        return found


def is_alive(pid: int) -> bool:
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


def parse_flags(words: list[str], verb: str) -> tuple[argparse.Namespace, list[str]]:
    """Return the flags, and the words after them."""
    parser = argparse.ArgumentParser(add_help=False)
    for flag in ("-e/--cleanenv", "--no-home", "--nv", "--rocm", "-F/--force", "-j/--json"):
        parser.add_argument(*flag.split("/"), action="store_true")
    parser.add_argument("-B", "--bind", action="append", default=[])
    parser.add_argument("--pwd", default="")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    flags, unknown = parser.parse_known_args(words)
    if unknown:
        print(f'Error for command "{verb}": unknown flag: {unknown[0]}', file=sys.stderr)
        print("Run 'apptainer --help' for more detailed usage information.", file=sys.stderr)
        sys.exit(1)
    return flags, flags.words


def start_instance(flags: argparse.Namespace, words: list[str]) -> int:
    image, name, instances = words[0], words[1], Instances()
    if not os.path.exists(image):
        return print_failure(
            f"could not open image {image}: failed to retrieve path for {image}: lstat {image}: no such file"
        )
    if instances.list_live(name):
        return print_failure(f"instance {name} already exists")
    out, err = instances.get_log(name, "out"), instances.get_log(name, "err")
    err.parent.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    order = json.dumps([image, [bind.split(":") for bind in flags.bind], writing])
    with out.open("ab") as stdout, err.open("ab") as stderr:
        words = ["unshare", "-m", "-p", "-f", sys.executable, "-I", "-S", __file__, "hold", order]
        parent = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True, pass_fds=[writing]
        )
    os.close(writing)
    with open(reading) as answer:
        said = answer.readline().strip()  # its parent keeps the pipe open
    if said != "ready":
        parent.wait(10.0)
        print_failure(f"container creation failed: mount hook function failure: {said}")
        return print_failure(f"failed to start instance: {STARTER}")
    (child,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    entry = {"name": name, "pid": int(child), "ppid": parent.pid, "image": image, "out": str(out), "err": str(err)}
    path = instances.get_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entry))
    print("INFO:    instance started successfully", file=sys.stderr)
    return 0


def hold_instance(order: str) -> int:
    """Mount the root, report, and reap as the first process of the instance."""
    image, binds, writing = json.loads(order)
    said = "ready"
    try:
        mount_root(image, binds)
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(error)
    os.write(writing, f"{said}\n".encode())
    os.close(writing)
    if said != "ready":
        return FATAL
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGCHLD, lambda *_: reap_children())
    while True:
        signal.pause()


def reap_children() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def mount_root(image: str, binds: list[list[str]]) -> None:
    run_program("mount", "--make-rprivate", "/")
    run_program("mount", "--bind", image, ROOT)
    run_program("mount", "-o", "remount,bind,ro", ROOT)
    run_program("mount", "-t", "proc", "proc", f"{ROOT}/proc")
    for path in ("/dev", "/sys", "/tmp", "/var/tmp", "/etc/passwd"):
        run_program("mount", "--rbind", path, f"{ROOT}{path}")
    for source, *targets in binds:
        target = targets[0] if targets else source
        where = f"mount {source}->{target} error: while mounting {source}: "
        if not os.path.exists(source):
            raise OSError(f"{where}mount source {source} doesn't exist")
        if not os.path.exists(ROOT + target):
            raise OSError(f"{where}destination {target} doesn't exist in container")
        run_program("mount", "--rbind", source, ROOT + target)
    os.chroot(ROOT)
    os.chdir("/")


def run_program(*words: str) -> None:
    subprocess.run(words, check=True)


def enter_instance(flags: argparse.Namespace, words: list[str]) -> int:
    if not words[0].startswith("instance://"):
        order = json.dumps([words[0], [bind.split(":") for bind in flags.bind], words[1:], flags.cleanenv])
        return int(os.execvp("unshare", ["unshare", "-m", sys.executable, "-I", "-S", __file__, "enter", order]))
    name, instances = words[0].partition("instance://")[2], Instances()
    found = instances.list_live(name) if name else []
    if not found:
        return print_failure(f"while setting image/instance: no instance found with name {name}")
    environment = {"HOME": str(instances.home), "TERM": os.environ.get("TERM", "dumb"), "PATH": PATH}
    if not flags.cleanenv:
        environment = {**os.environ, **environment}
    for prefix in ("APPTAINER", "SINGULARITY"):
        environment |= {f"{prefix}_CONTAINER": str(found[0]["image"]), f"{prefix}_INSTANCE": name}
    enter = ["nsenter", "-t", str(found[0]["pid"]), "-m", "-p", f"--root=/proc/{found[0]['pid']}/root"]
    enter.append(f"--wd=/proc/{found[0]['pid']}/root{flags.pwd or '/'}")
    test = [*enter, "sh", "-c", 'command -v "$1" >/dev/null', "sh", words[1]]
    if subprocess.run(test, env=environment, stdin=subprocess.DEVNULL, check=False).returncode:
        return print_failure(f'"{words[1]}": executable file not found in $PATH')
    return int(os.execvpe("nsenter", [*enter, *words[1:]], environment))


def enter_image(order: str) -> int:
    """Run a program in the image, in a mount namespace of its own: no instance, and no pid namespace."""
    image, binds, words, is_clean = json.loads(order)
    mount_root(image, binds)
    environment = {**({} if is_clean else os.environ), "HOME": str(Instances().home), "PATH": PATH}
    return int(os.execvpe(words[0], words, environment))


def stop_instance(flags: argparse.Namespace, words: list[str]) -> int:
    found = Instances().list_live(words[0])
    if not found:
        return print_failure("no instance found")
    pid, parent = int(str(found[0]["pid"])), int(str(found[0]["ppid"]))
    print(f"INFO:    Stopping {words[0]} instance of {found[0]['image']} (PID={pid})", file=sys.stderr)
    waited = os.pidfd_open(parent)
    os.kill(pid, signal.SIGKILL if flags.force else signal.SIGINT)
    if not select.select([waited], [], [], 10.0)[0]:
        os.kill(pid, signal.SIGKILL)
    return 0


def list_instances(flags: argparse.Namespace, words: list[str]) -> int:
    found = Instances().list_live(*words[:1])
    if flags.json:
        rows = [
            {"instance": one["name"], "pid": one["pid"], "img": one["image"], "ip": ""}
            | {"logErrPath": one["err"], "logOutPath": one["out"]}
            for one in found
        ]
        print(json.dumps({"instances": rows}, indent="\t"))
        return 0
    lines = [("INSTANCE NAME", "PID", "IMAGE"), *((str(o["name"]), str(o["pid"]), str(o["image"])) for o in found)]
    width = max(len(name) for name, *_ in lines) + 4
    for name, pid, image in lines:
        print(f"{name:<{width}}{pid:<8}{'':<6}{image}")
    return 0


def main(words: list[str]) -> int:
    words = [word for at, word in enumerate(words) if at or word not in ("-s", "-q")]
    if words[0] == "hold":
        return hold_instance(words[1])
    if words[0] == "enter":
        return enter_image(words[1])
    verbs = {"start": start_instance, "stop": stop_instance, "list": list_instances}
    verb, rest = (words[1], words[2:]) if words[0] == "instance" else (words[0], words[1:])
    return verbs.get(verb, enter_instance)(*parse_flags(rest, verb))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
