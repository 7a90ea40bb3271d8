"""Limits of size, names and prose that only tighten: each number is the present one, and a lower one is welcome.

A test fails when a count rises above its limit, and also when it falls clearly below: then the limit must be lowered.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable

import pytest

from tests.sources import (
    FOLDERS,
    ROOT,
    Module,
    all_of_fanout,
    comments_and_docstrings,
    functions_of,
    list_nodes,
    read_modules,
)

LONGEST_FILE = 350
LONGEST_FUNCTION = 60
#: Percent of the public functions and methods of fanout whose name is one word.
MOST_ONE_WORD_NAMES = 17.0
MOST_BANNED_NAMES = 8
#: Helpers of the tests whose name is one word, and names in the tests with a banned word.
MOST_ONE_WORD_HELPERS = 104
#: Names that an interface of Python or of fanout gives to a helper.
GIVEN_NAMES = {"main", "read", "write", "open", "close", "isatty", "append", "random", "randrange", "ask", "cancel"}
MOST_BANNED_TEST_NAMES = 13
MOST_TABLES = 190  # literal tables that are laid out by hand
SLACK = 10  # a limit may stand this far above the count

#: Words that hide the actor, speak of data as speech, or are metaphors.
BANNED = re.compile(
    r"\b(whoever|whomever|whom|nobody|somebody|everybody|anybody|no one|in vain|for ever|for want of|let go of"
    r"|looked over|taken up|told|tells?|said|says|hears?|heard|worn|mend(?:s|ed)?|gist|comes to|came to|is to be had"
    r"|what became|laid at|of its own accord|house|rooms|floors?|doors?|witness|suspects?|curtain|audience)\b",
    re.IGNORECASE,
)
#: The same for names, and metaphors that were variable names once.
BANNED_NAME = re.compile(
    r"(?:^|_)(whoever|whom|nobody|somebody|everybody|told|tells?|said|says|heard|unheard|hears?|mend|gist|witness|suspects?"
    r"|curtain|audience|farewell|glance|valve|desk|painter|gossip|fan|beat|story)(?:_|$)"
)
#: A docstring of a function starts with a verb; these first words are none.
NO_VERBS = re.compile(
    r"(What|Whether|Where|When|Who|Whose|Which|Why|How|Is|Are|Does|Do|Did|Has|Have|Can|Must|Should|May|Was|Were|The|A|An|One"
    r"|All|Every|Each|Any|No|Not|Nothing|It|This|That|These|There|For|From|In|On|At|By|Of|To|With|Without|As|And|So|Only"
    r"|Names?|True|False|None|Everything|Everybody|Both|Two|Three|Same|Our|Its|If)\b"
)
#: (folder, banned words in docstrings and comments, docstrings without a leading verb)
LIMITS = {"fanout": (0, 0), "tests": (2, 0), "tasks": (0, 0), "bench": (0, 0)}


def messages_of(module: Module) -> list[str]:
    """Return the texts of one file that may reach a user: string constants that are no docstring."""
    docs = {
        ast.get_docstring(node, clean=False)
        for node in list_nodes(module)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
    }
    strings = (
        node.value for node in list_nodes(module) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return [text for text in strings if text not in docs and " " in text]


def count_banned(texts: list[str]) -> int:
    return sum(len(BANNED.findall(text)) for text in texts)


def test_user_visible_text_has_no_banned_word() -> None:
    """Messages, hints, help and reports of fanout."""
    found = [
        f"{module.path}: {text[:100]!r}"
        for module in all_of_fanout()
        for text in messages_of(module)
        if BANNED.search(text)
    ]
    assert not found


DOCS = [str(one.relative_to(ROOT)) for one in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("path", sorted(DOCS))
def test_the_docs_have_no_banned_word(path: str) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", (ROOT / path).read_text(encoding="utf-8"), flags=re.DOTALL)
    found = [line for line in text.splitlines() if BANNED.search(line)]
    assert not found


@pytest.mark.parametrize("folder", FOLDERS)
def test_prose_of_the_code_only_gets_plainer(folder: str) -> None:
    modules = read_modules(folder)
    banned = sum(count_banned(comments_and_docstrings(module)) for module in modules)
    documented = [
        ast.get_docstring(node) or ""
        for module in modules
        for node in functions_of(module)
        if not node.name.startswith("test_")
    ]
    verbless = sum(bool(NO_VERBS.match(text)) for text in documented)
    for count, limit in zip((banned, verbless), LIMITS[folder], strict=True):
        assert limit - SLACK <= count <= limit, f"{folder}: {count}, the limit is {limit}"


def test_names_have_no_banned_word() -> None:
    """Names of variables, parameters, fields and functions of fanout; most of those left are in fanout/diagnose."""
    names = _find_banned_names(all_of_fanout())
    assert len(names) <= MOST_BANNED_NAMES, sorted(names)


def test_names_in_the_tests_only_get_plainer() -> None:
    names = _find_banned_names(read_modules("tests"))
    assert MOST_BANNED_TEST_NAMES - SLACK <= len(names) <= MOST_BANNED_TEST_NAMES, sorted(names)


def _find_banned_names(modules: Iterable[Module]) -> set[str]:
    return {
        name
        for module in modules
        for node in list_nodes(module)
        for name in (
            getattr(node, "id", ""),
            getattr(node, "arg", ""),
            getattr(node, "attr", ""),
            getattr(node, "name", ""),
        )
        if isinstance(name, str) and BANNED_NAME.search(name)
    }


def test_public_function_names_have_a_verb_and_an_object() -> None:
    """The Python API has the names of the commands: ``fanout.run`` is ``fanout run``."""
    modules = [module for module in all_of_fanout() if module.package != "api"]
    names = [node.name for module in modules for node in functions_of(module) if not node.name.startswith("_")]
    one_word = [name for name in names if "_" not in name]
    assert len(names) > 500
    assert 100 * len(one_word) / len(names) <= MOST_ONE_WORD_NAMES


def test_helpers_of_the_tests_only_get_plainer_names() -> None:
    """A fixture or a property is a noun, and an interface gives the names of its methods."""
    helpers = [
        f"{module.path}: {node.name}"
        for module in read_modules("tests")
        for node in functions_of(module)
        if "_" not in node.name.strip("_")
        and not node.name.startswith("__")
        and node.name not in GIVEN_NAMES
        and not any(re.search(r"fixture|property", ast.unparse(each)) for each in node.decorator_list)
    ]
    assert MOST_ONE_WORD_HELPERS - SLACK <= len(helpers) <= MOST_ONE_WORD_HELPERS, (len(helpers), helpers)


def test_no_file_is_longer_than_350_lines() -> None:
    assert not [module.path for module in read_modules(*FOLDERS) if module.lines > LONGEST_FILE]


def test_no_function_is_longer_than_60_lines() -> None:
    long = [
        f"{module.path}:{node.name}"
        for module in read_modules(*FOLDERS)
        for node in functions_of(module)
        if node.end_lineno is not None and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert not long


def _holds_table(node: ast.AST) -> bool:
    """Return whether a statement holds a literal table: rows in a list, a dict of entries, or a long list."""
    for each in ast.walk(node):
        if isinstance(each, ast.Dict) and len(each.keys) > 2:
            return True
        if isinstance(each, (ast.List, ast.Tuple, ast.Set)) and each.elts:
            rows = [row for row in each.elts if isinstance(row, (ast.Tuple, ast.List, ast.Dict, ast.Call))]
            if len(each.elts) > 7 or (len(rows) > 2 and 2 * len(rows) > len(each.elts)):
                return True
    value = node.value if isinstance(node, ast.Assign) else None  # a table of the checks may have one row
    return isinstance(value, ast.Tuple) and all(isinstance(row, (ast.Call, ast.Tuple)) for row in value.elts)


def _find_formatted_by_hand(module: Module) -> list[tuple[int, ast.stmt | ast.expr]]:
    """Return the line of each comment that switches the formatter off, with its statement or decorator."""
    text = (ROOT / module.path).read_text(encoding="utf-8")
    comments = [
        token.start[0]
        for token in (tokenize.generate_tokens(io.StringIO(text).readline) if "# fmt:" in text else ())
        if token.type == tokenize.COMMENT and re.match(r"#\s*fmt:", token.string)
    ]
    nodes: list[ast.stmt | ast.expr] = []
    for node in list_nodes(module) if comments else ():
        if isinstance(node, (ast.For, ast.With, ast.If, ast.While)):
            nodes += [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr)]
        elif isinstance(node, ast.stmt):
            nodes += [node, *getattr(node, "decorator_list", ())]
    found = []
    for line in comments:
        around = [node for node in nodes if node.lineno <= line <= (node.end_lineno or 0)]
        found.append((line, min(around, key=lambda node: (node.end_lineno or 0) - node.lineno)))
    return found


def test_the_formatter_is_switched_off_only_for_tables() -> None:
    found = [(module.path, *each) for module in read_modules(*FOLDERS) for each in _find_formatted_by_hand(module)]
    assert [f"{path}:{line}" for path, line, node in found if not _holds_table(node)] == []
    assert MOST_TABLES - SLACK <= len(found) <= MOST_TABLES, len(found)


def test_every_module_has_a_docstring() -> None:
    assert not [one.path for one in read_modules(*FOLDERS) if one.tree.body and not ast.get_docstring(one.tree)]


def test_frozen_classes_use_the_decorator_that_costs_little_at_import() -> None:
    """The decorator of the standard library takes 1.2 ms per class, @frozen of fanout/model/frozen.py 0.1 ms."""
    slow = {"frozen=True", "slots=True", "kw_only=True"}
    for module in read_modules("fanout"):
        for kind in (node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)):
            calls = [call for call in kind.decorator_list if isinstance(call, ast.Call)]
            assert not any(slow <= {ast.unparse(word) for word in call.keywords} for call in calls), (
                f"{module.path} {kind.name}: use @frozen"
            )
