"""The speed of transformers at what `terrace bench prefill` and `terrace bench decode` measure.

    python peer_transformers.py MODEL --prompt 512 --batch 1,8 --steps 32

A folder's weights in f32 on the processor, SDPA attention, a key/value cache allocated as it grows; the
median of the measured repeats. One JSON object on stdout.
"""

import argparse
import json
import statistics
import time

import torch
import transformers


def timed(work):
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def prefill(model, prompt, repeats):
    ids = torch.randint(0, model.config.vocab_size, (1, prompt))
    # Of a prompt only the last position's logits are wanted, as in Terrace.
    run = lambda: model(input_ids=ids, use_cache=True, logits_to_keep=1)
    run()
    return prompt / statistics.median(timed(run)[0] for _ in range(repeats))


def decode(model, batch, prompt, steps):
    ids = torch.randint(0, model.config.vocab_size, (batch, prompt))
    answer = model(input_ids=ids, use_cache=True, logits_to_keep=1)
    times = []
    for _ in range(steps + 4):
        token = answer.logits[:, -1:].argmax(-1)
        seconds, answer = timed(
            lambda: model(input_ids=token, past_key_values=answer.past_key_values, use_cache=True)
        )
        times.append(seconds)
    return batch / statistics.median(times[4:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    with torch.inference_mode():
        answer = {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "threads": torch.get_num_threads(),
            "prefill_tokens_per_second": prefill(model, options.prompt, options.repeats),
            "decode_tokens_per_second": {
                batch: decode(model, int(batch), 64, options.steps) for batch in options.batch.split(",")
            },
        }
    print(json.dumps(answer))


main()
