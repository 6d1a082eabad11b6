"""Bad input: each gets its status and reason, says what was asked and what there was, and disturbs nothing else."""

import math
import threading

import grpc
import pytest

from harness import reason_of
from protos import inference

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def set_field(path, value):
    def change(request):
        message = request
        *outer, last = path.split(".")
        for name in outer:
            message = getattr(message, name)
        setattr(message, last, value)
    return change


CASES = {
    "unknown model": (set_field("model", "nobody"), grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "nobody"),
    "no model": (set_field("model", ""), grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "tiny"),
    "empty prompt": (set_field("text", b""), INVALID, "INVALID_PARAMETER", "prompt"),
    "max_tokens 0": (set_field("stopping.max_tokens", 0), INVALID, "INVALID_PARAMETER", "max_tokens"),
    "max_tokens huge": (set_field("stopping.max_tokens", 2**31), INVALID, "INVALID_PARAMETER", "1024"),
    "max_tokens beyond what the prompt leaves": (set_field("stopping.max_tokens", 1023), INVALID, "CONTEXT_LENGTH_EXCEEDED", "1024"),
    "temperature NaN": (set_field("sampling.temperature", math.nan), INVALID, "INVALID_PARAMETER", "temperature"),
    "temperature below 0": (set_field("sampling.temperature", -1), INVALID, "INVALID_PARAMETER", "temperature"),
    "temperature inf": (set_field("sampling.temperature", math.inf), INVALID, "INVALID_PARAMETER", "temperature"),
    "top_p 0": (set_field("sampling.top_p", 0), INVALID, "INVALID_PARAMETER", "top_p"),
    "top_p above 1": (set_field("sampling.top_p", 1.5), INVALID, "INVALID_PARAMETER", "top_p"),
    "top_k below -1": (set_field("sampling.top_k", -2), INVALID, "INVALID_PARAMETER", "top_k"),
    "n 2": (set_field("sampling.n", 2), INVALID, "UNSUPPORTED_PARAMETER", "n"),
    "invalid UTF-8": (set_field("text", b"ab\xff\xfe"), INVALID, "INVALID_PARAMETER", "2"),
    "truncated UTF-8": (set_field("text", "é".encode()[:1]), INVALID, "INVALID_PARAMETER", "UTF-8"),
    "logprobs 21": (set_field("logprobs", 21), INVALID, "INVALID_PARAMETER", "logprobs"),
    "priority 1000": (set_field("priority", 1000), INVALID, "INVALID_PARAMETER", "priority"),
    "tenant too long": (set_field("tenant", "x" * 65), INVALID, "INVALID_PARAMETER", "tenant"),
    "interval too long": (set_field("chunk_interval_ms", 10001), INVALID, "INVALID_PARAMETER", "chunk_interval_ms"),
    "empty stop": (lambda r: r.stopping.stop.append(""), INVALID, "INVALID_PARAMETER", "stop"),
    "17 stops": (lambda r: r.stopping.stop.extend(f"s{i}" for i in range(17)), INVALID, "INVALID_PARAMETER", "stop"),
    "token id beyond the vocabulary": (lambda r: r.token_ids.ids.extend([5, 10**6]), INVALID, "INVALID_PARAMETER", "1000000"),
    "no prompt at all": (lambda r: r.ClearField("prompt"), INVALID, "INVALID_PARAMETER", "prompt"),
    "logit_bias": (lambda r: r.sampling.logit_bias.update({3: 1.0}), INVALID, "UNSUPPORTED_PARAMETER", "logit_bias"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_its_reason(cluster, name):
    change, code, reason, mention = CASES[name]
    request = cluster.request("Hello there")
    change(request)
    with pytest.raises(grpc.RpcError) as caught:
        list(cluster.inference().Generate(request, timeout=20))
    assert (caught.value.code(), reason_of(caught.value)) == (code, reason), caught.value.details()
    assert mention in caught.value.details()
    assert len(caught.value.details().splitlines()) == 1


def test_a_prompt_over_the_context_names_both_numbers(cluster):
    with pytest.raises(grpc.RpcError) as caught:
        list(cluster.inference().Generate(cluster.request([5] * 5000), timeout=20))
    assert reason_of(caught.value) == "CONTEXT_LENGTH_EXCEEDED"
    assert "5000" in caught.value.details() and "1024" in caught.value.details()


def test_a_prompt_of_10_mb_is_refused_and_disturbs_nobody(cluster):
    ids = []
    neighbour = threading.Thread(target=lambda: ids.append(cluster.generate("The river", max_tokens=200)))
    neighbour.start()
    with pytest.raises(grpc.RpcError) as caught:
        list(cluster.inference().Generate(cluster.request("a b c d e " * (1 << 20)), timeout=60))
    assert reason_of(caught.value) in ("CONTEXT_LENGTH_EXCEEDED", "INVALID_PARAMETER")
    neighbour.join()
    assert ids[0].error is None and len(ids[0].ids) == 200


def test_a_message_over_the_limit_ends_only_its_own_call(cluster):
    with pytest.raises(grpc.RpcError) as caught:
        list(cluster.inference().Generate(cluster.request(b"a" * (17 << 20)), timeout=60))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert cluster.generate("Still here").error is None


@pytest.mark.parametrize("call", ["Embed", "Rerank"])
def test_a_model_of_another_task_says_so(cluster, call):
    stub = cluster.inference()
    with pytest.raises(grpc.RpcError) as caught:
        if call == "Embed":
            stub.Embed(inference.EmbedRequest(model="tiny", texts=[b"a"]), timeout=5)
        else:
            stub.Rerank(inference.RerankRequest(model="tiny", query=b"a", documents=[b"b"]), timeout=5)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "has the task generate" in caught.value.details()
