"""Greedy tokens of the shipped model through the whole system on emulated GPUs, against the reference's."""

import json

import grpc
import pytest

from harness import BIN, ROOT
from protos import inference, inference_rpc
from rig import Rig

PLUGIN = BIN.parent / "lib" / "libtandem_cuda_emulated.so"
CASES = json.loads((ROOT / "tests" / "golden" / "tiny_greedy.json").read_text())["cases"][:2]

pytestmark = pytest.mark.skipif(not PLUGIN.exists(), reason=f"{PLUGIN} is not built")


@pytest.mark.parametrize("degree", [1, 2])
def test_greedy_ids_equal_the_reference(tmp_path, monkeypatch, degree):
    monkeypatch.setenv("TANDEM_CUDA_PLUGIN", str(PLUGIN))
    monkeypatch.setenv("TANDEM_EMULATION_DEVICES", "2")
    monkeypatch.setenv("TANDEM_NVML_LIBRARY", "/nowhere/libnvidia-ml.so.1")
    devices = [f"cuda:{i}" for i in range(degree)]
    with Rig(tmp_path, devices, tensor_parallel=degree, time_scale=4, max_sequences=8) as rig:
        assert rig.said("cuda:0", f"cuda/sm_86/bf16/tp{degree}/")
        with grpc.insecure_channel(rig.target) as channel:
            for case in CASES:
                request = inference.GenerateRequest(model="tiny")
                request.token_ids.ids.extend(case["prompt_ids"])
                request.sampling.temperature = 0
                request.stopping.max_tokens = 16
                request.stopping.ignore_eos = True
                ids = []
                for message in inference_rpc.InferenceServiceStub(channel).Generate(request, timeout=120):
                    if message.WhichOneof("event") == "chunk":
                        ids.extend(message.chunk.token_ids)
                assert ids == case["greedy_ids"][:16]
