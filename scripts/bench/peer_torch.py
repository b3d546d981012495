"""The training step of `terrace bench train` in PyTorch.

    python peer_torch.py --batch 1x1024 --layers 6 --steps 5 [--compile] [--device cuda]

The same model (Llama: GQA, RoPE, RMSNorm, SwiGLU, untied head) with the same random tokens, mean cross entropy over
the batch, gradients clipped to a norm of 1, and AdamW over all parameters, in f32. Attention is
scaled_dot_product_attention with its causal flag, AdamW is fused. One JSON object on stdout.
"""

import argparse
import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

VOCABULARY, HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD = 8192, 384, 1024, 6, 2, 64


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, x):
        return F.rms_norm(x, (HIDDEN,), self.weight, 1e-6)


def rotate(x, cos, sin):
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda inputs, outputs: nn.Linear(inputs, outputs, bias=False)
        self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()
        self.q_proj, self.o_proj = linear(HIDDEN, HEADS * HEAD), linear(HEADS * HEAD, HIDDEN)
        self.k_proj, self.v_proj = linear(HIDDEN, KV_HEADS * HEAD), linear(HIDDEN, KV_HEADS * HEAD)
        self.gate_proj, self.up_proj = linear(HIDDEN, INTERMEDIATE), linear(HIDDEN, INTERMEDIATE)
        self.down_proj = linear(INTERMEDIATE, HIDDEN)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        normed = self.input_layernorm(x)
        heads = lambda projection, count: projection(normed).view(b, t, count, HEAD).transpose(1, 2)
        q, k = rotate(heads(self.q_proj, HEADS), cos, sin), rotate(heads(self.k_proj, KV_HEADS), cos, sin)
        v = heads(self.v_proj, KV_HEADS)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o_proj(mixed.transpose(1, 2).reshape(b, t, HEADS * HEAD))
        normed = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(normed)) * self.up_proj(normed))


class Model(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(layers))
        self.norm = Norm()
        self.lm_head = nn.Linear(HIDDEN, VOCABULARY, bias=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens, targets, cos, sin):
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits = self.lm_head(self.norm(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", default="1x1024")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    b, t = map(int, options.batch.split("x"))
    device = torch.device(options.device)
    torch.manual_seed(1)
    model = Model(options.layers).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-5, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True
    )
    tokens = torch.randint(0, VOCABULARY, (b, t + 1), device=device)
    frequencies = 10000.0 ** (-torch.arange(0, HEAD, 2, device=device) / HEAD)
    angles = torch.arange(t, device=device)[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    forward = torch.compile(model) if options.compile else model

    def step():
        loss = forward(tokens[:, :-1], tokens[:, 1:], cos, sin)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # Terrace looks at the loss and the norm of each step too.
        if not torch.isfinite(loss):
            raise SystemExit("the loss is not finite")
        if device.type == "cuda":
            torch.cuda.synchronize()

    seconds = []
    # The first step allocates, and compiles; the second may compile again.
    for number in range(options.steps + 2):
        started = time.perf_counter()
        step()
        if number > 1:
            seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    peak = (
        torch.cuda.max_memory_allocated()
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    print(
        json.dumps(
            {
                "torch": torch.__version__,
                "compiled": options.compile,
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "seconds_per_step": median,
                "tokens_per_second": b * t / median,
                "peak_memory_bytes": peak,
            }
        )
    )


main()
