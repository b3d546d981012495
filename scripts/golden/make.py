#!/usr/bin/env python3
"""Writes the golden fixtures in tests/golden/ with transformers + torch on the CPU.

    python scripts/golden/make.py            # write every case
    python scripts/golden/make.py --check    # reload the committed model folders and compare
    python scripts/golden/make.py tied f16   # write only some cases

See README.md beside this file for what each case holds.
"""

import argparse
import contextlib
import json
import math
import os
import platform
import shutil
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy
import safetensors
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_OUT = ROOT / "tests" / "golden"
SIZE_LIMIT = 3_000_000

# |got - want| <= atol + rtol * |want| for logits, losses and norms.
# rel_max compares one whole tensor: max|got - want| <= rel_max * max|want|, and mean_abs
# bounds the mean of |got - want| over one whole tensor.
# A case is not written if its own float32 run uses more than a quarter of these.
TOLERANCES = {
    "logits": {"atol": 5e-5, "rtol": 1e-5},
    "loss": {"atol": 0.0, "rtol": 5e-6},
    "grad": {"rel_max": 5e-5},
}

# --------------------------------------------------------------------------------------
# A float64 run of transformers' Llama.  model.double() alone is not one: RMSNorm, the
# attention softmax and the rotary angles are forced to float32 in the library.


