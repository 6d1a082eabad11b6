"""Embeddings and reranking through the whole system: small encoders beside a model that spans both devices."""

import contextlib
import json
import math
import os
import shutil
import signal
import struct

import grpc
import pytest

from harness import ROOT, Cluster, eventually, inference, reason_of
from test_load import run_all

ENCODERS = ROOT / "tests" / "golden" / "encoders"
TOKENIZER = ROOT / "tests" / "golden" / "tokenizer" / "bert_style" / "tokenizer.json"
WORDS = "the scheduler gives every request to a group of workers and answers with stream tokens when worker is drained".split()


def tensors(path):
    """The float32 tensors of a safetensors file, as lists of rows."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    out = {}
    for name, info in json.loads(data[8:8 + length]).items():
        if name == "__metadata__":
            continue
        rows, width = info["shape"]
        begin = 8 + length + info["data_offsets"][0]
        flat = struct.unpack_from(f"<{rows * width}f", data, begin)
        out[name] = [flat[i * width:(i + 1) * width] for i in range(rows)]
    return out


def golden(name):
    inputs = json.loads((ENCODERS / name / "golden.json").read_text())["inputs"]
    return inputs, tensors(ENCODERS / name / "golden.safetensors")["vectors"]


def folder_of(tmp, name):
    """A golden encoder with a tokenizer, as a model folder is."""
    folder = tmp / name
    shutil.copytree(ENCODERS / name, folder)
    shutil.copy(TOKENIZER, folder / "tokenizer.json")
    return folder


def extra_models(tmp, **keys):
    more = "".join(f", {key}: {value}" for key, value in keys.items())
    return "\n".join(f"  - {{name: {name}, aliases: [{alias}], path: {folder_of(tmp, folder)}, task: {task}{more}}}"
                     for name, alias, folder, task in (("small-embed", "text-embedding-3-small", "bert-mean", "embed"),
                                                       ("small-rerank", "reranker", "bert-rerank", "rerank")))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A generating model on two CPU workers as one group, and two encoders on the same workers."""
    tmp = tmp_path_factory.mktemp("embed")
    with Cluster(tmp, tensor_parallel=2, extra=extra_models(tmp)) as running:
        yield running


def embed(cluster, texts=None, ids=None, model="small-embed", timeout=60, **fields):
    request = inference.EmbedRequest(model=model, **fields)
    for text in texts or []:
        request.texts.append(text if isinstance(text, bytes) else text.encode())
    for each in ids or []:
        request.inputs.add().token_ids.ids.extend(each)
    return cluster.inference().Embed(request, timeout=timeout)


def rerank(cluster, query, documents, model="small-rerank", timeout=60, **fields):
    request = inference.RerankRequest(model=model, query=query.encode(), documents=[d.encode() for d in documents], **fields)
    return cluster.inference().Rerank(request, timeout=timeout)


def texts_of(count, words=12):
    return [" ".join(WORDS[(i * 7 + k * (1 + i % 5)) % len(WORDS)] for k in range(1 + (i * 3) % words)) for i in range(count)]


def values(response):
    return [list(e.values) for e in response.embeddings]


def distance(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return 1 - dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def refusal(call):
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), reason_of(raised.value), raised.value.details()


# ---- answers


def test_vectors_of_ids_are_those_of_the_reference(cluster):
    inputs, vectors = golden("bert-mean")
    inputs = [(i["ids"], v) for i, v in zip(inputs, vectors) if i["second_at"] == 0]
    answer = embed(cluster, ids=[ids for ids, _ in inputs])
    assert len(answer.embeddings) == len(inputs)
    for got, (ids, wanted) in zip(answer.embeddings, inputs):
        assert distance(got.values, wanted) <= 1e-5
        assert got.prompt_tokens == len(ids) and not got.truncated
    assert answer.usage.prompt_tokens == sum(len(ids) for ids, _ in inputs)
    assert answer.model_revision


def test_a_text_is_its_ids_with_what_the_model_puts_around(cluster):
    text = "The scheduler gives every request to a group."
    stub = cluster.inference()
    ids = stub.Tokenize(inference.TokenizeRequest(model="small-embed", text=text.encode()), timeout=10).token_ids
    by_text = embed(cluster, [text], model="text-embedding-3-small")
    assert by_text.embeddings[0].prompt_tokens == len(ids) > 8
    assert values(by_text) == values(embed(cluster, ids=[ids]))


def test_a_call_of_many_is_answered_in_order_with_the_bits_of_calls_of_one(cluster):
    texts = texts_of(300)
    together = values(embed(cluster, texts))
    for i in (0, 1, 47, 48, 150, 299):
        assert values(embed(cluster, [texts[i]])) == [together[i]]
    loads = {g.model: g for g in cluster.status().groups}
    assert any("small-embed" in model for model in loads)


def test_dimensions_keep_the_direction_of_what_is_left(cluster):
    whole = values(embed(cluster, ["a worker is drained"]))[0]
    short = values(embed(cluster, ["a worker is drained"], dimensions=8))[0]
    assert len(short) == 8 and abs(sum(x * x for x in short) - 1) < 1e-6
    assert distance(short, whole[:8]) < 1e-6


