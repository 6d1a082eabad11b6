#!/usr/bin/env python3
"""Embedding speed on one core, beside the reference implementation, in one run.

    python3 bench/embed_bench.py MODEL_FOLDER [--rounds 5] [--seconds 4] [--batch 32]

Both take the same texts (tests/golden/minilm), tokenized beforehand, in float32 with one thread. The reference
(transformers on PyTorch) takes them sorted by length in padded batches, as sentence-transformers does; ours takes them as
they come, without padding, in steps of 1024 tokens. Rounds alternate; the medians over rounds are printed. Figures are per
second of processor time, so that neighbours on the machine do not count.

The reference runs where torch and transformers are installed; elsewhere only our figure is printed. Without a folder there
is nothing to measure, and it says so.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("TANDEM_BUILD_DIR", ROOT / "build"))


def our_round(folder, ids_path, seconds):
    done = subprocess.run([BUILD / "bench" / "encoder_bench", "--model", folder, "--ids", ids_path, "--seconds", str(seconds)],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


class Reference:
    def __init__(self, folder, ids, batch):
        import torch
        import transformers
        transformers.logging.set_verbosity_error()
        torch.set_num_threads(1)
        self.torch = torch
        self.name = f"transformers {transformers.__version__}, torch {torch.__version__}"
        self.model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).float().eval()
        ordered = sorted(ids, key=len, reverse=True)
        self.batches = []
        for at in range(0, len(ordered), batch):
            part = ordered[at:at + batch]
            longest = len(part[0])
            self.batches.append((torch.tensor([i + [0] * (longest - len(i)) for i in part]),
                                 torch.tensor([[1] * len(i) + [0] * (longest - len(i)) for i in part])))
        self.tokens, self.texts = sum(map(len, ids)), len(ids)

    def pass_once(self):
        with self.torch.inference_mode():
            for ids, mask in self.batches:
                states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
                weight = mask.unsqueeze(-1).float()
                mean = (states * weight).sum(1) / weight.sum(1)
                self.torch.nn.functional.normalize(mean, dim=1)

    def round(self, seconds):
        self.pass_once()
        begin, passes = time.process_time(), 0
        while (spent := time.process_time() - begin) < seconds:
            self.pass_once()
            passes += 1
        return {"tokens_per_s": self.tokens * passes / spent, "texts_per_s": self.texts * passes / spent}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("TANDEM_MINILM"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    if not args.folder:
        print("no model: name the folder of all-MiniLM-L6-v2, or set TANDEM_MINILM")
        return
    texts = json.loads((ROOT / "tests" / "golden" / "minilm" / "texts.json").read_text())
    words = texts["queries"] + texts["documents"] + texts["others"]
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(pathlib.Path(args.folder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    ids = [e.ids for e in tokenizer.encode_batch(words)]
    try:
        reference = Reference(args.folder, ids, args.batch)
    except ImportError as missing:
        reference = None
        print(f"no reference here: {missing}")
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    with tempfile.NamedTemporaryFile("w", suffix=".ids") as file:
        file.writelines(" ".join(map(str, i)) + "\n" for i in ids)
        file.flush()
        ours, theirs = [], []
        for _ in range(args.rounds):
            ours.append(our_round(args.folder, file.name, args.seconds))
            if reference:
                theirs.append(reference.round(args.seconds))
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print(f"processor: {model}, one core, load {os.getloadavg()[0]:.1f}")
    print(f"texts: {len(ids)}, {sum(map(len, ids))} tokens, longest {max(map(len, ids))}")

    def line(name, rounds):
        tokens = statistics.median(r["tokens_per_s"] for r in rounds)
        each = " ".join(f"{r['tokens_per_s']:.0f}" for r in rounds)
        print(f"{name:<44} {tokens:>8.0f} tokens/s {statistics.median(r['texts_per_s'] for r in rounds):>8.1f} texts/s   rounds: {each}")
        return tokens

    mine = line(f"tandem ({ours[0]['numerics']})", ours)
    if reference:
        print(f"ratio: {mine / line(f'{reference.name}, batch {args.batch}', theirs):.2f}")


if __name__ == "__main__":
    main()