def _norm64(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def rope64(theta, head_dim, positions):
    """Half-width cos, sin in float64: [..., head_dim / 2]."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    angles = positions[..., None].double() / (float(theta) ** exponent)
    return angles.cos(), angles.sin()


def _rotary64(self, x, position_ids):
    cos, sin = rope64(self.config.rope_parameters["rope_theta"], self.config.head_dim, position_ids)
    return torch.cat((cos, cos), -1), torch.cat((sin, sin), -1)


def _attention64(module, query, key, value, attention_mask, scaling, dropout=0.0, **_):
    key = modeling_llama.repeat_kv(key, module.num_key_value_groups)
    value = modeling_llama.repeat_kv(value, module.num_key_value_groups)
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.softmax(scores, dim=-1)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


@contextlib.contextmanager
def float64_llama():
    m = modeling_llama
    saved = (m.LlamaRMSNorm.forward, m.LlamaRotaryEmbedding.forward, m.eager_attention_forward)
    m.LlamaRMSNorm.forward, m.LlamaRotaryEmbedding.forward, m.eager_attention_forward = (
        _norm64,
        _rotary64,
        _attention64,
    )
    try:
        yield
    finally:
        m.LlamaRMSNorm.forward, m.LlamaRotaryEmbedding.forward, m.eager_attention_forward = saved


@contextlib.contextmanager
def precision(dtype):
    if dtype == torch.float64:
        with float64_llama():
            yield
    else:
        yield


# --------------------------------------------------------------------------------------
# Models and forward passes.


def config(*, vocab, hidden, layers, heads, kv_heads, inter, tied=False, head_dim=None,
           theta=10000.0, eps=1e-6, max_positions=2048):
    return LlamaConfig(
        vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, intermediate_size=inter,
        head_dim=head_dim or hidden // heads, tie_word_embeddings=tied, rms_norm_eps=eps,
        max_position_embeddings=max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": float(theta)},
        attn_implementation="eager",
    )


def random_model(cfg, seed, std=0.2):
    """Random weights that make a mistake visible: projections with std 0.2 (attention far
    from uniform), norm weights around 1, embedding rows whose scale runs from 0.01 to 0.5 (so
    that rms_norm_eps shows)."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(cfg).eval()
    assert model.config._attn_implementation == "eager"
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.copy_(1.0 + 0.2 * torch.randn(p.shape, generator=gen))
            elif name.endswith("embed_tokens.weight"):
                lo, hi = math.log(0.01), math.log(0.5)
                scale = torch.exp(lo + (hi - lo) * torch.rand(p.shape[0], 1, generator=gen))
                p.copy_(scale * torch.randn(p.shape, generator=gen))
            else:
                p.copy_(std * torch.randn(p.shape, generator=gen))
    return model


def in_dtype(model, dtype):
    """A copy of `model` in `dtype` (float64 copies must run inside float64_llama())."""
    other = LlamaForCausalLM(model.config).eval().to(dtype)
    other.load_state_dict({k: v.to(dtype) for k, v in model.state_dict().items()})
    other.tie_weights()
    other.config._attn_implementation = "eager"
    return other


def causal_mask(n, dtype, segments=None):
    """An explicit additive [1, 1, n, n] mask.  It is always given, since without one
    transformers reads a jump in position_ids as the start of another document."""
    allowed = torch.ones(n, n, dtype=torch.bool).tril()
    if segments is not None:
        allowed &= segments[:, None] == segments[None, :]
    mask = torch.zeros(n, n, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
    return mask[None, None]


def forward(model, ids, positions=None, segments=None):
    dtype = next(model.parameters()).dtype
    n = ids.shape[1]
    if positions is None:
        positions = torch.arange(n)[None]
    mask = causal_mask(n, dtype, segments).expand(ids.shape[0], 1, n, n)
    out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    assert out.logits.dtype == dtype, out.logits.dtype
    return out.logits


def nats_sum(logits, ids):
    """Summed negative log-likelihood (nats) of every next token, and how many there are."""
    logp = torch.log_softmax(logits[:, :-1], dim=-1)
    targets = ids[:, 1:]
    return -logp.gather(-1, targets[..., None]).sum(), targets.numel()


def logits_loss_grads(model, ids, dtype):
    with precision(dtype):
        m = in_dtype(model, dtype)
        logits = forward(m, ids)
        loss, count = nats_sum(logits, ids)
        loss.backward()
    return logits.detach(), loss.item(), count, {n: p.grad.clone() for n, p in m.named_parameters()}


def logits_only(model, ids, dtype, positions=None):
    with precision(dtype), torch.no_grad():
        return forward(in_dtype(model, dtype), ids, positions)


def random_ids(seed, shape, vocab, low=0):
    return torch.randint(low, vocab, shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------
# Comparisons.


def excess(got, want, tol):
    """How much of the tolerance is used: 1.0 is just allowed."""
    got, want = got.double(), want.double()
    if "mean_abs" in tol:
        return ((got - want).abs().mean() / tol["mean_abs"]).item()
    if "rel_max" in tol:
        return ((got - want).abs().max() / (tol["rel_max"] * want.abs().max())).item()
    return ((got - want).abs() / (tol["atol"] + tol["rtol"] * want.abs())).max().item()


class Noise:
    """Measures what float32 torch loses against float64, and holds it against TOLERANCES."""

    def __init__(self):
        self.worst = {}

    def add(self, kind, got, want, tol=None):
        tol = tol or TOLERANCES[kind]
        got, want = (torch.as_tensor(x, dtype=torch.float64) for x in (got, want))
        used = excess(got, want, tol)
        assert used <= 0.25, f"{kind}: float32 alone uses {used:.2f} of the tolerance"
        entry = self.worst.setdefault(kind, {"max_abs": 0.0, "share_of_tolerance": 0.0})
        entry["max_abs"] = max(entry["max_abs"], (got - want).abs().max().item())
        entry["share_of_tolerance"] = max(entry["share_of_tolerance"], used)

    def report(self):
        return {k: {n: float(f"{x:.3g}") for n, x in v.items()} for k, v in self.worst.items()}


def permute_heads(model, how):
    """The model that a reader with a well-known mistake would effectively run."""
    other = in_dtype(model, torch.float64)
    cfg = model.config
    h, kv, d = cfg.num_attention_heads, cfg.num_key_value_heads, cfg.head_dim
    with torch.no_grad():
        for layer in other.model.layers:
            a = layer.self_attn
            if how == "interleaved_rope":
                for proj, n in ((a.q_proj, h), (a.k_proj, kv)):
                    w = proj.weight.view(n, d // 2, 2, -1).transpose(1, 2)
                    proj.weight.copy_(w.reshape(n * d, -1).clone())
            elif how == "kv_heads_tiled":
                order = torch.tensor([i + kv * j for i in range(kv) for j in range(h // kv)])
                wq = a.q_proj.weight.view(h, d, -1)[order].reshape(h * d, -1).clone()
                wo = a.o_proj.weight.view(-1, h, d)[:, order].reshape(-1, h * d).clone()
                a.q_proj.weight.copy_(wq)
                a.o_proj.weight.copy_(wo)
    return other


def sensitivity(model, ids, positions=None):
    """The largest change of any logit under typical mistakes; each must dwarf the tolerance."""
    with float64_llama(), torch.no_grad():
        base_model = in_dtype(model, torch.float64)
        base = forward(base_model, ids, positions)
        out = {}

        def note(name, m):
            got = forward(m, ids, positions)
            assert excess(got, base, TOLERANCES["logits"]) > 20, name
            out[name] = float(f"{(got - base).abs().max().item():.3g}")

        norms = [m for m in base_model.modules() if isinstance(m, modeling_llama.LlamaRMSNorm)]
        eps = norms[0].variance_epsilon
        for name, factor in (("rms_norm_eps_times_10", 10.0), ("rms_norm_eps_zero", 0.0)):
            for m in norms:
                m.variance_epsilon = eps * factor
            note(name, base_model)
        for m in norms:
            m.variance_epsilon = eps
        theta = base_model.config.rope_parameters["rope_theta"]
        wrong = 500000.0 if theta == 10000.0 else 10000.0
        base_model.model.rotary_emb.config.rope_parameters["rope_theta"] = wrong
        note(f"rope_theta_{int(wrong)}", base_model)
        base_model.model.rotary_emb.config.rope_parameters["rope_theta"] = theta
        note("interleaved_rope", permute_heads(model, "interleaved_rope"))
        if 1 < model.config.num_key_value_heads < model.config.num_attention_heads:
            note("kv_heads_tiled", permute_heads(model, "kv_heads_tiled"))
        assert torch.equal(forward(base_model, ids, positions), base)
    return out


# --------------------------------------------------------------------------------------
# Writing a case.


def versions():
    return {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "safetensors": safetensors.__version__,
        "numpy": numpy.__version__,
    }


DTYPE_NAMES = {torch.float32: "F32", torch.int64: "I64"}


def write_case(out, name, *, model, tensors, info, save_dtype=torch.float32, **save_args):
    folder = out / name
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    saved = model if save_dtype == torch.float32 else in_dtype(model, save_dtype)
    saved.config.dtype = save_dtype
    saved.save_pretrained(folder / "model", **save_args)
    tensors = {k: v.detach().contiguous() for k, v in tensors.items()}
    for k, v in tensors.items():
        assert v.dtype in DTYPE_NAMES, (k, v.dtype)
        assert v.dtype != torch.float32 or torch.isfinite(v).all(), k
    save_file(tensors, folder / "expected.safetensors")
    info = {
        "description": info.pop("description"),
        "comparison": "atol/rtol: |got - want| <= atol + rtol * |want|; rel_max: max|got - want| "
                      "<= rel_max * max|want| over one tensor; mean_abs: mean|got - want| over "
                      "one tensor",
        **info,
    }
    body = {
        "case": name,
        **info,
        "tensors": {k: [DTYPE_NAMES[v.dtype], list(v.shape)] for k, v in sorted(tensors.items())},
        "generator": {"script": "scripts/golden/make.py", "versions": versions()},
    }
    text = json.dumps(body, indent=1)
    # One line per tensor rather than one per number.
    for k, v in body["tensors"].items():
        text = text.replace(
            f'"{k}": ' + json.dumps([v[0], v[1]], indent=1).replace("\n", "\n  "),
            f'"{k}": {json.dumps(v)}',
        )
    assert json.loads(text) == body
    (folder / "case.json").write_text(text + "\n")
    print(f"wrote {name}: {len(tensors)} tensors")


def scalar(x, dtype=torch.float32):
    return torch.tensor([x], dtype=dtype)


REFERENCES = {
    "logits": "transformers, float32, eager attention, as the library computes it",
    "logits_f64": "the same model run wholly in float64, then cast to float32",
    "loss_sum_nats": "float64, cast to float32",
    "grad.*": "float64 forward and backward of the summed nats, cast to float32",
}


def forward_backward_case(out, name, description, cfg, seed, ids_shape, extra=None):
    model = random_model(cfg, seed)
    ids = random_ids(seed + 1, ids_shape, cfg.vocab_size)
    l32, s32, count, g32 = logits_loss_grads(model, ids, torch.float32)
    l64, s64, _, g64 = logits_loss_grads(model, ids, torch.float64)
    noise = Noise()
    noise.add("logits", l32, l64)
    noise.add("loss", s32, s64)
    for n in g64:
        noise.add("grad", g32[n], g64[n])
    tensors = {
        "input_ids": ids,
        "logits": l32,
        "logits_f64": l64.float(),
        "loss_sum_nats": scalar(s64),
        "target_tokens": scalar(count, torch.int64),
        **{f"grad.{n}": g.float() for n, g in g64.items()},
    }
    write_case(out, name, model=model, tensors=tensors, info={
        "description": description,
        "seed": seed,
        "values": {"loss_sum_nats_f64": s64, "loss_sum_nats_f32": s32, "target_tokens": count},
        "references": REFERENCES,
        "tolerances": TOLERANCES,
        "float32_noise": noise.report(),
        "sensitivity_max_logit_change": sensitivity(model, ids),
    })
    if extra:
        extra(out / name)


# --------------------------------------------------------------------------------------
# The cases.


def gqa_config():
    return config(vocab=96, hidden=32, layers=3, heads=4, kv_heads=2, inter=80)


GQA_SEED = 1001


def make_gqa_untied(out):
    forward_backward_case(
        out, "gqa-untied",
        "3 layers, 4 query heads on 2 kv heads, untied lm_head, rope_theta 10000, eps 1e-6. "
        "Gradients are of the summed nats over all next-token targets (not the mean).",
        gqa_config(), GQA_SEED, (2, 24))


def make_tied(out):
    forward_backward_case(
        out, "tied",
        "Tied embeddings (no lm_head.weight in the file), 3 query heads on 1 kv head, head_dim 8. "
        "grad.model.embed_tokens.weight is the sum of both uses.",
        config(vocab=128, hidden=24, layers=2, heads=3, kv_heads=1, inter=56, tied=True),
        2001, (2, 24))


def make_head_dim(out):
    def old_config(folder):
        # The same configuration in the layout of transformers 4.x (and so of most published
        # models): rope_theta at the top level, torch_dtype instead of dtype.
        cfg = json.loads((folder / "model" / "config.json").read_text())
        rope = cfg.pop("rope_parameters")
        cfg["rope_theta"] = rope["rope_theta"]
        cfg["rope_scaling"] = None
        cfg["torch_dtype"] = cfg.pop("dtype")
        del cfg["transformers_version"]  # translated here, not written by any version
        del cfg["pad_token_id"]
        text = json.dumps(cfg, indent=2, sort_keys=True) + "\n"
        (folder / "config-transformers4.json").write_text(text)

    forward_backward_case(
        out, "head-dim",
        "head_dim 16 given explicitly with hidden 32 and 4 heads (q_proj is [64, 32]), 2 kv heads, "
        "eps 1e-5, rope_theta 5e6. config-transformers4.json beside model/ is the same "
        "configuration in the older layout (top-level rope_theta, torch_dtype) for config tests.",
        config(vocab=112, hidden=32, layers=2, heads=4, kv_heads=2, inter=64, head_dim=16,
               eps=1e-5, theta=5e6),
        3001, (2, 24), extra=old_config)


LONG_LOGITS = {"atol": 2e-4, "rtol": 1e-5}


def make_long_positions(out):
    name = "long-positions"
    cfg = config(vocab=96, hidden=16, layers=1, heads=2, kv_heads=1, inter=40, theta=5e6,
                 max_positions=8192)
    model = random_model(cfg, 4001, std=0.3)
    ids = random_ids(4002, (1, 4), cfg.vocab_size)
    positions = torch.tensor([[0, 1000, 4095, 8191]])
    l32 = logits_only(model, ids, torch.float32, positions)
    l64 = logits_only(model, ids, torch.float64, positions)
    # All four tokens are one document: the last one must see the first one.
    other = ids.clone()
    other[0, 0] = (other[0, 0] + 1) % cfg.vocab_size
    seen = (logits_only(model, other, torch.float64, positions) - l64)[0, -1].abs().max()
    assert seen > 1e-2, seen
    noise = Noise()
    noise.add("logits", l32, l64, LONG_LOGITS)
    table = torch.tensor([0, 1, 100, 1000, 4095, 8191])
    tensors = {
        "input_ids": ids, "position_ids": positions, "logits": l32, "logits_f64": l64.float(),
        "rope_positions": table,
    }
    rope_f32 = 0.0
    for theta in (10000, 5000000):
        cos, sin = rope64(theta, 8, table)
        tensors[f"rope_cos_theta{theta}"] = cos.float()
        tensors[f"rope_sin_theta{theta}"] = sin.float()
        probe = config(vocab=96, hidden=16, layers=1, heads=2, kv_heads=1, inter=40, theta=theta)
        rotary = modeling_llama.LlamaRotaryEmbedding(probe)
        c32, s32 = rotary(torch.zeros(1), table[None])
        for a, b in ((c32, cos), (s32, sin)):
            rope_f32 = max(rope_f32, (a[0, :, :4].double() - b).abs().max().item())
    write_case(out, name, model=model, tensors=tensors, info={
        "description":
            "One document of 4 tokens (ordinary causal attention) at explicit positions 0, 1000, "
            "4095 and 8191 with rope_theta 5e6; also rotary tables for head_dim 8 (half width, "
            "columns are frequencies 0..3) at rope_positions for theta 10000 and 5000000. Angles "
            "formed in float32, as transformers does, are off by up to about 1e-4 at position "
            "8191, hence the looser logits tolerance against `logits`; an implementation that "
            "forms its angles in float64 should meet `logits_f64` and the tables closely.",
        "seed": 4001,
        "references": {
            "logits": REFERENCES["logits"],
            "logits_f64": REFERENCES["logits_f64"],
            "rope_*": "float64 angles, cos and sin, cast to float32",
        },
        "tolerances": {
            "logits": LONG_LOGITS,
            "logits_f64": {"atol": 5e-5, "rtol": 1e-5, "when": "angles formed in float64"},
            "rope": {"atol": 2e-7, "rtol": 0.0, "when": "angles formed in float64"},
            "rope_float32_angles": {"atol": 2e-4, "rtol": 0.0},
        },
        "float32_noise": {
            **noise.report(),
            "transformers_rope_max_abs": float(f"{rope_f32:.3g}"),
        },
        "sensitivity_max_logit_change": sensitivity(model, ids, positions),
    })


def make_packed(out):
    name, seed, lengths, width = "packed", 5001, [7, 1, 12], 24
    cfg = gqa_config()
    model = random_model(cfg, seed)
    length = sum(lengths)
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    ids = torch.zeros(1, width, dtype=torch.int64)
    ids[0, :length] = random_ids(seed + 1, (length,), cfg.vocab_size, low=1)
    docs = [ids[:, s:s + n] for s, n in zip(starts, lengths)]

    def alone(dtype):
        with precision(dtype):
            m = in_dtype(model, dtype)
            logits, total, count = [], 0.0, 0
            for d in docs:
                x = forward(m, d)
                s, c = nats_sum(x, d)
                total, count = total + s, count + c
                logits.append(x.detach()[0])
            total.backward()
        return logits, total.item(), count, {n: p.grad.clone() for n, p in m.named_parameters()}

    l32, s32, count, g32 = alone(torch.float32)
    l64, s64, _, g64 = alone(torch.float64)
    noise = Noise()
    noise.add("loss", s32, s64)
    for a, b in zip(l32, l64):
        noise.add("logits", a, b)
    for n in g64:
        noise.add("grad", g32[n], g64[n])

    # The packed row itself, with a block-diagonal mask and restarting positions, must agree.
    segments = torch.full((width,), len(lengths))
    positions = torch.zeros(1, width, dtype=torch.int64)
    for i, (s, n) in enumerate(zip(starts, lengths)):
        segments[s:s + n] = i
        positions[0, s:s + n] = torch.arange(n)
    with float64_llama(), torch.no_grad():
        m = in_dtype(model, torch.float64)
        row = forward(m, ids, positions, segments)[0]
        naive = forward(m, ids)[0]
    leak = []
    for s, n, want in zip(starts, lengths, l64):
        assert (row[s:s + n] - want).abs().max() < 1e-11
        leak.append((naive[s:s + n] - want).abs().max().item())
    assert min(leak[1:]) > 1e-2, leak

    tensors = {
        "input_ids": ids,
        "document_starts": torch.tensor(starts),
        "length": scalar(length, torch.int64),
        "loss_sum_nats": scalar(s64),
        "target_tokens": scalar(count, torch.int64),
        **{f"logits_doc{i}": x for i, x in enumerate(l32)},
        **{f"logits_doc{i}_f64": x.float() for i, x in enumerate(l64)},
        **{f"grad.{n}": g.float() for n, g in g64.items()},
    }
    write_case(out, name, model=model, tensors=tensors, info={
        "description":
            "Documents of 7, 1 and 12 tokens packed in one row of 20 tokens, padded with 4 tokens "
            "of id 0 to 24 (no document holds id 0). logits_doc<i> are each document run alone, "
            "positions from 0. The loss and its gradients sum over targets within a document "
            "only: 6 + 0 + 11 = 17; a document's last token has no target and padding none. "
            "Packing with attention kept within documents and restarting positions must "
            "reproduce all of it.",
        "seed": seed,
        "values": {"loss_sum_nats_f64": s64, "loss_sum_nats_f32": s32, "target_tokens": count,
                   "document_lengths": lengths},
        "references": {
            "logits_doc*": REFERENCES["logits"],
            "logits_doc*_f64": REFERENCES["logits_f64"],
            "loss_sum_nats": REFERENCES["loss_sum_nats"],
            "grad.*": REFERENCES["grad.*"],
        },
        "tolerances": TOLERANCES,
        "float32_noise": noise.report(),
        "max_logit_change_without_document_mask": [float(f"{x:.3g}") for x in leak],
    })


# Chosen so that no element's first gradient is so near zero that float32 noise decides its sign
# (worst float32 difference of any parameter 2e-7; other seeds reach 3e-5).
ADAMW_BATCH_SEED = 6011
ADAMW = {"lr": 3e-4, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
ADAMW_TOLERANCES = {
    "loss": {"atol": 0.0, "rtol": 5e-6},
    "grad_norm": {"atol": 0.0, "rtol": 2e-5},
    # Per element; the mean over each whole parameter is held much tighter, since only the rare
    # element with |gradient| near eps is ill-conditioned (Adam's first step is about sign(g)).
    "param": {"atol": 3e-6, "rtol": 0.0},
    "param_mean": {"mean_abs": 5e-7},
    "exp_avg": {"rel_max": 5e-5},
    "exp_avg_sq": {"rel_max": 1e-4},
    "tiny": {"atol": 5e-7, "rtol": 1e-6},
}


def decayed(name):
    """Weight decay is for matrices other than the embedding; lm_head is among them."""
    return not name.endswith("norm.weight") and "embed_tokens" not in name


def adamw_run(model, batches, dtype):
    m = in_dtype(model, dtype)
    named = list(m.named_parameters())
    for n, p in named:
        assert decayed(n) == (p.ndim == 2 and "embed_tokens" not in n), n
    opt = torch.optim.AdamW(
        [
            {"params": [p for n, p in named if decayed(n)]},
            {"params": [p for n, p in named if not decayed(n)], "weight_decay": 0.0},
        ],
        **ADAMW, foreach=False, fused=False)
    losses, norms, params, clipped = [], [], [], []
    with precision(dtype):
        for ids in batches:
            opt.zero_grad(set_to_none=True)
            total, count = nats_sum(forward(m, ids), ids)
            loss = total / count
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0, foreach=False)
            clipped.append(bool(norm > 1.0))
            opt.step()
            losses.append(loss.item())
            norms.append(norm.item())
            params.append({n: p.detach().clone() for n, p in named})
    moments = {k: {n: opt.state[p][k].clone() for n, p in named} for k in ("exp_avg", "exp_avg_sq")}
    return losses, norms, params, moments, clipped


def adamw_tiny(dtype):
    init = torch.tensor([0.5, -1.0, 2.0, 0.25], dtype=dtype)
    grad = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=dtype) * 1e-7
    p = torch.nn.Parameter(init.clone())
    opt = torch.optim.AdamW([p], lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0,
                            foreach=False, fused=False)
    after = []
    for _ in range(3):
        p.grad = grad.clone()
        opt.step()
        after.append(p.detach().clone())
    return init, grad, after


def make_adamw(out):
    name, seed = "adamw", GQA_SEED
    model = random_model(gqa_config(), seed)
    batches = [random_ids(ADAMW_BATCH_SEED + i, (2, 24), model.config.vocab_size) for i in range(3)]
    l32, n32, p32, m32, _ = adamw_run(model, batches, torch.float32)
    l64, n64, p64, m64, clipped = adamw_run(model, batches, torch.float64)
    noise = Noise()
    for i in range(3):
        noise.add("loss", l32[i], l64[i], ADAMW_TOLERANCES["loss"])
        noise.add("grad_norm", n32[i], n64[i], ADAMW_TOLERANCES["grad_norm"])
        for n in p64[i]:
            for kind in ("param", "param_mean"):
                noise.add(kind, p32[i][n], p64[i][n], ADAMW_TOLERANCES[kind])
    for k in m64:
        for n in m64[k]:
            noise.add(k, m32[k][n], m64[k][n], ADAMW_TOLERANCES[k])
    init, grad, tiny64 = adamw_tiny(torch.float64)
    for a, b in zip(adamw_tiny(torch.float32)[2], tiny64):
        noise.add("tiny", a, b, ADAMW_TOLERANCES["tiny"])

    start = dict(model.named_parameters())
    decay_effect = max((start[n].double() * ADAMW["lr"] * ADAMW["weight_decay"]).abs().max().item()
                       for n in start if decayed(n))
    tensors = {}
    for i in range(3):
        tensors[f"input_ids_step{i + 1}"] = batches[i]
        tensors[f"loss_step{i + 1}"] = scalar(l64[i])
        tensors[f"grad_norm_step{i + 1}"] = scalar(n64[i])
        tensors[f"tiny_after_step{i + 1}"] = tiny64[i].float()
    for i in (0, 2):
        tensors.update({f"step{i + 1}.{n}": p.float() for n, p in p64[i].items()})
    for k in m64:
        tensors.update({f"{k}.{n}": v.float() for n, v in m64[k].items()})
    tensors["tiny_param"] = init.float()
    tensors["tiny_grads"] = grad.float()
    write_case(out, name, model=model, tensors=tensors, info={
        "description":
            "Three AdamW steps on the model of gqa-untied (same weights), one batch of [2, 24] "
            "each: mean loss (summed nats / 46 target tokens), backward, "
            "torch.nn.utils.clip_grad_norm_(parameters, 1.0), torch.optim.AdamW.step(). "
            "grad_norm_step<n> is before clipping; clipping scales by 1 / (norm + 1e-6) where that "
            "is below 1. Decay is decoupled (p *= 1 - lr * weight_decay before the update) and "
            "only on 2-D weights other than model.embed_tokens.weight; lm_head.weight is decayed. "
            "step<n>.* are the parameters after step n; exp_avg.* and exp_avg_sq.* the moments "
            "after step 3 (not bias-corrected). tiny_*: one parameter of 4 numbers, the same "
            "gradient tiny_grads on 3 steps, no clipping, no decay, lr 1e-2, betas and eps as "
            "above: gradients of about 1e-7, so that eps (added after the bias-corrected square "
            "root) matters.",
        "seed": seed,
        "batch_seeds": [ADAMW_BATCH_SEED + i for i in range(3)],
        "optimizer": {**ADAMW, "betas": list(ADAMW["betas"]), "clip_grad_norm": 1.0,
                      "decayed": [n for n in start if decayed(n)],
                      "not_decayed": [n for n in start if not decayed(n)]},
        "tiny_optimizer": {"lr": 1e-2, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.0},
        "values": {"loss_f64": l64, "loss_f32": l32, "grad_norm_f64": n64, "grad_norm_f32": n32,
                   "clipped": clipped, "target_tokens": 46,
                   "largest_decay_of_one_step": float(f"{decay_effect:.3g}")},
        "references": {"all": "model, gradients and optimizer run in float64, cast to float32; "
                              "tiny_* likewise"},
        "tolerances": ADAMW_TOLERANCES,
        "float32_noise": noise.report(),
    })


def rounded(model, dtype):
    """`model` with its weights rounded to `dtype`, held in float32."""
    return in_dtype(in_dtype(model, dtype), torch.float32)


def low_precision_case(out, name, description, model, seed, ids, dtype, **save_args):
    up = rounded(model, dtype)
    l32 = logits_only(up, ids, torch.float32)
    l64 = logits_only(up, ids, torch.float64)
    noise = Noise()
    noise.add("logits", l32, l64)
    unrounded = (logits_only(model, ids, torch.float64) - l64).abs().max().item()
    write_case(
        out, name, model=up, save_dtype=dtype,
        tensors={"input_ids": ids, "logits": l32, "logits_f64": l64.float()},
        info={
            "description": description,
            "seed": seed,
            "references": {k: REFERENCES[k] + " (from the rounded weights cast up)"
                           for k in ("logits", "logits_f64")},
            "tolerances": {"logits": TOLERANCES["logits"]},
            "float32_noise": noise.report(),
            "max_logit_change_from_rounding_weights": float(f"{unrounded:.3g}"),
        }, **save_args)


def make_sharded(out):
    model = random_model(gqa_config(), GQA_SEED)
    low_precision_case(
        out, "sharded",
        "The model of gqa-untied in bfloat16, in several shards with "
        "model.safetensors.index.json. Logits in float32 from the weights cast up.",
        model, GQA_SEED, random_ids(GQA_SEED + 1, (2, 24), 96), torch.bfloat16,
        max_shard_size="20KB")
    index = json.loads((out / "sharded" / "model" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) >= 3


def make_f16(out):
    cfg = config(vocab=96, hidden=24, layers=2, heads=3, kv_heads=1, inter=56, tied=True)
    low_precision_case(
        out, "f16",
        "A tied model like that of case tied in float16. Logits in float32 from the weights "
        "cast up.",
        random_model(cfg, 8001), 8001, random_ids(8002, (2, 16), cfg.vocab_size), torch.float16)


def make_autocast(out):
    """Gradients with products in bfloat16, and without any rounding, to tell how far they may lie apart."""
    name, seed = "autocast", 9001
    model = random_model(gqa_config(), seed, std=0.1)
    ids = random_ids(seed + 1, (2, 24), model.config.vocab_size)
    _, s64, count, g64 = logits_loss_grads(model, ids, torch.float64)
    s16, g16 = autocast_loss_grads(in_dtype(model, torch.float32), ids)
    gap = math.sqrt(sum((g16[n].double() - g64[n]).square().sum().item() for n in g64))
    size = math.sqrt(sum(g.square().sum().item() for g in g64.values()))
    # Products that are not in bfloat16 would be a thousand times nearer.
    assert 1e-3 < gap / size < 3e-2, gap / size
    tensors = {
        "input_ids": ids,
        "loss_sum_nats": scalar(s64),
        "loss_sum_nats_autocast": scalar(s16),
        "target_tokens": scalar(count, torch.int64),
        **{f"grad.{n}": g.float() for n, g in g64.items()},
        **{f"autocast.{n}": g for n, g in g16.items()},
    }
    write_case(out, name, model=model, tensors=tensors, info={
        "description": "Like gqa-untied, with projections of std 0.1: gradients of the summed nats in "
                       "float64, and under torch.autocast('cpu', torch.bfloat16) with float32 weights.",
        "seed": seed,
        "values": {"loss_sum_nats_f64": s64, "loss_sum_nats_autocast": s16, "target_tokens": count,
                   "distance_of_gradients": gap / size},
        "references": {
            "grad.*": REFERENCES["grad.*"],
            "loss_sum_nats": REFERENCES["loss_sum_nats"],
            "autocast.*": "transformers as it is, forward under torch.autocast, backward outside of it",
        },
        "tolerances": {"autocast": {"rel_max": 1e-2}},
    })


def autocast_loss_grads(model, ids):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        n = ids.shape[1]
        mask = causal_mask(n, torch.float32).expand(ids.shape[0], 1, n, n)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False,
                       position_ids=torch.arange(n)[None]).logits
        assert logits.dtype == torch.bfloat16, logits.dtype
        loss = nats_sum(logits.float(), ids)[0]
    loss.backward()
    return loss.item(), {n: p.grad for n, p in model.named_parameters()}


CASES = {
    "gqa-untied": make_gqa_untied,
    "tied": make_tied,
    "head-dim": make_head_dim,
    "long-positions": make_long_positions,
    "packed": make_packed,
    "adamw": make_adamw,
    "sharded": make_sharded,
    "f16": make_f16,
    "autocast": make_autocast,
}


# --------------------------------------------------------------------------------------
# Checking what lies on disk: from_pretrained on every model folder, plain library calls
# (no patches of this file), against expected.safetensors.


def check(out, names):
    for name in names:
        folder = out / name
        want = load_file(folder / "expected.safetensors")
        meta = json.loads((folder / "case.json").read_text())
        model, report = LlamaForCausalLM.from_pretrained(
            folder / "model", dtype=torch.float32, attn_implementation="eager",
            output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"], (name, report)
        model.eval()
        stored, dtypes = set(), set()
        for file in sorted((folder / "model").glob("*.safetensors")):
            with safe_open(file, "pt") as f:
                for k in f.keys():
                    stored.add(k)
                    dtypes.add(str(f.get_tensor(k).dtype))
        tied = model.config.tie_word_embeddings
        assert ("lm_head.weight" in stored) != tied, name
        assert stored == {n for n, _ in model.named_parameters()}, name
        tol = meta["tolerances"].get("logits", TOLERANCES["logits"])
        notes = [f"{len(stored)} tensors {'/'.join(sorted(dtypes))}"]

        def compare(label, got, ref, t):
            used = excess(got, ref, t)
            assert used <= 1, (name, label, used)
            notes.append(f"{label} max|d| {(got.double() - ref.double()).abs().max():.1e}")

        if name == "packed":
            total = 0.0
            for i, start in enumerate(want["document_starts"].tolist()):
                n = want[f"logits_doc{i}"].shape[0]
                doc = want["input_ids"][:, start:start + n]
                x = model(doc).logits
                compare(f"doc{i}", x[0].detach(), want[f"logits_doc{i}"], tol)
                total = total + torch.nn.functional.cross_entropy(
                    x[0, :-1], doc[0, 1:], reduction="sum")
        elif name == "adamw":
            ids = want["input_ids_step1"]
            loss = model(ids, labels=ids).loss
            compare("loss_step1", loss.detach(), want["loss_step1"][0], tol | {"rtol": 1e-5})
        elif name == "autocast":
            _, grads = autocast_loss_grads(model, want["input_ids"])
            for n, g in grads.items():
                used = excess(g, want[f"autocast.{n}"], meta["tolerances"]["autocast"])
                assert used <= 1, (name, n, used)
            model.zero_grad()
            x = model(want["input_ids"]).logits
            ids = want["input_ids"]
            total = torch.nn.functional.cross_entropy(
                x[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
        elif name == "long-positions":
            x = model(want["input_ids"], position_ids=want["position_ids"],
                      attention_mask=torch.ones(1, 4, dtype=torch.int64)).logits.detach()
            compare("logits", x, want["logits"], tol)
        else:
            x = model(want["input_ids"]).logits
            compare("logits", x.detach(), want["logits"], tol)
            ids = want["input_ids"]
            total = torch.nn.functional.cross_entropy(
                x[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
        if "loss_sum_nats" in want:
            compare("loss", total.detach(), want["loss_sum_nats"][0], TOLERANCES["loss"])
            total.backward()
            grads = dict(model.named_parameters())
            assert {k[5:] for k in want if k.startswith("grad.")} == set(grads)
            worst = max(excess(p.grad, want[f"grad.{n}"], TOLERANCES["grad"])
                        for n, p in grads.items())
            assert worst <= 1, (name, worst)
            notes.append(f"grads use {worst:.2f} of tolerance")
        old = folder / "config-transformers4.json"
        if old.exists():
            cfg = LlamaConfig.from_dict(json.loads(old.read_text()))
            new = model.config
            for key in ("head_dim", "rms_norm_eps", "num_key_value_heads", "vocab_size"):
                assert getattr(cfg, key) == getattr(new, key), key
            assert cfg.rope_parameters["rope_theta"] == new.rope_parameters["rope_theta"]
            notes.append("older config layout agrees")
        print(f"ok {name}: " + "; ".join(notes))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", help=f"some of: {', '.join(CASES)} (default all)")
    parser.add_argument("--check", action="store_true", help="only reload and compare")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    args = parser.parse_args()
    names = args.cases or list(CASES)
    unknown = [n for n in names if n not in CASES]
    if unknown:
        parser.error(f"unknown case: {', '.join(unknown)}")
    if not args.check:
        for name in names:
            CASES[name](args.out)
    check(args.out, names)
    size = sum(f.stat().st_size for f in args.out.rglob("*") if f.is_file())
    print(f"{size:,} bytes under {args.out.name}/")
    return 0 if size <= SIZE_LIMIT else f"more than {SIZE_LIMIT:,} bytes"


if __name__ == "__main__":
    sys.exit(main())
