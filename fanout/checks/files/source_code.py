"""Check of the code in the work directory: same commit, same changes, same untracked files. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Any

from fanout.checks.engine.comparison import OutlierGroup, find_differing_keys, find_outlier_groups, group_hosts_by_value
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, fail, info, ok, one_host, warn
from fanout.model.hosts import fold_names

_FEW = 20  # files that one command lists by name


def _judge_code(case: CheckContext) -> Iterator[CheckResult]:
    trees = case.get_section("tree")
    for name, row in trees.items():
        if row.get("empty_modules"):
            fetch = f"git -C {quote(case.get_workdir(name))} submodule update --init --recursive"
            yield fail(
                name,
                f"submodule {row['empty_modules'][0]} is empty",
                f"fetch it:  {case.format_remote_command(name, fetch)}",
            )
    heads = {name: tree["head"] for name, tree in trees.items() if "head" in tree}
    for odd in find_outlier_groups(heads):
        yield _judge_commit(case, odd, trees)
    usual = group_hosts_by_value(heads)[0][0] if heads else None
    contents = _collect_contents(case, {name: tree for name, tree in trees.items() if heads.get(name) in (None, usual)})
    for tree in find_outlier_groups(contents):
        yield _judge_files(case, tree, trees)
    for reasons, names in group_hosts_by_value({name: tuple(tree.get("left_out", ())) for name, tree in trees.items()}):
        if reasons:
            yield info(names, f"not all code could be compared: {'; '.join(reasons[:3])}")
    if len(trees) > 1 and len(heads) == len(trees) and len(set(heads.values())) == 1:
        dirty = any(tree["dirty"] for tree in trees.values())
        yield ok(trees, f"{usual} {'with the same changes' if dirty else 'clean'}")


def _judge_commit(case: CheckContext, odd: OutlierGroup[str], trees: Mapping[str, Any]) -> CheckResult:
    """Return the verdict for another commit: a note if no file of code differs, else a failure."""
    first, there = odd.hosts[0], odd.others[0]
    pack = case.format_remote_command(there, f"git -C {quote(case.get_workdir(there))} pack-objects -q --all --stdout")
    take = case.format_remote_command(first, f"git -C {quote(case.get_workdir(first))} index-pack --stdin")
    check_out = case.format_remote_command(first, f"git -C {quote(case.get_workdir(first))} checkout {odd.usual}")
    cure = f"copy the commit:  {pack} </dev/null | {take}   then check it out:  {check_out}   {_advise_sync(case)}"
    same = trees[first].get("code") == trees[there].get("code")
    return (info if same else fail)(
        odd.hosts, f"the code: commit {odd.format_difference()}{' (no code file differs)' if same else ''}", cure
    )


def _collect_contents(case: CheckContext, trees: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return host -> path -> hash of the files to compare, without the files that other checks compare.

    If a host's listing is incomplete, only the files that all hosts listed are compared.
    """
    own = {path.removeprefix("./") for path in (case.request.script, case.request.task, case.request.config)}
    seen = {
        name: {path: value for path, value in {**tree["files"], **tree.get("dirty", {})}.items() if path not in own}
        for name, tree in trees.items()
    }
    if all(tree["whole"] for tree in trees.values()):
        return seen
    changed = {path for tree in trees.values() for path in tree.get("dirty", {})}
    common = set.intersection(*(set(files) for files in seen.values())) | changed
    return {name: {path: value for path, value in files.items() if path in common} for name, files in seen.items()}


def _judge_files(case: CheckContext, odd: OutlierGroup[dict[str, str]], trees: Mapping[str, Any]) -> CheckResult:
    here, there = odd.hosts[0], odd.others[0]
    tracked = {path for name in (here, there) for path in trees[name].get("dirty", {})}
    paths = sorted(find_differing_keys(odd.value, odd.usual))
    words = [f"{path} ({_describe_difference(path, odd, path in tracked)})" for path in paths[:4]]
    more = f", … {len(paths)} in all" if len(paths) > 4 else ""
    return warn(
        odd.hosts,
        f"code differs from {fold_names(odd.others)}: {', '.join(words)}{more}",
        f"{_advise_copy(case, odd, paths, tracked)}   {_advise_sync(case)}",
    )


def _describe_difference(path: str, odd: OutlierGroup[dict[str, str]], tracked: bool) -> str:
    if path not in odd.value:
        return "changed only there" if tracked else "missing"
    if path not in odd.usual:
        return "changed only here" if tracked else "only here"
    return "changed differently" if tracked else "differs"


def _advise_sync(case: CheckContext) -> str:
    """Return the command that makes the code of all hosts equal to that of this machine, from any directory."""
    command = case.commands.build_fanout_command("sync", hosts=True)
    return f"or send the code of this machine to all hosts:  {command} {quote(case.request.workdir)}"


def _advise_copy(case: CheckContext, odd: OutlierGroup[dict[str, str]], paths: list[str], tracked: set[str]) -> str:
    """Return the command that copies the files from another host; files that exist only here go to another host."""
    here, there = odd.hosts[0], odd.others[0]
    held = [path for path in paths if odd.usual.get(path, "deleted" if path not in tracked else "") != "deleted"]
    source, target, chosen = (there, here, held) if held else (here, there, [p for p in paths if p in odd.value])
    folder = case.get_workdir(here)
    if not chosen or len(chosen) > _FEW or case.get_workdir(here) != case.get_workdir(there):
        return f"copy it:  {case.commands.copy_tree(folder, source, target)}"
    more = "   (likewise to the others)" if not held and len(odd.others) > 1 else ""
    return f"copy {'it' if len(chosen) == 1 else 'them'}:  {case.commands.build_copy_command(chosen, source, target, folder)}{more}"


CHECKS = (
    Check(
        name="code", group="files", worst="fail", needs=("tree",), unless=one_host,
        verifies="The code in the work directory is the same on all hosts: the commit, the changed files and the untracked "
        "source files. Ignored files and links count too; without git, all source files are compared. No submodule is "
        "empty. The finding names what was not compared.",
        why="Ranks that import different code hang in a collective, minutes or hours later.",
        fix="Run fanout sync, or git pull on all hosts, or copy the code from one host.",
        judge=_judge_code,
    ),
)  # fmt: skip
