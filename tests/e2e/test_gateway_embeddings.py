"""Embeddings and reranking over HTTP, by plain HTTP and by the clients that people use."""

import base64
import math
import os
import struct

import pytest

from gateway_rig import Gateway
from harness import SLOW, Cluster

os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_TELEMETRY="False", NO_PROXY="127.0.0.1,localhost", OPENAI_API_KEY="unused")
litellm = pytest.importorskip("litellm", reason="not in this venv; scripts/test installs requirements.txt")
openai = pytest.importorskip("openai")
encoders = pytest.importorskip("test_embed", reason="this tree serves no embeddings")

MODEL, RERANKER = "small-embed", "small-rerank"
TEXTS = ["the scheduler", "answers with stream tokens"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("embeddings")
    with Cluster(tmp, tensor_parallel=2, extra=encoders.extra_models(tmp)) as cluster:
        with Gateway(cluster.tmp, cluster.clients) as running:
            yield running


@pytest.fixture(scope="module")
def client(gateway):
    return openai.OpenAI(base_url=gateway.url + "/v1", api_key="any", max_retries=0, timeout=60 * SLOW)


@pytest.fixture(scope="module")
def vectors(gateway):
    status, _, body = gateway.ask("/v1/embeddings", {"model": MODEL, "input": TEXTS})
    assert status == 200, body
    return [item["embedding"] for item in body["data"]]


def near(a, b):
    return len(a) == len(b) and all(math.isclose(x, y, abs_tol=1e-6) for x, y in zip(a, b))


def test_ids_give_the_references_vectors(gateway):
    inputs, all_expected = encoders.golden("bert-mean")
    single = [i for i, each in enumerate(inputs) if each["second_at"] == 0]  # the others are pairs, for rerankers
    ids, expected = [inputs[i]["ids"] for i in single], [all_expected[i] for i in single]
    body = gateway.ask("/v1/embeddings", {"model": MODEL, "input": ids})[2]
    assert [item["index"] for item in body["data"]] == list(range(len(ids)))
    for item, vector in zip(body["data"], expected):
        assert math.dist(item["embedding"], vector) < 1e-3


def test_base64_is_the_same_numbers(gateway, vectors):
    body = gateway.ask("/v1/embeddings", {"model": MODEL, "input": TEXTS[0], "encoding_format": "base64"})[2]
    raw = base64.b64decode(body["data"][0]["embedding"])
    assert near(struct.unpack(f"<{len(raw) // 4}f", raw), vectors[0])
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("fields, status, param", [
    ({"input": []}, 400, "input"),
    ({"input": [[10_000_000]]}, 400, None),
    ({"model": "nothing"}, 404, "model"),
    ({"model": "tiny"}, 400, None),
    ({"encoding_format": "hex"}, 400, "encoding_format"),
])
def test_refusals(gateway, fields, status, param):
    got, _, body = gateway.ask("/v1/embeddings", {"model": MODEL, "input": TEXTS, **fields})
    assert got == status and (param is None or body["error"]["param"] == param), body


def test_openai(client, vectors):
    answer = client.embeddings.create(model=MODEL, input=TEXTS)  # asks for base64 by itself
    assert all(near(item.embedding, vector) for item, vector in zip(answer.data, vectors))
    short = client.embeddings.create(model="text-embedding-3-small", input=TEXTS[0], dimensions=4).data[0].embedding
    assert len(short) == 4 and math.isclose(sum(x * x for x in short), 1, abs_tol=1e-4)


@pytest.mark.parametrize("provider", ["hosted_vllm", "openai"])
def test_litellm(gateway, vectors, provider):
    answer = litellm.embedding(model=f"{provider}/{MODEL}", input=TEXTS, api_base=gateway.url + "/v1", api_key="any")
    assert all(near(item["embedding"], vector) for item, vector in zip(answer.data, vectors))


def test_litellm_rerank(gateway):
    documents = ["the scheduler", "a worker", "stream tokens"]
    answer = litellm.rerank(model=f"hosted_vllm/{RERANKER}", query="what is the scheduler", documents=documents, top_n=2,
                            api_base=gateway.url, api_key="any")
    scores = [r["relevance_score"] for r in answer.results]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True)
    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        body = gateway.ask(path, {"model": RERANKER, "query": "what is the scheduler", "documents": documents})[2]
        assert sorted(r["index"] for r in body["results"]) == [0, 1, 2]
        assert [r["relevance_score"] for r in body["results"]][:2] == pytest.approx(scores)
        assert all(r["document"]["text"] == documents[r["index"]] for r in body["results"])


def test_langchain(gateway, vectors):
    from langchain_openai import OpenAIEmbeddings
    embeddings = OpenAIEmbeddings(model=MODEL, base_url=gateway.url + "/v1", api_key="any", check_embedding_ctx_length=False)
    assert all(near(a, b) for a, b in zip(embeddings.embed_documents(TEXTS), vectors))


def test_llama_index(gateway, vectors):
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding
    embeddings = OpenAILikeEmbedding(model_name=MODEL, api_base=gateway.url + "/v1", api_key="any")
    assert near(embeddings.get_text_embedding(TEXTS[0]), vectors[0])
