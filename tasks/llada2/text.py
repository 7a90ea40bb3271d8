"""Text sources: Python's own documentation, jsonl files of chats, or plain text files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import UserError
from .tokenizer import Messages, Tokenizer

# (ids of the prompt, which is never masked; ids of the response)
Pair = tuple[list[int], list[int]]


def pydoc_pairs(tokenizer: Tokenizer, length: int) -> Iterator[Pair]:
    """Topics of ``help()``, present wherever Python is: the user names a topic, the answer is a piece of its text.

    Only a topic's last piece carries the end sign. The text differs between Python versions.
    """
    from pydoc_data.topics import topics

    for topic, text in sorted(topics.items()):
        prompt, answer = tokenizer.chat([{"role": "user", "content": topic}, {"role": "assistant", "content": text}])
        room = length - len(prompt)
        for start in range(0, len(answer) if room > 0 else 0, max(room, 1)):
            yield prompt, answer[start : start + room]


def _files(path: str, endings: tuple[str, ...]) -> list[str]:
    """Files named by ``path``: a file, a directory or a comma list of them."""
    found: list[str] = []
    for part in filter(None, (p.strip() for p in path.split(","))):
        if os.path.isdir(part):
            inside = sorted(name for name in os.listdir(part) if name.endswith(endings))
            if not inside:
                raise UserError(f"data.train_path {part}: no file that ends in {' or '.join(endings)}")
            found += [os.path.join(part, name) for name in inside]
        elif os.path.isfile(part):
            found.append(part)
        else:
            raise UserError(f"data.train_path {part}: no such file or directory (from {os.getcwd()})")
    return found


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Report in one line a file that cannot be read, or is not text."""
    try:
        yield
    except OSError as error:
        raise UserError(f"data.train_path {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"data.train_path {name}: not text in UTF-8") from None


def _messages(row: object, key: str, where: str) -> Messages:
    messages = row.get(key) if isinstance(row, dict) else None
    if not isinstance(messages, list) or len(messages) < 2:
        raise UserError(f'{where}: wants {{"{key}": [{{"role": …, "content": …}}, …]}} with two messages or more')
    for message in messages:
        if not isinstance(message, dict) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise UserError(f"{where}: every message wants a role and a content, both text")
    if messages[-1]["role"] != "assistant":
        raise UserError(f"{where}: the last message must be the assistant's, not {messages[-1]['role']!r}")
    return messages


def chat_pairs(tokenizer: Tokenizer, path: str, key: str) -> Iterator[Pair]:
    """Read one pair from each line of jsonl: all messages before the last are the prompt."""
    for name in _files(path, (".jsonl",)):
        with _readable(name), open(name, encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise UserError(f"{name}:{number}: not valid JSON: {error}") from None
                yield tokenizer.chat(_messages(row, key, f"{name}:{number}"))


def plain_pairs(tokenizer: Tokenizer, path: str, length: int) -> Iterator[Pair]:
    """Text files cut into pieces of ``length``, without any prompt."""
    for name in _files(path, (".txt", ".md", ".rst")):
        with _readable(name), open(name, encoding="utf-8", errors="replace") as stream:
            ids = [*tokenizer.text(stream.read()), tokenizer.eos]
        for start in range(0, len(ids), length):
            yield [], ids[start : start + length]
