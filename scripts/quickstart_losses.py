#!/usr/bin/env python3
"""Writes the losses of a run, as tests/golden/quickstart.tsv keeps those of the quickstart.

    quickstart_losses.py RUN > tests/golden/quickstart.tsv

One line for each step: stage, tokens seen, tokens of the batch, learning rate, then `source=nats/targets` for
each source, and last the estimates of the squared gradient and of its noise, where they were measured.
"""

import json
import sys
from pathlib import Path

for line in (Path(sys.argv[1]) / "metrics.jsonl").read_text().splitlines():
    step = json.loads(line)
    targets = step["target_tokens_per_source"]
    cells = [step["stage"], step["tokens_seen"], step["batch_tokens"], step["learning_rate"]]
    cells += [f"{name}={nats!r}/{targets[name]}" for name, nats in step["nats_per_source"].items()]
    noise = step["noise_sample"]
    if noise:
        cells.append(f"noise={noise['gradient_square']!r}/{noise['noise_trace']!r}")
    print(*cells, sep="\t")
