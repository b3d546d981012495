"""Loads a folder with `transformers`, and compares its logits with those of the base it was made from."""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, logging

torch.set_num_threads(1)
logging.disable_progress_bar()


def load(folder):
    model, found = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, attn_implementation="eager")
    wrong = {kind: list(names) for kind, names in found.items() if names}
    if wrong:
        sys.exit(f"transformers: {folder}: {wrong}")
    return model.eval()


def logits(model):
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, model.config.vocab_size, (2, 24), generator=generator)
    with torch.no_grad():
        return model(ids, use_cache=False).logits


def repeat(base, lineage):
    """The same layers in the order of the lineage: what the folder should compute."""
    sources = [layer["source"] for layer in lineage["layers"]]
    base.model.layers = nn.ModuleList([base.model.layers[source] for source in sources])
    base.config.num_hidden_layers = len(sources)
    return base


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--initialization", default="copy")
    arguments = parser.parse_args()
    model = load(arguments.folder)
    said = f"{model.config.num_hidden_layers} layers, {sum(p.numel() for p in model.parameters()):,} parameters"
    if (arguments.folder / "tokenizer.json").exists():
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(arguments.folder / "tokenizer.json"))
        said += f", {len(tokenizer)} tokens"
    if arguments.base:
        base = load(arguments.base)
        if arguments.initialization == "copy":
            base = repeat(base, json.loads((arguments.folder / "lineage.json").read_text()))
        found, expected = logits(model), logits(base)
        if not torch.equal(found, expected):
            sys.exit(f"transformers: {arguments.folder}: the logits differ by up to "
                     f"{(found - expected).abs().max():.3g}")
        said += ", logits equal bit for bit"
    print(f"transformers: {arguments.initialization if arguments.base else 'export'}: {said}", file=sys.stderr)


main()
