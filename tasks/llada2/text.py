"""Text sources: Python's own documentation, rows of chats or of token ids, or plain text files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

from . import rows
from .errors import UserError
from .tokenizer import Messages, Tokenizer

# (ids of the prompt, which is never masked; ids of the response)
Pair = tuple[list[int], list[int]]


def pydoc_pairs(tokenizer: Tokenizer, length: int) -> Iterator[Pair]:
    """Read the topics of ``help()``, which Python contains: the user names a topic, the answer is a piece of its text.

    Only a topic's last piece carries the end sign. The text differs between Python versions.
    """
    from pydoc_data.topics import topics

    for topic, text in sorted(topics.items()):
        prompt, answer = tokenizer.chat([{"role": "user", "content": topic}, {"role": "assistant", "content": text}])
        room = length - len(prompt)
        for start in range(0, len(answer) if room > 0 else 0, max(room, 1)):
            yield prompt, answer[start : start + room]


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
    """Read one pair from each row: all messages before the last are the prompt."""
    for where, row in rows.read_rows(path):
        yield tokenizer.chat(_messages(row, key, where))


def token_pairs(path: str, key: str, vocab_size: int) -> Iterator[Pair]:
    """Read one pair from each row of ids, of which the first ``prompt_lengths`` are the prompt."""
    for where, row in rows.read_rows(path):
        ids, prompt = (row.get(key), row.get("prompt_lengths")) if isinstance(row, dict) else (None, None)
        if not isinstance(ids, list) or not _is_count(prompt):
            raise UserError(f'{where}: wants {{"{key}": [ID, …], "prompt_lengths": N}}, as data_type tokenid demands')
        wrong = next((one for one in ids if not _is_count(one) or one >= vocab_size), None)
        if wrong is not None:
            raise UserError(f"{where}: {key} holds {wrong!r}, which is no id of the model's {vocab_size} tokens")
        if prompt >= len(ids):
            raise UserError(f"{where}: prompt_lengths {prompt} leaves nothing of {len(ids)} ids for the answer")
        yield ids[:prompt], ids[prompt:]


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def plain_pairs(tokenizer: Tokenizer, path: str, length: int) -> Iterator[Pair]:
    """Cut text files into pieces of ``length`` without any prompt."""
    for name in rows.find_files(path, (".txt", ".md", ".rst")):
        with rows.report_unreadable(name), open(name, encoding="utf-8", errors="replace") as stream:
            ids = [*tokenizer.text(stream.read()), tokenizer.eos]
        for start in range(0, len(ids), length):
            yield [], ids[start : start + length]
