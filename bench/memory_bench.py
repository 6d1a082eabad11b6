#!/usr/bin/env python3
"""The memory estimate beside what workers really take: models of a little over 1 GiB of random bf16 weights, CPU workers of
4 GiB each, TP 1, 2 and 4, loaded and after one full batch of 512 tokens.

    python3 bench/memory_bench.py

Target: the estimate within 5 % of the measured growth and within 3 % of the device. tests/e2e/memory_growth.py says how it is
measured. Models are made in the temporary folder, one at a time, and removed.
"""

import os
import pathlib
import shutil
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
os.environ.setdefault("TANDEM_BUILD_DIR", str(ROOT / "build"))

from memory_growth import DEVICE, HEADER, loaded  # noqa: E402
from random_models import GPT2, LLAMA, write_model  # noqa: E402

# Narrow and deep, with a small vocabulary: other proportions of packed copies and activations.
DEEP = LLAMA | dict(hidden_size=1024, intermediate_size=2816, num_hidden_layers=44, num_attention_heads=16, num_key_value_heads=4,
                    vocab_size=32000)


def main():
    load = os.getloadavg()[0]
    print(f"machine: {os.cpu_count()} cores, load {load:.2f} before the start")
    print(f"command: memory_bench.py; devices of {DEVICE >> 30} GiB")
    worst_growth = worst_device = 0.0
    for name, shape in (("Llama, 4 layers of 2048, vocabulary of 96,000", LLAMA), ("Llama, 44 layers of 1024, vocabulary of 32,000", DEEP),
                        ("GPT-2, 18 layers of 1536, vocabulary of 50,304", GPT2)):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="memory-bench-"))
        try:
            weights = write_model(folder / "model", shape)
            print(f"{name}: {weights / 2**20:.0f} MiB of weights\n  {HEADER}", flush=True)
            for degree in (1, 2, 4):
                with loaded(folder / f"tp{degree}", folder / "model", degree) as (_, ranks):
                    for rank in ranks:
                        print(f"  {rank}", flush=True)
                        worst_growth = max(worst_growth, abs(rank.off_growth))
                        worst_device = max(worst_device, abs(rank.off_device))
        finally:
            shutil.rmtree(folder)
    print(f"worst: {100 * worst_growth:.2f} % of the growth = {worst_growth / 0.05:.2f} of the target of 5 %; "
          f"{100 * worst_device:.2f} % of the device = {worst_device / 0.03:.2f} of the target of 3 %")


if __name__ == "__main__":
    main()
