"""CLIP through the whole system on an emulated GPU: a gateway embeds texts and pictures, and the vectors are those of the
CPU."""

import pytest
from test_embed import distance
from test_embed_images import GOLDEN, IMAGE_TOKENS, MODEL, data_url

from gateway_rig import Gateway
from harness import BIN, eventually
from rig import Rig

PLUGIN = BIN.parent / "lib" / "libtandem_cuda_emulated.so"

pytestmark = pytest.mark.skipif(not PLUGIN.exists(), reason=f"{PLUGIN} is not built")

# A few files of each kind with texts between them, none so long that it was cut; an emulated device computes thread by
# thread.
TEXTS = [each["text"] for each in GOLDEN["texts"] if each["text"] and len(each["ids"]) < 40]
INPUTS = [each for name, text in zip(GOLDEN["images"][::4], TEXTS) for each in ({"image": data_url(name)}, text)]


def vectors_of(tmp, device, monkeypatch):
    """What a service with that one device answers: the vectors, and what its worker says it computes with."""
    monkeypatch.setenv("TANDEM_CUDA_PLUGIN", str(PLUGIN))
    monkeypatch.setenv("TANDEM_EMULATION_DEVICES", "1")
    monkeypatch.setenv("TANDEM_EMULATION_MEMORY", str(4 << 30))
    monkeypatch.setenv("TANDEM_NVML_LIBRARY", "/nowhere/libnvidia-ml.so.1")
    clip = f"  - {{name: clip, path: {MODEL}, task: embed, max_num_seqs: 8}}"
    with Rig(tmp, [device], time_scale=4, max_sequences=2, model_keys=", max_model_len: 256", ready=False, extra=clip) as rig:
        eventually(lambda: len(rig.groups()) == 2, 180, "both models are served")
        with Gateway(tmp, rig.clients.port) as gateway:
            status, _, body = gateway.ask("/v1/embeddings", {"model": "clip", "input": INPUTS}, timeout=120)
            assert status == 200, body
            pictures = sum(isinstance(each, dict) for each in INPUTS)
            assert body["usage"]["prompt_tokens"] > pictures * IMAGE_TOKENS
            bad = gateway.ask("/v1/embeddings", {"model": "clip", "input": [{"image": data_url("rgb.png")[:200]}]}, timeout=60)
            assert bad[0] == 400, bad
        assert rig.restarts[device] == 0
        return [item["embedding"] for item in body["data"]], rig.said(device, "/fp16/clip/v")


def test_texts_and_pictures_have_the_vectors_of_the_cpu(tmp_path, monkeypatch):
    on_gpu, by_clip_on_cuda = vectors_of(tmp_path / "gpu", "cuda:0", monkeypatch)
    on_cpu, _ = vectors_of(tmp_path / "cpu", "cpu:0", monkeypatch)
    assert by_clip_on_cuda
    assert len(on_gpu) == len(on_cpu) == len(INPUTS)
    for i, (a, b) in enumerate(zip(on_gpu, on_cpu)):
        # float16 between products: 5e-3 of a vector's length, which is 1.
        assert sum((x - y) ** 2 for x, y in zip(a, b)) ** 0.5 < 5e-3, i
        assert distance(a, b) < 1e-4, i
