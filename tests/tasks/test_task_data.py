"""Text becomes examples; examples become batches that depend on seed and step alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from llada2 import config, data, sections, text
from llada2.errors import UserError
from llada2.tokenizer import ByteTokenizer, load
from pyarrow import Table, parquet

from tests.tasks.task_places import YAML
from tests.tasks.test_task_tokenizer import TEMPLATE, made

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


def test_padding_is_the_pad_token_and_every_whole_answer_teaches_the_end_sign(tmp_path: Path) -> None:
    """At every length of an answer, also where the text ends with a block; the tokenizer's template has no end sign."""
    plain = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    for template in (plain, TEMPLATE):
        words = load(made(tmp_path / str(len(template)), chat_template=template, pad_token="<unk>"))
        assert (words.eos, words.pad) == (1, 0)
        chats = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b " * n}] for n in range(1, 25)]
        examples = data.pack([words.chat(chat) for chat in chats], 32, 8, words.pad, False, "test")
        learnt = examples.maskable(torch.arange(len(chats)))
        for n, (row, positions) in enumerate(zip(examples.ids, learnt, strict=True), 1):
            prompt = [2, 4, 1, 3] if template == TEMPLATE else [2, 4, 3]
            assert row.tolist() == prompt + [5] * n + [1] + [0] * (31 - len(prompt) - n)
            assert int(((row == 1) & positions).sum()) == 1, n


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


ROWS = [
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": str(i)}], "input_ids": [1, 2, i]}
    | {"prompt_lengths": 1}
    for i in range(3)
]


def write_rows(path: Path) -> None:
    """Write ``ROWS`` in the format that the name demands."""
    if path.suffix == ".parquet":
        parquet.write_table(Table.from_pylist(ROWS), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS, indent=1))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_every_format_holds_the_same_rows(ending: str, tmp_path: Path) -> None:
    """Chats and token ids, from a file and from its directory."""
    write_rows(tmp_path / f"train{ending}")
    for path in (tmp_path, tmp_path / f"train{ending}"):
        assert list(text.chat_pairs(WORDS, str(path), "messages")) == [
            ([258, 97, 259], [ord(str(i)), 256]) for i in range(3)
        ]
        assert list(text.token_pairs(str(path), "input_ids", 260)) == [([1], [2, i]) for i in range(3)]


def test_json_lines_under_the_name_of_json_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("\n".join(json.dumps(row) for row in ROWS))
    assert len(list(text.chat_pairs(WORDS, str(tmp_path), "messages"))) == 3


def test_token_ids_become_examples_with_their_prompt_outside_the_loss(tmp_path: Path) -> None:
    """A row of full length is upstream's; a shorter one is padded here."""
    rows = [{"input_ids": list(range(64)), "prompt_lengths": 10}, {"input_ids": [7] * 20, "prompt_lengths": 3}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = ["--data.train_path", str(tmp_path), "--data.data_type", "tokenid", "--data.text_keys", "null"]
    examples = data.read(settings(*options), WORDS, 260)
    assert examples.ids.tolist() == [list(range(64)), [7] * 20 + [256] * 44]
    assert (examples.start.tolist(), examples.end.tolist()) == ([10, 3], [64, 24])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"input_ids": [1, 2]}, r'a\.jsonl:1: wants {"input_ids": \[ID, …\], "prompt_lengths": N}'),
        ({"input_ids": "12", "prompt_lengths": 1}, r"a\.jsonl:1: wants "),
        ({"input_ids": [1, 260], "prompt_lengths": 1}, "holds 260, which is no id of the model's 260 tokens"),
        ({"input_ids": [1, 2.5], "prompt_lengths": 1}, r"holds 2\.5, which is no id"),
        ({"input_ids": [1, 2], "prompt_lengths": 2}, "prompt_lengths 2 leaves nothing of 2 ids for the answer"),
    ],
)
def test_a_bad_row_of_token_ids_is_named(row: object, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match=words):
        list(text.token_pairs(str(tmp_path), "input_ids", 260))


def test_files_of_other_formats_and_broken_ones_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(UserError, match=r"a\.csv: only \.jsonl, \.json, \.parquet can be read; convert it"):
        list(text.chat_pairs(WORDS, str(tmp_path / "a.csv"), "messages"))
    (tmp_path / "a.parquet").write_text("x" * 20)
    with pytest.raises(UserError, match=r"a\.parquet: not readable as parquet: "):
        list(text.chat_pairs(WORDS, str(tmp_path / "a.parquet"), "messages"))
    (tmp_path / "a.json").write_text("[1,")
    with pytest.raises(UserError, match=r"a\.json: not valid JSON"):
        list(text.chat_pairs(WORDS, str(tmp_path / "a.json"), "messages"))


def test_parquet_without_pyarrow_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"a\.parquet: parquet needs pyarrow; type: pip install pyarrow"):
        list(text.chat_pairs(WORDS, str(tmp_path), "messages"))


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
    with pytest.raises(UserError, match=r"no file that ends in \.jsonl or \.json or \.parquet"):
        list(text.chat_pairs(WORDS, str(tmp_path), "messages"))
    with pytest.raises(UserError, match="0 usable examples"):
        data.pack([], 8, 8, 0, False, "t")
    with pytest.raises(UserError, match="write bytes for the built-in tokenizer"):
        load("nowhere")


def test_bytes_survive_the_tokenizer() -> None:
    assert WORDS.decode(WORDS.text("naïve ⊕")) == "naïve ⊕"
