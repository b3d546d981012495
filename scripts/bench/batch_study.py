#!/usr/bin/env python3
"""Reads the runs that batch_study.sh made: a Markdown table on stdout, and FOLDER/batch_study.{svg,png}.

    batch_study.py FOLDER

A figure is the mean over seeds, and the error the standard error of that mean; seconds are those of the fastest
seed, because what else runs on a machine only adds to them.
"""

import json
import math
import sys
from pathlib import Path
from statistics import mean, stdev

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

ARMS = {
    "small": "small fixed batch",
    "large": "large fixed batch",
    "plateau": "plateau",
    "ramp": "ramp, declared before",
}
# Okabe and Ito's palette, told apart by colour-blind readers too.
COLOURS = {"small": "#0072B2", "large": "#D55E00", "plateau": "#009E73", "ramp": "#CC79A7"}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def read(run):
    """Steps, seconds in steps, and mean held-out bits per byte, at each measurement of a run."""
    steps = lines(run / "metrics.jsonl")
    points = []
    for event in lines(run / "journal.jsonl"):
        details = event["details"]
        if event["event"] != "held_out" or details.get("model") == "base":
            continue
        before = [step for step in steps if step["tokens_seen"] <= details["tokens_seen"]]
        bits = details["bits_per_byte"]
        point = {
            "tokens": details["tokens_seen"],
            "steps": len(before),
            "seconds": sum(step["seconds"] for step in before),
            "bits": mean(bits.values()),
            **{f"bits {name}": value for name, value in bits.items()},
        }
        if not points or points[-1]["tokens"] != point["tokens"]:
            points.append(point)
    report = json.loads((run / "report.json").read_text())
    return points, [growth["tokens_seen"] for growth in report["batch_growths"]]


def spread(values):
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{mean(values):.4f} ± {error:.4f}"


def table(runs):
    sources = sorted(key[5:] for key in next(iter(runs["small"]))[0][-1] if key.startswith("bits "))
    print("| batch | steps | seconds | mean | " + " | ".join(sources) + " | growths at (thousand tokens) |")
    print("|---|---|---|---|" + "---|" * len(sources) + "---|")
    for arm, title in ARMS.items():
        last = [points[-1] for points, _ in runs[arm]]
        growths = "; ".join(", ".join(f"{at / 1000:.0f}" for at in grown) or "-" for _, grown in runs[arm])
        cells = [
            title,
            ", ".join(str(point["steps"]) for point in last),
            f"{min(point['seconds'] for point in last):.0f}",
            spread([point["bits"] for point in last]),
            *(spread([point[f"bits {name}"] for point in last]) for name in sources),
            growths,
        ]
        print("| " + " | ".join(cells) + " |")


def picture(runs, stem):
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True)
    for axis, (key, label) in zip(
        axes, [("tokens", "thousand tokens"), ("steps", "optimizer steps"), ("seconds", "seconds in steps, fastest seed")]
    ):
        for arm, title in ARMS.items():
            shown = runs[arm]
            if key == "seconds":
                shown = [min(shown, key=lambda run: run[0][-1]["seconds"])]
            for index, (points, _) in enumerate(shown):
                axis.plot(
                    [point[key] / (1000 if key == "tokens" else 1) for point in points],
                    [point["bits"] for point in points],
                    color=COLOURS[arm],
                    linewidth=1.2,
                    marker=".",
                    markersize=4,
                    alpha=0.8,
                    label=title if index == 0 else None,
                )
        axis.set_xlabel(label)
        axis.grid(alpha=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("held-out bits per byte, mean over sources")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(f"{stem}.svg")
    figure.savefig(f"{stem}.png", dpi=150)


def main():
    folder = Path(sys.argv[1])
    runs = {arm: [read(run) for run in sorted(folder.glob(f"{arm}-*"))] for arm in ARMS}
    table(runs)
    picture(runs, folder / "batch_study")


main()