def test_reranking_sorts_and_each_score_stands_alone(cluster):
    documents = texts_of(40)
    answer = rerank(cluster, "which worker is drained", documents)
    assert sorted(r.index for r in answer.results) == list(range(40))
    scores = [r.score for r in answer.results]
    assert scores == sorted(scores, reverse=True) and all(0 <= s <= 1 for s in scores)
    by_index = {r.index: r.score for r in answer.results}
    for i in (0, 17, 39):
        assert rerank(cluster, "which worker is drained", [documents[i]], model="reranker").results[0].score == by_index[i]
    best = rerank(cluster, "which worker is drained", documents, top_n=3)
    assert [(r.index, r.score) for r in best.results] == [(r.index, r.score) for r in answer.results[:3]]
    assert best.usage.prompt_tokens == answer.usage.prompt_tokens == sum(r.prompt_tokens for r in answer.results)


def test_too_long_is_an_error_or_cut_as_asked(cluster):
    text = " ".join(WORDS * 12)
    code, reason, said = refusal(lambda: embed(cluster, ["fine", text]))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED")
    assert "texts[1]" in said and "48 tokens" in said and "truncate_tokens" in said
    cut = embed(cluster, ["fine", text], truncate_tokens=0)
    assert [e.truncated for e in cut.embeddings] == [False, True] and cut.embeddings[1].prompt_tokens == 48
    shorter = embed(cluster, [text], truncate_tokens=16)
    assert shorter.embeddings[0].prompt_tokens == 16
    ids = cluster.inference().Tokenize(inference.TokenizeRequest(model="small-embed", text=text.encode()), timeout=10).token_ids
    assert values(shorter) == values(embed(cluster, ids=[list(ids[:15]) + [ids[-1]]]))
    code, reason, said = refusal(lambda: embed(cluster, ids=[[5] * 49]))
    assert reason == "CONTEXT_LENGTH_EXCEEDED" and "49 tokens" in said
    assert embed(cluster, ids=[[5] * 49], truncate_tokens=0).embeddings[0].truncated
    assert refusal(lambda: rerank(cluster, text, [text]))[1] == "CONTEXT_LENGTH_EXCEEDED"
    assert rerank(cluster, text, [text], truncate_tokens=0).results[0].truncated


@pytest.mark.parametrize("call, part", [
    (lambda c: embed(c, []), "inputs has 0 entries"),
    (lambda c: embed(c, ["a", ""]), "texts[1] is empty"),
    (lambda c: embed(c, [b"ok", b"\xff\xfe"]), "texts[1] is not valid UTF-8"),
    (lambda c: embed(c, ids=[[]]), "inputs[0]"),
    (lambda c: embed(c, ids=[[1, 900]]), "inputs[0][1] is 900"),
    (lambda c: embed(c, ["a"], dimensions=33), "dimensions is 33"),
    (lambda c: embed(c, ["a"] * 2049), "texts has 2049 entries"),
    (lambda c: embed(c, ["a"], priority=101), "priority is 101"),
    (lambda c: embed(c, ["a"], tenant="t" * 65), "tenant has 65"),
    (lambda c: embed(c, ["a"], model="tiny"), "task generate"),
    (lambda c: embed(c, ["a"], model="small-rerank"), "task rerank"),
    (lambda c: rerank(c, "q", ["d"], model="small-embed"), "task embed"),
    (lambda c: rerank(c, "", ["d"]), "query is empty"),
    (lambda c: rerank(c, "q", []), "documents has 0 entries"),
    (lambda c: list(c.inference().Generate(c.request("hello", model="small-embed"), timeout=10)), "task embed"),
    (lambda c: c.inference().Embed(inference.EmbedRequest(
        model="small-embed", inputs=[inference.EmbedInput(image=b"\x89PNG")]), timeout=10), "reads text only"),
    (lambda c: c.inference().Embed(inference.EmbedRequest(model="small-embed", texts=[b"a"], inputs=[
        inference.EmbedInput(text=b"b")]), timeout=10), "both texts and inputs"),
])
def test_bad_input_is_refused_by_name(cluster, call, part):
    code, reason, said = refusal(lambda: call(cluster))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER"), said
    assert part in said


def test_an_unknown_model_is_not_found(cluster):
    code, reason, said = refusal(lambda: embed(cluster, ["a"], model="nobody"))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND") and "small-embed" in said


def test_models_are_listed_with_their_task(cluster):
    models = {m.name: m for m in cluster.inference().ListModels(inference.ListModelsRequest(), timeout=10).models}
    assert (models["small-embed"].task, models["small-rerank"].task, models["tiny"].task) == ("embed", "rerank", "generate")
    assert models["small-embed"].max_model_len == 48 and models["small-embed"].ready


def test_a_long_query_with_many_documents_is_read_once(cluster):
    """Read with each document this is a gigabyte of text, and nobody else's is tokenized meanwhile."""
    query = " ".join(WORDS[i % len(WORDS)] for i in range(180_000))
    assert len(query) > 1_000_000
    answer = rerank(cluster, query, ["the group has two ranks"] * 1000, timeout=60, truncate_tokens=0)
    assert len(answer.results) == 1000
    assert all(r.truncated and r.prompt_tokens == 64 for r in answer.results)


