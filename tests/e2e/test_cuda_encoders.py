"""Embeddings and reranking through the whole system on an emulated GPU, beside a model that generates on the same one."""

import grpc
import pytest
from test_embed import extra_models, golden

from harness import BIN, eventually
from protos import inference, inference_rpc
from rig import Rig

PLUGIN = BIN.parent / "lib" / "libtandem_cuda_emulated.so"

pytestmark = pytest.mark.skipif(not PLUGIN.exists(), reason=f"{PLUGIN} is not built")


@pytest.fixture()
def rig(tmp_path, monkeypatch):
    monkeypatch.setenv("TANDEM_CUDA_PLUGIN", str(PLUGIN))
    monkeypatch.setenv("TANDEM_EMULATION_DEVICES", "1")
    # Three models on one device: each is planned with a context's share until it was measured.
    monkeypatch.setenv("TANDEM_EMULATION_MEMORY", str(4 << 30))
    monkeypatch.setenv("TANDEM_NVML_LIBRARY", "/nowhere/libnvidia-ml.so.1")
    # An emulated device computes thread by thread: steps are kept small.
    encoders = extra_models(tmp_path / "models", max_num_seqs=8)
    with Rig(tmp_path / "rig", ["cuda:0"], time_scale=4, max_sequences=2, model_keys=", max_model_len: 256", ready=False,
             extra=encoders) as rig:
        eventually(lambda: rig.replicas_ready() >= 1 and len(rig.groups()) == 3, 180, "all three models are served")
        yield rig


def test_vectors_and_scores_are_near_the_references(rig):
    assert rig.said("cuda:0", "/fp16/encoder/v")
    with grpc.insecure_channel(rig.target) as channel:
        stub = inference_rpc.InferenceServiceStub(channel)

        inputs, vectors = golden("bert-mean")
        alone = [(each["ids"], vector) for each, vector in zip(inputs, vectors) if each["second_at"] == 0]
        request = inference.EmbedRequest(model="small-embed")
        for ids, _ in alone:
            request.inputs.add().token_ids.ids.extend(ids)
        answer = stub.Embed(request, timeout=120)
        assert len(answer.embeddings) == len(alone)
        for got, (_, wanted) in zip(answer.embeddings, alone):
            # float16 between products, and the service rounds nothing.
            assert max(abs(a - b) for a, b in zip(got.values, wanted)) < 5e-3

        scores = stub.Rerank(inference.RerankRequest(model="small-rerank", query=b"the scheduler gives",
                                                     documents=[b"stream tokens", b"workers"]), timeout=120)
        assert len(scores.results) == 2
