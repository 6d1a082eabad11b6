"""Writes tests/golden/tiny_greedy.json: what tandem-tiny says when it always takes the most likely token.

    python scripts/goldens/make_tiny_goldens.py --model models/tandem-tiny --out tests/golden/tiny_greedy.json

The weights are the stored bfloat16 numbers, the arithmetic is float32 (transformers, no cache, one thread), and the end
token does not stop a text. A prompt is taken only if, at each of its 64 steps, the best logit is ahead of the second by
MIN_GAP or more: then another order of summation in float32 cannot change a token, and a difference is an error.
Needs torch and transformers; the tests need only the file.
"""

import argparse
import json
import pathlib

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

STEPS = 64
WANTED = 10
MIN_GAP = 1e-2
# In order of preference; the first WANTED with wide enough gaps are kept.
PROMPTS = (
    "The scheduler",
    "Once upon a time",
    "A worker is",
    "The capital of France is",
    "Q: What is the capital of Spain?\nA:",
    "Count with me: one, two,",
    "Hello, my name is",
    "When the queue is full,",
    "Today there is rain, and",
    "Q: Who are you?\nA:",
    "The GPU",
    "In the morning",
    "A hammer is a tool",
    "Monday, Tuesday,",
    "To bake bread",
    "The old clock",
)


def greedy(model, prompt_ids):
    """The STEPS ids that follow, and the narrowest lead of the best logit on the way."""
    ids, narrowest = list(prompt_ids), float("inf")
    for _ in range(STEPS):
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        best = torch.topk(logits, 2)
        narrowest = min(narrowest, (best.values[0] - best.values[1]).item())
        ids.append(best.indices[0].item())
    return ids[len(prompt_ids):], narrowest


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = LlamaForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()

    cases = []
    with torch.inference_mode():
        for prompt in PROMPTS:
            prompt_ids = tokenizer(prompt)["input_ids"]
            ids, gap = greedy(model, prompt_ids)
            print(f"gap {gap:.4f}  {prompt!r} -> {tokenizer.decode(ids)!r}", flush=True)
            if gap >= MIN_GAP and len(cases) < WANTED:
                cases.append({"prompt": prompt, "prompt_ids": prompt_ids, "greedy_ids": ids,
                              "min_top2_logit_gap": round(gap, 6), "text": tokenizer.decode(ids)})
    if len(cases) < WANTED:
        raise SystemExit(f"{len(cases)} prompts have gaps of {MIN_GAP} or more, {WANTED} are needed: add prompts")
    golden = {"about": "greedy continuations of tandem-tiny, float32 arithmetic on its bfloat16 weights, end token "
                       "ignored; made by scripts/goldens/make_tiny_goldens.py",
              "steps": STEPS, "cases": cases}
    # One line for a list of ids keeps the file readable in a review.
    text = json.dumps(golden, indent=1, ensure_ascii=False)
    for case in cases:
        for key in ("prompt_ids", "greedy_ids"):
            text = text.replace(json.dumps(case[key], indent=1).replace("\n", "\n   "), json.dumps(case[key]))
    arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