# ---- the Python package


def test_the_python_package_embeds_and_reranks(package, cluster):
    texts, ids = texts_of(3), [5, 6, 7]
    with package.Client(f"127.0.0.1:{cluster.clients}") as client:
        got = client.embed("small-embed", [*texts, ids])
        assert got == values(embed(cluster, texts)) + values(embed(cluster, ids=[ids]))
        assert client.embed("small-embed", texts[0]) == got[:1]
        assert client.embed("small-embed", ["the " * 200], truncate_tokens=4) == client.embed("small-embed", ["the " * 9], truncate_tokens=4)
        with pytest.raises(package.TandemError) as caught:
            client.embed("small-embed", ["a", ""])
        assert caught.value.reason == "INVALID_PARAMETER" and caught.value.metadata["field"] == "inputs[1]"
        with pytest.raises(package.TandemError) as caught:
            client.embed("small-embed", image=b"\x89PNG\r\n\x1a\n")
        assert "reads text only" in str(caught.value)
        ranked = client.rerank("small-rerank", texts[0], texts)
        wanted = rerank(cluster, texts[0], texts).results
        assert [(r.index, r.score) for r in ranked] == [(r.index, r.score) for r in wanted]


# ---- beside a generating model


def test_both_kinds_of_work_go_on_beside_each_other(cluster):
    alone = cluster.generate("The lighthouse keeper", max_tokens=32).ids
    texts = texts_of(120)
    expected = values(embed(cluster, texts))
    outcomes, vectors = [], []
    run_all([lambda: outcomes.append(cluster.generate("The lighthouse keeper", max_tokens=32))] * 4 +
            [lambda: vectors.append(values(embed(cluster, texts)))] * 3)
    assert [o.ids for o in outcomes] == [alone] * 4
    assert vectors == [expected] * 3


def test_a_cancelled_call_leaves_nothing(cluster):
    call = cluster.inference().Embed.future(inference.EmbedRequest(
        model="small-embed", texts=[t.encode() for t in texts_of(2048)]), timeout=60)
    eventually(lambda: cluster.status().requests_running + cluster.status().requests_queued > 0 or call.done(), 30, "it runs")
    call.cancel()  # the fixture checks that every booking goes


def test_a_deadline_ends_a_call(cluster):
    with contextlib.suppress(grpc.RpcError):  # it may be in time
        embed(cluster, texts_of(2048), timeout=0.05)
    assert len(embed(cluster, ["still there"]).embeddings) == 1


def test_the_command_line(cluster):
    done = cluster.ctl("embed", "--model", "small-embed", "-o", "json", "a worker", "is drained")
    said = json.loads(done.stdout)
    expected = values(embed(cluster, ["a worker", "is drained"]))
    assert [[struct.unpack("f", struct.pack("f", x))[0] for x in e["values"]] for e in said["embeddings"]] == expected
    table = cluster.ctl("embed", "--model", "small-embed", "a worker", "--dimensions", "4").stdout.splitlines()
    assert table[0].split() == ["INPUT", "TOKENS", "DIMENSIONS", "LENGTH", "VALUES"] and " 4 " in table[1]
    ranked = cluster.ctl("rerank", "--model", "small-rerank", "which worker", "a worker", "tokens").stdout.splitlines()
    assert ranked[0].split() == ["DOCUMENT", "SCORE", "TOKENS"] and len(ranked) == 3
    assert cluster.ctl("embed", "--model", "tiny", "x", check=False).returncode == 2


# ---- what breaks


def test_a_worker_killed_on_the_way_changes_no_answer(tmp_path):
    with Cluster(tmp_path, tensor_parallel=2, extra=extra_models(tmp_path, replicas=1)) as cluster:
        texts = texts_of(2048, words=40)
        expected = values(embed(cluster, texts[:64], truncate_tokens=0))
        group = next(g for g in cluster.status().groups if "small-embed" in g.model)
        device = group.devices[0].rsplit("/", 1)[1]
        call = cluster.inference().Embed.future(inference.EmbedRequest(
            model="small-embed", texts=[t.encode() for t in texts], truncate_tokens=0), timeout=120)
        eventually(lambda: cluster.status().requests_running > 0 or call.done(), 30, "it runs")
        os.kill(cluster.children()[f"cpu:{device}"], signal.SIGKILL)
        answer = values(call.result())
        assert len(answer) == len(texts) and answer[:64] == expected


def test_an_encoder_over_two_ranks_is_refused_at_start(tmp_path):
    folder = folder_of(tmp_path, "bert-mean")
    extra = f"  - {{name: wide, path: {folder}, task: embed, tensor_parallel: 2}}"
    with Cluster(tmp_path / "c", extra=extra, ready=False) as cluster:
        assert cluster.process.wait(timeout=60) != 0
        assert "tensor_parallel is 2; a model of the task embed runs on one rank" in cluster.tail()
