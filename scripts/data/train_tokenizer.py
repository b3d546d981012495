#!/usr/bin/env python3
"""Train data/tokenizer/tokenizer.json on the training splits, and measure it on the held-out ones.

    python3 train_tokenizer.py [--data DIR] [--bytes N]

A byte-level BPE of 8,192 tokens. Every source gives the same number of bytes (--bytes), whole
documents in the order of a hash of their id, so that each has the same say in the merges.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

SOURCES = ["english", "chinese", "code", "math"]
VOCABULARY = 8_192
SPECIAL = ["<|endoftext|>", "<|pad|>"]
# Llama 3's pattern, but every digit stands alone.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read(data: Path, source: str, part: str) -> list[dict]:
    return pq.read_table(data / source / f"{part}.parquet").to_pylist()


def sample(documents: list[dict], size: int) -> list[str]:
    texts, total = [], 0
    for document in sorted(documents, key=lambda d: hashlib.blake2b(d["id"].encode()).digest()):
        if total >= size:
            break
        texts.append(document["text"])
        total += len(document["text"].encode())
    return texts


def train(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=16,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "data")
    parser.add_argument("--bytes", type=int, default=6_000_000, help="bytes of each source (default: %(default)s)")
    options = parser.parse_args()

    texts = [text for source in SOURCES for text in sample(read(options.data, source, "train"), options.bytes)]
    tokenizer = train(texts)
    assert tokenizer.get_vocab_size(with_added_tokens=True) == VOCABULARY
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1]
    assert set(pre_tokenizers.ByteLevel.alphabet()) <= set(tokenizer.get_vocab())

    folder = options.data / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIAL[0],
        "pad_token": SPECIAL[1],
        "model_max_length": 4096,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration, indent=2) + "\n")

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    measured = {}
    for source in SOURCES:
        texts = [document["text"] for document in read(options.data, source, "held-out")]
        encodings = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
        for text, ids in zip(texts, encodings):
            assert tokenizer.decode(ids, skip_special_tokens=False) == text, text[:80]
        size, tokens = sum(len(text.encode()) for text in texts), sum(map(len, encodings))
        measured[source] = {"bytes": size, "tokens": tokens, "bytes_per_token": round(size / tokens, 3)}
        train_texts = [document["text"] for document in read(options.data, source, "train")]
        measured[source]["train_tokens"] = sum(
            len(encoding.ids) for start in range(0, len(train_texts), 256)
            for encoding in tokenizer.encode_batch(train_texts[start : start + 256], add_special_tokens=False)
        )  # fmt: skip
        print(source, measured[source], file=sys.stderr)
    statistics_path = options.data / "statistics.json"
    statistics = json.loads(statistics_path.read_text())
    statistics["tokenizer"] = {"vocabulary": VOCABULARY, "held-out": measured}
    statistics_path.write_text(json.dumps(statistics, indent=1) + "\n")


if __name__ == "__main__":
    main()
