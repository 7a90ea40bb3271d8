"""Text to ids: bytes plus four signs by default, or a Hugging Face tokenizer."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .errors import UserError, first_line

Messages = Sequence[Mapping[str, str]]
# One of these is in every directory with a tokenizer.
FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")


class Tokenizer(Protocol):
    """The tokenizer interface that the trainer needs."""

    vocab_size: int
    eos: int  # the end sign: what an answer ends with, and where sampling stops
    pad: int  # fills a row behind its end

    def text(self, text: str) -> list[int]:
        """Return the ids of plain text."""

    def chat(self, messages: Messages) -> tuple[list[int], list[int]]:
        """Return (ids up to the last message and its opening sign, ids of the last message and its end sign)."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text without signs."""


class ByteTokenizer:
    """256 bytes, then end/padding 256, mask 257, user 258, assistant 259."""

    vocab_size = 260
    eos = pad = 256
    user = 258
    assistant = 259

    def text(self, text: str) -> list[int]:
        return list(text.encode())

    def chat(self, messages: Messages) -> tuple[list[int], list[int]]:
        prompt: list[int] = []
        for message in messages[:-1]:
            prompt += [self.assistant if message["role"] == "assistant" else self.user, *self.text(message["content"])]
        return [*prompt, self.assistant], [*self.text(messages[-1]["content"]), self.eos]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < 256).decode(errors="replace")


class HuggingFaceTokenizer:
    """Load a directory with a Hugging Face tokenizer and its chat template, through ``transformers``."""

    def __init__(self, path: str) -> None:
        try:
            from transformers import AutoTokenizer, logging  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise UserError(
                f"model.tokenizer_path {path}: needs transformers; type: pip install transformers"
            ) from None
        logging.set_verbosity(40)  # errors only: it warns that it does not know the model beside the tokenizer
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as those about the model's config.json
                self._inner: Any = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        except Exception as error:  # noqa: BLE001
            # A broken tokenizer.json raises a bare Exception; some messages list every model of the library.
            raise UserError(f"model.tokenizer_path {path}: {first_line(error)}") from None
        for name in ("eos_token_id", "chat_template"):
            if getattr(self._inner, name) is None:
                raise UserError(f"model.tokenizer_path {path}: this tokenizer has no {name}, which chats need")
        self.path = path
        self.vocab_size = len(self._inner)
        self.eos: int = self._inner.eos_token_id
        pad = self._inner.pad_token_id
        self.pad: int = self.eos if pad is None else pad

    def text(self, text: str) -> list[int]:
        return list(self._inner(text, add_special_tokens=False)["input_ids"])

    def chat(self, messages: Messages) -> tuple[list[int], list[int]]:
        def shown(part: Messages, opening: bool) -> str:
            text = self._inner.apply_chat_template(list(part), tokenize=False, add_generation_prompt=opening)
            return str(text)

        prompt, whole = shown(messages[:-1], True), shown(messages, False)
        if not whole.startswith(prompt):
            raise UserError(
                f"model.tokenizer_path {self.path}: its chat template renders the messages before an answer differently "
                "when the answer follows, so that the end of the prompt is not known"
            )
        answer = self.text(whole.removeprefix(prompt))
        if self.eos not in answer:
            answer.append(self.eos)  # sampling stops only at the end sign, so each answer must teach it
        return self.text(prompt), answer

    def save(self, directory: str) -> None:
        """Write the files of the tokenizer into ``directory``."""
        self._inner.save_pretrained(directory)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._inner.decode(list(ids), skip_special_tokens=True))


def is_folder(path: str) -> bool:
    """Return whether ``path`` is a directory with a Hugging Face tokenizer."""
    return any(os.path.isfile(os.path.join(path, name)) for name in FILES)


def load(path: str) -> Tokenizer:
    """Return the tokenizer that ``path`` names: ``bytes``, or a directory with a Hugging Face tokenizer."""
    if path == "bytes":
        return ByteTokenizer()
    if not os.path.isdir(path):
        raise UserError(
            f"model.tokenizer_path {path}: no such directory (from {os.getcwd()}); write bytes for the built-in tokenizer"
        )
    if not is_folder(path):
        raise UserError(f"model.tokenizer_path {path}: none of {', '.join(FILES)} is in this directory")
    return HuggingFaceTokenizer(path)
