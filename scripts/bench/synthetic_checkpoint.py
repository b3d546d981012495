#!/usr/bin/env python3
"""Makes a Hugging Face folder with the shape of Yi-6B and random bf16 values, in shards.

    scripts/bench/synthetic_checkpoint.py OUTPUT [--layers 32] [--shard-gb 5]

6,061,035,520 parameters, 12.1 GB. Needs nothing but Python. The values are finite: the pattern of
random bytes has its exponents' top bits cleared, so that a reader may compute with them.
"""

import argparse
import json
import os
import random
import struct

SHAPE = dict(hidden_size=4096, intermediate_size=11008, num_attention_heads=32,
             num_key_value_heads=4, vocab_size=64000)


def tensors(layers):
    hidden, mlp, vocab = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["vocab_size"]
    keys = hidden // SHAPE["num_attention_heads"] * SHAPE["num_key_value_heads"]
    yield "model.embed_tokens.weight", [vocab, hidden]
    for layer in range(layers):
        name = f"model.layers.{layer}."
        yield name + "input_layernorm.weight", [hidden]
        yield name + "self_attn.q_proj.weight", [hidden, hidden]
        yield name + "self_attn.k_proj.weight", [keys, hidden]
        yield name + "self_attn.v_proj.weight", [keys, hidden]
        yield name + "self_attn.o_proj.weight", [hidden, hidden]
        yield name + "post_attention_layernorm.weight", [hidden]
        yield name + "mlp.gate_proj.weight", [mlp, hidden]
        yield name + "mlp.up_proj.weight", [mlp, hidden]
        yield name + "mlp.down_proj.weight", [hidden, mlp]
    yield "model.norm.weight", [hidden]
    yield "lm_head.weight", [vocab, hidden]


def size(shape):
    count = 2
    for extent in shape:
        count *= extent
    return count


def shards(everything, limit):
    shard, used = [], 0
    for name, shape in everything:
        if shard and used + size(shape) > limit:
            yield shard
            shard, used = [], 0
        shard.append((name, shape))
        used += size(shape)
    yield shard


def noise(seed):
    """64 MiB of bf16 values between -2 and 2; each tensor reads them from another place."""
    block = bytearray(random.Random(seed).randbytes(64 << 20))
    block[1::2] = bytes(block[1::2]).translate(bytes(b & 0xBF for b in range(256)))
    return bytes(block)


def write(path, shard, block, rng):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shard:
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size(shape)]}
        offset += size(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape in shard:
            left = size(shape)
            start = rng.randrange(len(block) // 2) * 2
            while left:
                part = block[start:start + left]
                file.write(part)
                left -= len(part)
                start = 0
        file.flush()
        os.fsync(file.fileno())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--shard-gb", type=float, default=5.0)
    arguments = parser.parse_args()
    os.makedirs(arguments.output)
    rng, block = random.Random(1), noise(2)
    parts = list(shards(tensors(arguments.layers), arguments.shard_gb * 1e9))
    weight_map, total = {}, 0
    for index, shard in enumerate(parts):
        name = f"model-{index + 1:05}-of-{len(parts):05}.safetensors"
        write(os.path.join(arguments.output, name), shard, block, rng)
        for tensor, shape in shard:
            weight_map[tensor] = name
            total += size(shape)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    config = dict(SHAPE, architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu",
                  num_hidden_layers=arguments.layers, max_position_embeddings=4096, rms_norm_eps=1e-5,
                  rope_theta=5e6, tie_word_embeddings=False, torch_dtype="bfloat16")
    for name, value in [("model.safetensors.index.json", index), ("config.json", config)]:
        with open(os.path.join(arguments.output, name), "w") as file:
            json.dump(value, file, indent=2)
    print(f"{arguments.output}: {total // 2} parameters, {total} bytes, {len(parts)} files")


main()
