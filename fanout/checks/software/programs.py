"""Checks of the software that a run needs: bash, torchrun, and the same Python and torch on all hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from shlex import quote
from typing import Any

from fanout.checks.engine.comparison import find_differing_keys, find_nccl_version, find_outlier_groups, parse_version
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, fail, info, ok, skip, warn
from fanout.model.hosts import fold_names

_LAUNCHERS = {"torchrun", "torch.distributed", "accelerate launch", "deepspeed"}
_TORCHRUN_PREFIXES = ("PET_", "TORCHELASTIC_")
_LOADED = {"LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "HF_HOME", "HF_HUB_OFFLINE"}
_TUNED = ("TORCH_", "CUDA_", "GLOO_", "OMP_", "MKL_")
_RANKS = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK"}


def _judge_bash(case: CheckContext) -> Iterator[CheckResult]:
    for name, programs in case.get_section("programs").items():
        if programs["found"]["bash"]:
            yield ok(name, programs["found"]["bash"])
        else:
            yield fail(
                name,
                "no bash on PATH",
                f"train.sh runs under bash -o pipefail; install it:  {case.format_remote_command(name, 'sudo apt install bash')}",
            )


def _judge_venv(case: CheckContext) -> Iterator[CheckResult]:
    for name, programs in case.get_section("programs").items():
        if not programs["venv"]["exists"] and not case.request.venv_sure:
            yield info(name, f"{programs['venv']['dir']} does not exist: fanout uses the programs on the login's PATH")
        elif not programs["venv"]["exists"]:
            where = programs["elsewhere"]
            there = f"there is one at {_get_environment_root(where[0])}" if where else "create it there, or omit --venv"
            yield fail(name, f"no virtual environment at {programs['venv']['dir']}", there)


def _judge_torchrun(case: CheckContext) -> Iterator[CheckResult]:
    """Yield verdicts by the rehearsal; without one, by the PATH of the login and the changes of train.sh to it."""
    for name, programs in case.get_section("programs").items():
        calls = case.facts[name].get("rehearsal", {}).get("calls", ())
        yield _judge_rehearsed_call(case, name, calls[-1]) if calls else _judge_login_path(case, name, programs)


def _judge_rehearsed_call(case: CheckContext, name: str, call: Mapping[str, Any]) -> CheckResult:
    """Return the verdict on the program that train.sh started in the rehearsal."""
    script, program = case.request.script, call["program"]
    if program == "task":
        return skip(name, f"{script} starts the task without torchrun")
    if not call["real"]:
        places = case.facts[name]["programs"]["elsewhere"] if program == "torchrun" else []
        return fail(name, f"{script} calls {program}, which is not on its PATH", _advise_environment(places))
    software = case.facts[name].get("software", {})
    module = call["python"] == call["real"] and software.get("of_run") and not software["torch"]
    if program == "torchrun" and module:
        return fail(
            name,
            f"{script} starts torch.distributed.run with {call['python']}, which has no torch",
            _advise_environment(case.facts[name]["programs"]["elsewhere"]),
        )
    return ok(name, call["real"])


def _judge_login_path(case: CheckContext, name: str, programs: Mapping[str, Any]) -> CheckResult:
    """Return the verdict on torchrun on the login's PATH, if train.sh was not rehearsed."""
    script = case.facts[name].get("files", {}).get("script", {})
    mentions = set(script.get("mentions", ()))
    is_script = script.get("kind") == "file"
    if programs["found"]["torchrun"]:
        return ok(name, programs["found"]["torchrun"])
    if case.request.setup:
        return skip(name, "--setup changes PATH")
    if is_script and not mentions & _LAUNCHERS:
        return skip(name, f"{case.request.script} does not call torchrun itself")
    if is_script and script.get("activates"):
        why = "" if case.request.has_task else ": give a TASK to rehearse it"
        return skip(
            name, f"torchrun is not on the login's PATH; {case.request.script} may change PATH{why}", "unknown-path"
        )
    return fail(
        name, "torchrun is not on the PATH of a non-interactive login", _advise_environment(programs["elsewhere"])
    )


def _advise_environment(places: list[str]) -> str:
    if not places:
        return "it is in none of the usual directories: install torch there, or name its environment with  --venv DIR"
    more = f"   (also in {', '.join(map(_get_environment_root, places[1:3]))})" if len(places) > 1 else ""
    return f"try  --venv {_get_environment_root(places[0])}{more}"


def _get_environment_root(program: str) -> str:
    """Return the environment of a program: ``/home/ann/venv/bin/torchrun`` -> ``/home/ann/venv``."""
    return program.rpartition("/bin/")[0] or "/"


