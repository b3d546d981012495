"""Writes two tasks over local items into a folder, for lm_eval and for `terrace eval`.

    python items.py FOLDER

Sentences are drawn from a few words of English, Chinese and code: what is compared is two ways to the
same numbers, not how good a model is.
"""

import json
import random
import sys
from pathlib import Path

WORDS = ("a the model reads in then answers and the table that is about an apple ten men "
         "数据 模型 你好。 x = y + 1; f(n) -> n [0] {k: 2} it's \"quoted\"").split(" ")
ITEMS = 24

CHOICE = """task: terrace_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/choice.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{options}}}}"
doc_to_target: "{{{{answer}}}}"
num_fewshot: 0
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
GENERATION = """task: terrace_generation
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/generation.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: "{{{{target}}}}"
num_fewshot: 0
generation_kwargs: {{until: {stops}, max_gen_toks: 32, do_sample: false, temperature: 0.0}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""
OURS_CHOICE = """name = "terrace_choice"
form = "multiple-choice"
metric = "acc"
prompt = "Question: {{{{ question }}}}\\nAnswer:"
options_from = "options"
answer = "answer"

[data]
items = ["{folder}/choice.jsonl"]
"""
OURS_GENERATION = """name = "terrace_generation"
form = "generation"
metric = "exact_match"
prompt = "Question: {{{{ question }}}}\\nAnswer:"
target = "{{{{ target }}}}"

[data]
items = ["{folder}/generation.jsonl"]

[generation]
max_new_tokens = 32
stop = {stops}
"""
# More than four, one of them Chinese, one that begins like another.
STOPS = ["Question:", "\n\n", "。", "zz", "zq", "据模"]


def sentence(draw, least, most):
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(least, most)))


def main():
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(7)
    with open(folder / "choice.jsonl", "w") as out:
        for _ in range(ITEMS):
            options = [sentence(draw, 1, 6) for _ in range(4)]
            item = {"question": sentence(draw, 1, 60), "options": options, "answer": draw.randrange(4)}
            print(json.dumps(item, ensure_ascii=False), file=out)
    with open(folder / "generation.jsonl", "w") as out:
        for _ in range(ITEMS):
            item = {"question": sentence(draw, 1, 60), "target": sentence(draw, 1, 3)}
            print(json.dumps(item, ensure_ascii=False), file=out)
    stops = json.dumps(STOPS, ensure_ascii=False)
    for name, text in [("choice.yaml", CHOICE), ("generation.yaml", GENERATION),
                       ("choice.toml", OURS_CHOICE), ("generation.toml", OURS_GENERATION)]:
        (folder / name).write_text(text.format(folder=folder, stops=stops))


if __name__ == "__main__":
    main()
