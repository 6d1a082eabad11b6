"""Every family and every degree of tensor parallelism through the whole system, against the reference's greedy ids."""

import json
import shutil

import pytest

from harness import ROOT, Cluster

FAMILIES = ROOT / "tests" / "golden" / "models"
TINY = json.loads((ROOT / "tests" / "golden" / "tiny_greedy.json").read_text())["cases"]


def byte_symbols():
    """GPT-2's printable stand-ins for the 256 bytes, in byte order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]


@pytest.mark.parametrize("degree", [1, 2, 4])
def test_the_shipped_model_at_every_degree(tmp_path, degree):
    """At 4 ranks each of the two KV heads stands on two of them, and 2000 tokens are padded to 2048."""
    with Cluster(tmp_path, devices=degree, tensor_parallel=degree) as cluster:
        assert cluster.status().groups[0].numerics_id.count(f"tp{degree}") == 1
        for case in TINY[:4]:
            assert cluster.generate(case["prompt_ids"], max_tokens=64).ids == case["greedy_ids"]


@pytest.mark.parametrize("family", ["gpt2", "llama-llama3-rope", "llama-yarn-biases", "mistral-window", "qwen2-bias", "qwen3", "phi3-fused"])
@pytest.mark.parametrize("degree", [1, 2])
def test_every_family(tmp_path, family, degree):
    folder = tmp_path / family
    shutil.copytree(FAMILIES / family, folder)
    golden = json.loads((folder / "golden.json").read_text())
    # The goldens speak in ids; a vocabulary of 203 bytes is enough of a tokenizer. GPT-2's two files, as DialoGPT ships.
    (folder / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(byte_symbols()[:203])}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    with Cluster(tmp_path / "c", devices=degree, tensor_parallel=degree, model=folder, name="m") as cluster:
        for prompt, greedy in list(zip(golden["prompts"], golden["greedy"]))[:4]:
            assert cluster.generate(prompt, max_tokens=len(greedy)).ids == greedy
