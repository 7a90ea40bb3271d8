"""Write a random model, its tokenizer and a dataset: ``make_tiny_model.py DIRECTORY``. Nothing is downloaded."""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

there = Path(sys.argv[1])
words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(60))]
inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
inner.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
)
config = LlamaConfig(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=2,
)
LlamaForCausalLM(config).save_pretrained(there / "tiny")
tokenizer.save_pretrained(there / "tiny")
(there / "data").mkdir()
rows = [json.dumps({"text": " ".join(f"w{(row * 7 + word) % 60}" for word in range(12))}) for row in range(400)]
(there / "data" / "train.jsonl").write_text("\n".join(rows) + "\n")
