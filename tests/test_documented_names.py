"""Developer docs and docstrings name files, functions and classes that exist."""

from __future__ import annotations

import ast
import builtins
import re
from functools import cache

import pytest

from tests.sources import FOLDERS, ROOT, all_of_fanout, comments_and_docstrings, list_nodes, read_modules

PAGES = ("docs/architecture.md", "CONTRIBUTING.md")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
FILE = re.compile(r"(?<![\w./-])[\w./-]+\.(?:py|toml|md|sh)(?![\w.])|(?<![\w./-])[\w-]+(?:/[\w-]+)*/(?=`)")
NAME = re.compile(r"(?<![\w./-])([A-Za-z_]\w*)\.([A-Za-z_]\w*)(?![\w./-])")
CLASS = re.compile(r"(?<![\w.])[A-Z][a-z]+[A-Z]\w+")
RAISES = re.compile(r"\b[Rr]aises? (?:an? )?`*([A-Z][a-z]\w+)")
PYTHON_FILE = re.compile(r"(?<![\w./*-])(\w+\.py)\b")
#: What looks like a name of fanout, and is none: files of a user, module names of Python.
OTHER_FILES = {"train.sh", "fanout.toml", "task.py"}
FILE_ENDINGS = {"py", "toml", "md", "sh", "txt", "yaml", "json", "jsonl", "log", "log_dir"}
OTHER_NAMES = {"sys.path", "fanout.cli"}


@cache
def known_names() -> dict[str, set[str]]:
    """Return module name or class name -> the names in it."""
    found: dict[str, set[str]] = {}
    for module in all_of_fanout():
        names = found.setdefault(module.name.rpartition(".")[2], set())
        for node in list_nodes(module):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).update(list_members(node))
        targets = (node for node in module.tree.body if isinstance(node, (ast.Assign, ast.AnnAssign)))
        for node in targets:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                names |= {target.id} if isinstance(target, ast.Name) else set()
    return found


def list_members(node: ast.ClassDef) -> set[str]:
    """Return the methods and annotated fields of a class."""
    fields = {one.target.id for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)}
    return fields | {one.name for one in node.body if isinstance(one, ast.FunctionDef)}


def find_missing(text: str) -> list[str]:
    """Return the files, names and classes in the code spans of a page that do not exist."""
    missing = []
    for span in CODE.findall(text):
        for path in FILE.findall(span):
            if path not in OTHER_FILES and not any((ROOT / top / path).exists() for top in ("", "fanout")):
                missing.append(path)
        for owner, name in NAME.findall(span):
            wanted = f"{owner}.{name}" not in OTHER_NAMES and name not in FILE_ENDINGS
            if wanted and name not in known_names().get(owner, set()):
                missing.append(f"{owner}.{name}")
        missing += [name for name in CLASS.findall(span) if name not in known_names()]
    return missing


@pytest.mark.parametrize("page", [page for page in PAGES if (ROOT / page).exists()])
def test_files_and_names_in_the_developer_docs_exist(page: str) -> None:
    assert not find_missing((ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "wrong", ["model/gone.py", "state.fold_everything", "GoneClass", "RunState.gone", "gone_folder/"]
)
def test_a_name_that_does_not_exist_is_found(wrong: str) -> None:
    assert find_missing(f"See `{wrong}` and `model/state.py`, `state.apply_event`, `RunState.order`.") == [wrong]


#: Files that docstrings name, and that are not of this project.
FOREIGN_FILES = {"email.py"}


def test_docstrings_and_comments_name_files_and_exceptions_that_exist() -> None:
    modules = read_modules(*FOLDERS)
    files = {module.path.rpartition("/")[2] for module in modules} | FOREIGN_FILES
    classes = {node.name for module in modules for node in list_nodes(module) if isinstance(node, ast.ClassDef)}
    classes |= set(dir(builtins)) | {"TimeoutExpired"}
    missing = []
    for module in modules:
        for text in comments_and_docstrings(module):
            raised = RAISES.findall(text)
            missing += [f"{module.path}: {name}" for name in raised if name not in classes]
            missing += [f"{module.path}: {name}" for name in PYTHON_FILE.findall(text) if name not in files]
    assert not missing
