"""Translations: messages of bash and the C library in other languages, translated to English before they are matched.

bash writes `NAME: line 12: 4711 Killed   COMMAND` in the language of the session: the word for "line", the name of the
signal or the error, and often other colons. Signatures contain only the English form.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from fanout.model.frozen import frozen

_PROCESS = re.compile(r" {0,8}(?:\[\d{1,5}\] {0,4}[-+]? {0,4})?\d{1,9} ")
_COLON = " {0,2}[:：]"


@frozen
class TranslationTable:
    """Translated messages: ``words`` are all of them, ``english`` maps each one to its English message."""

    words: tuple[str, ...]
    plain: tuple[str, ...]  # those that are ASCII, and the ASCII words for "line"
    english: Mapping[str, str]
    reports: frozenset[str]  # those that have other meanings outside the report of a shell
    before: str  # alternatives for the word "line" before a number
    after: str

    @property
    def message(self) -> re.Pattern[str]:
        """Return the pattern of a message that stands anywhere."""
        return _compile_words(tuple(word for word in self.words if word not in self.reports))

    @property
    def report(self) -> re.Pattern[str]:
        """Return the pattern of a message in the report of a shell."""
        return _compile_words(self.words)

    @property
    def head(self) -> re.Pattern[str]:
        """Return the pattern of the place with which a report begins: NAME: line 12:."""
        return _compile_head(self.before, self.after)


@cache
def load_table() -> TranslationTable:
    """Return the table of translations.toml."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    data = tomllib.loads(read_data_file("translations.toml"))
    plain = {word: message for message, words in data["messages"].items() for word in words}
    english = plain | {word: message for message, words in data["reports"].items() for word in words}
    words = sorted(english, key=len, reverse=True)  # a long message may contain a short one
    return TranslationTable(
        words=tuple(words),
        plain=tuple(word for word in (*words, *data["line"]["before"]) if word.isascii() and word != "line"),
        english=english,
        reports=frozenset(english.keys() - plain.keys()),
        before="|".join(data["line"]["before"]),
        after="|".join(data["line"]["after"]),
    )


def read_data_file(name: str) -> str:
    """Return the text of a file of this package."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


@cache  # a long pattern, which few runs need
def _compile_head(before: str, after: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<name>[^:：\s][^:：]{{0,400}}?){_COLON} ?"
        rf"(?:(?:{before}) ?(?P<number>\d{{1,9}})|(?P<first>\d{{1,9}}) ?(?=[行列]))(?: ?(?:{after}))?{_COLON} ?"
    )


@cache
def _compile_words(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"(?:(?P<colon>{_COLON}) ?)?(?P<word>{'|'.join(map(re.escape, words))})")


def translate_line(text: str) -> str:
    """Return the line with the messages of a shell in English; the same line if it has none in another language."""
    table = load_table()
    if text.isascii() and not any(word in text for word in table.plain):
        return text
    text = text.replace("\u00a0", " ")
    head = table.head.match(text)
    if head is not None:
        text = f"{head['name'].rstrip()}: line {head['number'] or head['first']}: {text[head.end() :]}"
    pattern = table.report if head is not None or _PROCESS.match(text) else table.message
    return pattern.sub(_translate_message, text)


def _translate_message(match: re.Match[str]) -> str:
    english = load_table().english[match["word"]]
    return f": {english}" if match["colon"] else english