def _judge_interpreter(case: CheckContext) -> Iterator[CheckResult]:
    software = case.get_section("software")
    versions = {name: tuple(row["version"]) for name, row in software.items()}
    minors = {name: version[:2] for name, version in versions.items()}
    for odd in find_outlier_groups(minors):
        where = {odd.value: software[odd.hosts[0]]["executable"], odd.usual: software[odd.others[0]]["executable"]}
        yield fail(
            odd.hosts,
            f"Python {odd.format_difference(partial(_format_interpreter, where))}",
            "use the same environment on all hosts:  --venv DIR",
        )
    if len(set(minors.values())) == 1:
        for patch in find_outlier_groups(versions):
            yield info(patch.hosts, f"Python {patch.format_difference(_format_version)}")
    for name in (name for name in versions if _is_same_everywhere(versions, name)):
        yield ok(name, f"{_format_version(versions[name])}  {software[name]['executable']}")


def _format_interpreter(where: Mapping[tuple[int, ...], str], version: tuple[int, ...]) -> str:
    return f"{_format_version(version)} ({where[version]})"


def _is_same_everywhere(values: Mapping[str, Any], name: str) -> bool:
    return all(value == values[name] for value in values.values())


def _format_version(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _judge_torch(case: CheckContext) -> Iterator[CheckResult]:
    found = {name: row["torch"] for name, row in case.get_section("software").items()}
    if not any(found.values()):
        yield skip(found, "no torch in the Python that was examined")
        return
    for name in (name for name, torch in found.items() if not torch):
        yield fail(
            name,
            f"no torch in {case.facts[name]['software']['executable']}",
            "the other hosts have it: use the same environment on all hosts with  --venv DIR",
        )
    versions = {name: str(torch["version"]) for name, torch in found.items() if torch}
    for odd in find_outlier_groups(versions):
        first = odd.hosts[0]
        yield fail(
            odd.hosts,
            f"torch {odd.format_difference()}",
            f"install the same version on all hosts:  {case.format_remote_command(first, _format_pip_command(case, first, odd.usual))}",
        )
    for name in (name for name in versions if _is_same_everywhere(versions, name)):
        yield ok(name, versions[name])


def _format_pip_command(case: CheckContext, name: str, version: str) -> str:
    python = quote(case.facts[name]["software"]["executable"])
    return f"{python} -m pip install torch=={version.partition('+')[0]}"


def _judge_nccl(case: CheckContext) -> Iterator[CheckResult]:
    if not case.get_section("gpu"):
        yield skip(case.hosts, "no GPU")
        return
    found = {name: find_nccl_version(row["packages"]) for name, row in case.get_section("software").items()}
    versions = {name: version for name, version in found.items() if version}
    for odd in find_outlier_groups(versions):
        yield fail(
            odd.hosts,
            f"NCCL {odd.format_difference()}",
            "NCCL refuses to mix versions: install the same torch on all hosts",
        )
    lacking = tuple(name for name in case.hosts if name not in versions)
    if lacking:
        yield skip(lacking, "no NCCL package beside torch")


def _judge_known_bugs(case: CheckContext) -> Iterator[CheckResult]:
    """Yield findings for versions of torch and NCCL with known bugs."""
    for name, row in case.get_section("software").items():
        version = str(row["torch"].get("version") or "") if row["torch"] else ""
        if version.partition("+")[0] == "2.7.0":
            yield warn(
                name,
                f"torch {version} may hang in init_process_group(device_id=…)",
                "fixed in 2.7.1 (https://github.com/pytorch/pytorch/issues/153960): upgrade torch, or omit device_id",
            )
    found = {
        name: find_nccl_version(row["packages"])
        for name, row in case.get_section("software").items()
        if "gpu" in case.facts[name]
    }
    alike = set(found.values()).pop() if len(set(found.values())) == 1 else ""  # ``_judge_nccl`` reports mixed versions
    if () < parse_version(alike, 3) < (2, 27, 3):
        yield info(
            tuple(found),
            f"NCCL {alike} ends if another program connects to its ports (for instance a port scanner)",
            "fixed in 2.27.3 (https://github.com/NVIDIA/nccl/issues/1612): upgrade torch, or exclude these hosts from port scans",
        )


def _judge_packages(case: CheckContext) -> Iterator[CheckResult]:
    sets = {name: row["packages"] for name, row in case.get_section("software").items()}
    for odd in find_outlier_groups(sets):
        lines = [
            f"{name} {odd.value.get(name, 'missing')} / {odd.usual.get(name, 'missing')}"
            for name in sorted(find_differing_keys(odd.value, odd.usual))
        ]
        more = f", … {len(lines)} in all" if len(lines) > 4 else ""
        yield info(
            odd.hosts, f"packages differ from {fold_names(odd.others)} (here / there): {', '.join(lines[:4])}{more}"
        )


def _judge_environment(case: CheckContext) -> Iterator[CheckResult]:
    environments = case.get_section("environment")
    for name, environment in environments.items():
        steering = [key for key in environment if key.startswith(_TORCHRUN_PREFIXES)]
        if steering:
            yield warn(
                name,
                f"the login sets {' '.join(f'{key}={environment[key]}' for key in steering[:3])}, which torchrun uses",
                f"remove it from the login's files there:  {case.format_remote_command(name, f'grep -rn {steering[0]} .bashrc .profile .ssh/environment /etc/environment')}",
            )
        ranks = sorted(_RANKS & set(environment))
        if ranks:
            yield warn(
                name,
                f"the login sets {' '.join(ranks)}: left over from another launcher",
                f"remove it from the login's files there:  {case.format_remote_command(name, f'grep -n {ranks[0]} .bashrc .profile /etc/environment')}",
            )
    shared = {
        name: {
            k: v
            for k, v in environment.items()
            if k.startswith("NCCL_") and not k.endswith(("_IFNAME", "_HCA", "_HOSTID"))
        }
        for name, environment in environments.items()
    }
    for odd in find_outlier_groups(shared):
        keys = sorted(find_differing_keys(odd.value, odd.usual))
        yield warn(
            odd.hosts,
            odd.format_difference(partial(_format_settings, keys)),
            f"NCCL needs the same value on all hosts: set it for all with  --env {keys[0]}=VALUE",
        )
    for odd in find_outlier_groups(
        {name: _select_library_variables(environment) for name, environment in environments.items()}
    ):
        keys = sorted(find_differing_keys(odd.value, odd.usual))
        yield info(
            odd.hosts,
            f"the login sets {odd.format_difference(partial(_format_settings, keys))}",
            f"set it for all with  --env {keys[0]}=VALUE   or for none",
        )


def _select_library_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that select and tune libraries, without those that other checks judge."""
    return {
        key: value
        for key, value in environment.items()
        if key in _LOADED or (key.startswith(_TUNED) and not key.endswith(("_VISIBLE_DEVICES", "_IFNAME")))
    }


def _format_settings(keys: list[str], environment: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={environment[key]}" if key in environment else f"{key} unset" for key in keys[:3])


CHECKS = (
    Check(
        name="bash", group="software", worst="fail", needs=("programs",),
        verifies="bash is on the PATH of the login.",
        why="train.sh runs under bash -o pipefail, so that `torchrun … | tee log.txt` cannot hide a failure.",
        fix="Install bash on the host.",
        judge=_judge_bash,
    ),
    Check(
        name="venv", group="software", worst="fail", needs=("programs",),
        unless=lambda request: "" if request.venv else "no environment given",
        verifies="The directory of --venv is a virtual environment on every host.",
        why="Its bin/ comes first on the PATH of train.sh. Without it, train.sh finds another Python or none.",
        fix="Create the environment at the same path on every host, or omit --venv.",
        judge=_judge_venv,
    ),
    Check(
        name="torchrun", group="software", worst="fail", needs=("programs",),
        verifies="train.sh finds torchrun: in the rehearsal, or else on the PATH of a non-interactive login with --venv.",
        why="“torchrun: not found” is the most common failure. Often ~/.bashrc returns early for a login without a "
        "terminal, so a script does not have the environment of your shell.",
        fix="Put an environment on PATH with --venv DIR, or activate it in train.sh.",
        judge=_judge_torchrun,
    ),
    Check(
        name="interpreter", group="software", worst="fail", needs=("software",),
        verifies="The task's Python has the same minor version on every host.",
        why="Pickled objects and compiled extensions do not work across minor versions.",
        fix="Use the same environment on all hosts.",
        judge=_judge_interpreter,
    ),
    Check(
        name="torch", group="software", worst="fail", needs=("software",),
        verifies="torch is installed in the task's Python, in the same version on every host (looked up, not imported).",
        why="Different versions use different protocols: hangs and “Mismatched NCCL version”.",
        fix="Install the same version with pip on all hosts.",
        judge=_judge_torch,
    ),
    Check(
        name="nccl", group="software", worst="fail", needs=("software",),
        verifies="The NCCL package beside torch has the same version on every host.",
        why="NCCL refuses to start a group with mixed versions.",
        fix="Install the same torch on all hosts; it installs its NCCL.",
        judge=_judge_nccl,
    ),
    Check(
        name="known-bugs", group="software", worst="warn", needs=("software",),
        verifies="torch is not a version that is known to hang when a process group is formed (2.7.0 with device_id). NCCL is not a "
        "version that ends when another program connects to its ports (before 2.27.3).",
        why="All ranks wait for the timeout, or a port scan ends the run, although nothing on the hosts is wrong.",
        fix="Upgrade torch.",
        judge=_judge_known_bugs,
    ),
    Check(
        name="packages", group="software", worst="info", needs=("software",),
        verifies="All installed packages are the same on every host.",
        why="“It works on that host” is often one library of another version.",
        fix="Run pip freeze on one host, and pip install -r on the others.",
        judge=_judge_packages,
    ),
    Check(
        name="environment", group="software", worst="warn", needs=("environment",),
        verifies="The login sets no option of torchrun and no rank, and NCCL settings are equal on all hosts. Different library paths and tuning variables are reported as notes.",
        why="PET_* are options of torchrun: one line in a host's profile changes how the run starts on that host only.",
        fix="Remove them from the host's profile. Set variables for all hosts with --env.",
        judge=_judge_environment,
    ),
)  # fmt: skip
