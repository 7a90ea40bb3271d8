"""A Hugging Face tokenizer: what it must have, and that an answer begins where its prompt ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from llada2 import tokenizer
from llada2.errors import UserError

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CHAT = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "b"}]


def made(path: Path, **changes: Any) -> str:
    """Make a directory with a tokenizer of words, as ``save_pretrained`` writes it."""
    words = ["<unk>", "</s>", "<user>", "<assistant>", "a", "b"]
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    inner.add_special_tokens(words[1:4])
    options = {"eos_token": "</s>", "unk_token": "<unk>", "chat_template": TEMPLATE} | changes
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(tokenizer_object=inner, **options).save_pretrained(path)
    return str(path)


def test_a_chat_is_cut_where_the_answer_begins(tmp_path: Path) -> None:
    words = tokenizer.load(made(tmp_path))
    assert (words.vocab_size, words.eos) == (6, 1)
    assert words.chat(CHAT) == ([2, 4, 5, 1, 3], [5, 1])
    assert words.decode([4, 5, 1]) == "a b"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"eos_token": None}, "has no eos_token_id"), ({"chat_template": None}, "has no chat_template")],
)
def test_a_tokenizer_that_lacks_something_is_refused_in_one_line(
    changes: dict[str, None], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        tokenizer.load(made(tmp_path, **changes))


def test_chat_template_that_rewrites_earlier_turns_is_refused(tmp_path: Path) -> None:
    """Such as one that drops earlier thoughts: a cut by length would train on the wrong tokens."""
    words = tokenizer.load(made(tmp_path, chat_template="{{ messages | length }} " + TEMPLATE))
    with pytest.raises(UserError, match="the end of the prompt is not known"):
        words.chat(CHAT)


def test_a_directory_without_a_tokenizer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        tokenizer.load(str(tmp_path))
    assert str(caught.value) == (
        f"model.tokenizer_path {tmp_path}: none of tokenizer.json, tokenizer_config.json, tokenizer.model, "
        "vocab.json, vocab.txt is in this directory"
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "not JSON"),
        ("tokenizer_config.json", "{}"),
        ("tokenizer_config.json", '{"tokenizer_class": "Unknown"}'),
        ("vocab.txt", "a"),
    ],
)
def test_a_broken_tokenizer_is_one_short_line(name: str, content: str, tmp_path: Path) -> None:
    """The library's message may list all its models in 4,000 characters."""
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        tokenizer.load(str(tmp_path))
    text = str(caught.value)
    assert text.startswith(f"model.tokenizer_path {tmp_path}: ")
    assert "\n" not in text
    assert len(text) < 200 + len(str(tmp_path))


def test_an_answer_without_an_end_sign_gets_one_and_padding_is_the_pad_token(tmp_path: Path) -> None:
    words = tokenizer.load(made(tmp_path / "one", chat_template=TEMPLATE.replace("</s>", ""), pad_token="<unk>"))
    assert words.chat(CHAT) == ([2, 4, 5, 3], [5, 1])
    assert (words.eos, words.pad) == (1, 0)
    assert tokenizer.load(made(tmp_path / "two")).pad == 1
