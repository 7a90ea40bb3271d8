"""Text becomes examples; examples become batches that depend on seed and step alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from llada2 import config, data, sections, text
from llada2.errors import UserError
from llada2.tokenizer import ByteTokenizer, load

from tests.tasks.task_places import YAML

WORDS = ByteTokenizer()


def settings(*overrides: str) -> sections.Config:
    return config.load([YAML, *overrides], 1)


def steps(rank: int, world: int) -> data.Steps:
    pairs = [([258, 65, 259], list(range(i, i + 40))) for i in range(50)]
    examples = data.pack(pairs, 64, 8, WORDS.eos, False, "test")
    rows, _ = data.split(len(examples), 0.05, 256)
    return data.Steps(examples, rows, settings(), 16, rank, world)


@pytest.mark.parametrize("world", [2, 4, 8])
def test_the_ranks_slices_put_together_are_the_global_batch(world: int) -> None:
    for step in (0, 1, 7):
        whole = steps(0, 1)[step]
        parts = [steps(rank, world)[step] for rank in range(world)]
        for name in ("ids", "masked", "maskable", "t"):
            assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(whole, name))


def test_a_step_is_the_same_whenever_and_in_whatever_order_it_is_drawn() -> None:
    forward, backward = steps(0, 1), steps(0, 1)
    a = [forward[s].ids for s in range(6)]
    b = [backward[s].ids for s in reversed(range(6))][::-1]
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a[0], a[1])


def test_an_epoch_shows_each_example_at_most_once_and_the_next_in_another_order() -> None:
    source = steps(0, 1)
    seen = torch.cat([source[s].ids for s in range(source.per_epoch)])
    assert len(torch.unique(seen, dim=0)) == len(seen)
    assert not torch.equal(source[0].ids, source[source.per_epoch].ids)


def test_noise_lies_in_its_range_and_masks_that_share_of_the_response_and_never_the_prompt() -> None:
    source = steps(0, 1)
    batches = [source[s] for s in range(40)]
    t = torch.cat([b.t for b in batches])
    assert float(t.min()) >= 0.3
    assert float(t.max()) <= 0.8
    masked = torch.cat([b.masked for b in batches])
    maskable = torch.cat([b.maskable for b in batches])
    assert not (masked & ~maskable).any()
    assert not maskable[:, :3].any()
    share = masked.sum(1) / maskable.sum(1)
    assert float((share - t).abs().mean()) < 0.08


def test_a_responses_end_is_rounded_up_to_a_whole_block_unless_all_padding_is_wanted() -> None:
    pairs = [([258, 259], [1] * 9), ([258, 259], [1] * 99)]
    examples = data.pack(pairs, 64, 8, 256, False, "test")
    assert examples.end.tolist() == [16, 64]
    assert examples.ids[0, 11:].tolist() == [256] * 53
    assert examples.ids[1].tolist() == [258, 259] + [1] * 62
    assert data.pack(pairs, 64, 8, 256, True, "test").end.tolist() == [64, 64]


def test_training_and_validation_rows_share_nothing() -> None:
    train, held_out = data.split(100, 0.05, 3)
    assert not set(train.tolist()) & set(held_out.tolist())
    assert (len(train), held_out.tolist()) == (95, [19, 39, 59])
    assert [len(part) for part in data.split(2, 0.05, 9)] == [1, 1]


def test_the_digest_distinguishes_texts() -> None:
    one, same, other = (data.pack([([], [1, 2]), ([], [3, n])], 8, 8, 256, False, "t").digest for n in (4, 4, 5))
    assert one == same != other


def test_unigram_surprise_is_the_smoothed_frequency_of_response_tokens() -> None:
    examples = data.pack([([5], [1] * 8), ([5], [1] * 8)], 9, 9, 2, False, "t")
    surprise = data.unigram(examples, torch.tensor([0, 1]), 4)
    expected = -torch.log(torch.tensor([1, 17, 1, 1]).double() / 20)
    torch.testing.assert_close(surprise, expected)


def test_pythons_documentation_is_cut_so_that_every_piece_fits_and_nothing_is_lost() -> None:
    from pydoc_data.topics import topics

    pairs = list(text.pydoc_pairs(WORDS, 64))
    assert all(len(prompt) + len(answer) <= 64 for prompt, answer in pairs)
    ours = [token for prompt, answer in pairs if prompt == [258, *b"assert", 259] for token in answer]
    assert WORDS.decode(ours) == topics["assert"]
    assert ours[-1] == WORDS.eos


def test_a_chats_last_message_is_the_response_and_all_before_it_is_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    messages = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    path.write_text(json.dumps({"messages": [{"role": r, "content": c} for r, c in messages]}) + "\n\n")
    assert list(text.chat_pairs(WORDS, str(tmp_path), "messages")) == [
        ([258, 97, 259, 98, 258, 99, 259], [100, 256]),
    ]


def test_plain_files_are_cut_into_pieces_without_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcd")
    assert list(text.plain_pairs(WORDS, str(tmp_path), 3)) == [([], [97, 98, 99]), ([], [100, 256])]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", r"bad\.jsonl:1: not valid JSON"),
        ("{}", r"bad\.jsonl:1: wants .*two messages or more"),
        ('{"messages": [{"role": "user"}, {"role": "assistant", "content": "x"}]}', "wants a role and a content"),
        (
            '{"messages": [{"role": "user", "content": ""}, {"role": "user", "content": "x"}]}',
            "must be the assistant's",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "bad.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=words):
        list(text.chat_pairs(WORDS, str(tmp_path / "bad.jsonl"), "messages"))


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"data\.train_path .*bad\.jsonl: not text in UTF-8"):
        list(text.chat_pairs(WORDS, str(tmp_path), "messages"))


def test_missing_files_empty_directories_and_missing_tokenizers_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or directory"):
        list(text.chat_pairs(WORDS, "nowhere.jsonl", "messages"))
    with pytest.raises(UserError, match=r"no file that ends in \.jsonl"):
        list(text.chat_pairs(WORDS, str(tmp_path), "messages"))
    with pytest.raises(UserError, match="0 usable examples"):
        data.pack([], 8, 8, 0, False, "t")
    with pytest.raises(UserError, match="write bytes for the built-in tokenizer"):
        load("nowhere")


def test_bytes_survive_the_tokenizer() -> None:
    assert WORDS.decode(WORDS.text("naïve ⊕")) == "naïve ⊕"
