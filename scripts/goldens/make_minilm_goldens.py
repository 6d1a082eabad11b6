#!/usr/bin/env python3
"""Makes tests/golden/minilm: texts, and the vectors that the reference implementation gives them with all-MiniLM-L6-v2.

    python3 scripts/goldens/make_minilm_goldens.py FOLDER

Needs torch and transformers; FOLDER is the model's. What sentence-transformers does is done by hand: the tokenizer cuts
at 256 tokens, hidden states are averaged over the tokens, and brought to length 1. Each text is computed by itself.

texts.json            {"queries": [100], "documents": [60], "others": [...]}: the last are long, short and foreign
reference.safetensors "queries", "documents", "others": [texts, 384] float32
"""

import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "minilm"

TOPICS = [
    "a lighthouse", "the tide", "a sourdough starter", "a bicycle chain", "an electric car battery", "the immune system",
    "a suspension bridge", "a compiler", "a honey bee colony", "the stock market", "a violin", "a glacier", "a database index",
    "a telescope mirror", "an orchard in winter", "a chess opening", "a water turbine", "the printing press", "a coral reef",
    "a parachute",
]
QUESTIONS = ["How does {} work?", "what goes wrong with {}", "Who looks after {}, and how often?", "cost of {} in practice",
             "Explain the history of {} to a child."]
STATEMENTS = [
    "In most cases {} is understood best by taking it apart: its parts wear at different rates, and the weakest one decides.",
    "The first written account of {} is older than people think; it was copied many times before anybody doubted it.",
    "Looking after {} takes patience. Check it every week, note what changed, and never change two things at once.",
]
OTHERS = [
    "a", "!", "I", "The quick brown fox jumps over the lazy dog.", "don't can't I'll we're", "ÉCOLE école École e\u0301cole",
    "Größe, Straße, ÜBER", "天地玄黃,宇宙洪荒。", "한국어 문장", "Съешь же ещё этих мягких французских булок", "x" * 120,
    "supercalifragilisticexpialidocious antidisestablishmentarianism", "def f(x):\n    return x ** 2\n", "👩🏽‍🚀 and 🇩🇪",
    " ".join(f"word{i}" for i in range(400)), "long sentences that go on. " * 120, "\u00a0\u2003tabs\tand\nlines\r\n",
]


@torch.no_grad()
def vectors(model, tokenizer, texts):
    out = []
    for text in texts:
        encoded = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        states = model(**encoded).last_hidden_state[0]
        mean = states.mean(dim=0)
        out.append(mean / mean.norm())
    return torch.stack(out).contiguous()


def main():
    folder = sys.argv[1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).float().eval()
    texts = {
        "queries": [q.format(t) for t in TOPICS for q in QUESTIONS],
        "documents": [s.format(t) for t in TOPICS for s in STATEMENTS],
        "others": OTHERS,
    }
    OUT.mkdir(parents=True, exist_ok=True)
    save_file({name: vectors(model, tokenizer, each) for name, each in texts.items()}, OUT / "reference.safetensors")
    (OUT / "texts.json").write_text(json.dumps(texts, ensure_ascii=False, indent=1) + "\n")
    print({name: len(each) for name, each in texts.items()})


if __name__ == "__main__":
    main()
