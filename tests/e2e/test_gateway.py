"""The gateway's HTTP surface as it stands in docs/gateway.md, by plain HTTP."""

import json
import os
import time

import pytest

from gateway_rig import Gateway
from harness import SLOW, Cluster, eventually, unhurried

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def gateway(cluster):
    with Gateway(cluster.tmp, cluster.clients) as running:
        yield running


def test_models_and_health(gateway):
    status, _, models = gateway.ask("/v1/models")
    assert status == 200 and models["object"] == "list"
    assert [m["id"] for m in models["data"]] == ["tiny", "default"], "a model and its alias"
    assert models["data"][0]["max_model_len"] == 1024 and models["data"][0]["object"] == "model"
    assert gateway.ask("/v1/models/default")[2]["root"] == "tiny"
    status, _, body = gateway.ask("/v1/models/nothing")
    assert status == 404 and body["error"]["code"] == "model_not_found"
    for path in ("/health", "/health/live", "/health/ready", "/version", "/metrics", "/ping"):
        assert gateway.ask(path)[0] == 200, path


def test_a_completion_equals_what_grpc_says(cluster, gateway):
    direct = cluster.generate(PROMPT, max_tokens=12)
    status, headers, body = gateway.complete(PROMPT, max_tokens=12)
    assert status == 200 and headers["x-request-id"]
    assert body["choices"][0]["text"].encode() == direct.text
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 12 and body["usage"]["prompt_tokens"] == direct.accepted.prompt_tokens
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 12
    assert body["object"] == "text_completion" and body["id"].startswith("cmpl-") and body["model"] == "tiny"
    assert abs(body["created"] - time.time()) < 60


def test_a_stream_adds_up_to_the_whole(gateway):
    whole = gateway.complete(PROMPT, max_tokens=12)[2]
    events = list(gateway.events("/v1/completions", {"model": "tiny", "prompt": PROMPT, "temperature": 0, "ignore_eos": True,
                                                     "max_tokens": 12, "stream_options": {"include_usage": True}}))
    assert events[-1] == "[DONE]"
    chunks = [json.loads(e) for e in events[:-1]]
    assert "".join(c["choices"][0]["text"] for c in chunks[:-1]) == whole["choices"][0]["text"]
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 12
    assert all(c["usage"] is None for c in chunks[:-1]), "where a usage chunk comes, the others say that they are none"
    assert len({c["id"] for c in chunks}) == 1


def test_without_include_usage_there_is_none(gateway):
    events = list(gateway.events("/v1/completions", {"model": "tiny", "prompt": PROMPT, "max_tokens": 3}))
    assert all("usage" not in json.loads(e) for e in events[:-1])


def test_choices_prompts_and_seeds(gateway):
    fields = {"max_tokens": 6, "temperature": 1.0, "seed": 7}
    one = gateway.complete(PROMPT, **fields)[2]
    several = gateway.complete([PROMPT, "The"], n=2, **fields)[2]
    assert [c["index"] for c in several["choices"]] == [0, 1, 2, 3]
    assert several["choices"][0]["text"] == one["choices"][0]["text"], "the first choice is the one choice under that seed"
    assert several["choices"][0]["text"] != several["choices"][1]["text"]
    assert several == {**gateway.complete([PROMPT, "The"], n=2, **fields)[2], "id": several["id"], "created": several["created"]}
    indices = {json.loads(e)["choices"][0]["index"] for e in gateway.events(
        "/v1/completions", {"model": "tiny", "prompt": PROMPT, "n": 3, "max_tokens": 4}) if e != "[DONE]"}
    assert indices == {0, 1, 2}


def test_token_ids_as_prompt(gateway):
    ids = gateway.ask("/tokenize", {"model": "tiny", "prompt": PROMPT})[2]
    assert ids["count"] == len(ids["tokens"]) and ids["max_model_len"] == 1024
    assert gateway.complete(ids["tokens"])[2]["choices"] == gateway.complete(PROMPT)[2]["choices"]
    assert PROMPT in gateway.ask("/detokenize", {"model": "tiny", "tokens": ids["tokens"]})[2]["prompt"]


def test_stop_strings(gateway):
    text = gateway.complete(PROMPT, max_tokens=24)[2]["choices"][0]["text"]
    stop = text[len(text) // 2:len(text) // 2 + 3]
    cut = gateway.complete(PROMPT, max_tokens=24, stop=[stop, "\x00never"])[2]["choices"][0]
    assert cut["text"] == text[:text.index(stop)] and cut["finish_reason"] == "stop" and cut["stop_reason"] == stop
    kept = gateway.complete(PROMPT, max_tokens=24, stop=stop, include_stop_str_in_output=True)[2]["choices"][0]
    assert kept["text"] == cut["text"] + stop


def test_logprobs(gateway):
    choice = gateway.complete(PROMPT, max_tokens=5, logprobs=2)[2]["choices"][0]
    logprobs = choice["logprobs"]
    assert len(logprobs["tokens"]) == 5 and "".join(logprobs["tokens"]) == choice["text"]
    assert all(lp <= 0 for lp in logprobs["token_logprobs"])
    assert all(token in top for token, top in zip(logprobs["tokens"], logprobs["top_logprobs"])), "greedy takes the likeliest"
    assert logprobs["text_offset"][0] == 0 and sorted(logprobs["text_offset"]) == logprobs["text_offset"]
    streamed = [json.loads(e)["choices"][0] for e in gateway.events(
        "/v1/completions", {"model": "tiny", "prompt": PROMPT, "max_tokens": 5, "logprobs": 2, "temperature": 0, "ignore_eos": True})
        if e != "[DONE]"]
    assert [t for c in streamed if c["logprobs"] for t in c["logprobs"]["tokens"]] == logprobs["tokens"]
    assert [t for c in streamed if c["logprobs"] for t in c["logprobs"]["text_offset"]] == logprobs["text_offset"]


@pytest.mark.parametrize("fields, status, param, code", [
    ({"model": "nothing"}, 404, "model", "model_not_found"),
    ({"temperature": 9}, 400, "temperature", "invalid_parameter"),
    ({"top_p": 0}, 400, "top_p", "invalid_parameter"),
    ({"max_tokens": 5000}, 400, "max_tokens", "invalid_parameter"),
    ({"prompt": "word " * 2000}, 400, None, "context_length_exceeded"),
    ({"prompt": [5000]}, 400, "prompt", "invalid_parameter"),
    ({"prompt": ""}, 400, "prompt", "invalid_parameter"),
    ({"echo": True}, 400, "echo", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, 400, "response_format", "unsupported_parameter"),
])
def test_refusals_name_what_is_wrong(gateway, fields, status, param, code):
    got, _, body = gateway.complete(**{"prompt": PROMPT, **fields})
    assert (got, body["error"]["param"], body["error"]["code"]) == (status, param, code), body
    assert body["error"]["message"] and body["error"]["type"]
    got, _, streamed = gateway.complete(**{"prompt": PROMPT, "stream": True, **fields})
    assert (got, streamed["error"]["code"]) == (status, code), "a stream that is refused has a status too"


def test_ids_and_traces_are_passed_on(gateway, cluster):
    _, headers, body = gateway.ask("/v1/completions", {"model": "tiny", "prompt": PROMPT, "max_tokens": 1},
                                   {"x-request-id": "mine-1", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"})
    assert headers["x-request-id"] == "mine-1" and body["id"] == "cmpl-mine-1"
    explained = eventually(lambda: "finished" in (said := cluster.ctl("explain", "request/mine-1").stdout) and said, 10, "it ended")
    assert "its caller knows it as mine-1, in trace " + "a" * 32 in explained
    assert "mine-1" in cluster.ctl("explain", "request/" + "a" * 32).stdout
    assert gateway.ask("/health", headers={"x-request-id": "a b"})[1]["x-request-id"] != "a b"


def test_an_answer_names_the_request_in_the_scheduler(cluster, gateway):
    def explained(headers):
        named = headers["x-tandem-request-id"]
        assert len(named) == 32
        return cluster.ctl("explain", f"request/{named}").stdout

    _, headers, _ = gateway.ask("/v1/completions", {"model": "tiny", "prompt": PROMPT, "max_tokens": 2})
    assert "tiny" in explained(headers)
    with gateway.open("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 2, "stream": True}) as c:
        assert "tiny" in explained(c.getresponse().headers)


def test_without_a_model_it_is_the_one_that_there_is(gateway):
    status, _, body = gateway.ask("/v1/completions", {"prompt": PROMPT, "max_tokens": 3, "temperature": 0})
    assert status == 200 and body["model"] == "tiny" and body["choices"][0]["text"]
    chat = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 3}
    assert gateway.ask("/v1/chat/completions", chat)[2]["model"] == "tiny"
    assert [json.loads(e)["model"] for e in gateway.events("/v1/chat/completions", {**chat, "model": None}) if e != "[DONE]"][0] == "tiny"
    tokens = gateway.ask("/tokenize", {"prompt": "The garden"})[2]["tokens"]
    assert gateway.ask("/detokenize", {"tokens": tokens})[2]["prompt"].endswith("The garden")
    status, _, body = gateway.ask("/v1/embeddings", {"input": "a"})
    assert status == 400 and body["error"]["code"] == "model_required" and "no model of task embed" in body["error"]["message"]


def test_methods_and_paths(gateway):
    assert gateway.ask("/v1/completions")[0] == 405
    assert gateway.ask("/v1/completions")[1]["allow"] == "POST"
    assert gateway.ask("/nothing")[0] == 404
    status, headers, body = gateway.ask("/v1/models", method="HEAD")
    assert status == 200 and int(headers["content-length"]) > 0 and body == ""
    assert gateway.ask("/health", headers={"origin": "http://a"})[1]["access-control-allow-origin"] is None, "no CORS unless asked for"


def test_keys(cluster):
    env = {**os.environ, "VLLM_API_KEY": "vllm-key,second"}
    with Gateway(cluster.tmp, cluster.clients, "--allow-origin", "http://a", env=env) as gateway:
        body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 1}
        for headers, status in [({}, 401), ({"authorization": "Bearer wrong"}, 401), ({"authorization": "vllm-key"}, 401),
                                ({"authorization": "Bearer vllm-key"}, 200), ({"authorization": "Bearer second"}, 200)]:
            got, head, answer = gateway.ask("/v1/completions", body, headers)
            assert got == status, headers
            if status == 401:
                assert answer["error"]["code"] == "invalid_api_key" and head["www-authenticate"] == "Bearer"
        for path in ("/health", "/v1/models", "/metrics", "/version"):
            assert gateway.ask(path)[0] == 200, f"{path} is what probes open without a key"
        assert gateway.ask("/tokenize", {"model": "tiny", "prompt": "a"})[0] == 401
        assert gateway.ask("/health", headers={"origin": "http://a"})[1]["access-control-allow-origin"] == "http://a"
        assert gateway.ask("/health", headers={"origin": "http://b"})[1]["access-control-allow-origin"] is None
        status, head, _ = gateway.ask("/v1/completions", method="OPTIONS", headers={
            "origin": "http://a", "access-control-request-headers": "authorization,content-type,x-stainless-lang"})
        assert status == 204 and head["access-control-allow-headers"] == "authorization,content-type,x-stainless-lang"
        assert "x-tandem-request-id" in gateway.ask("/health", headers={"origin": "http://a"})[1]["access-control-expose-headers"]
        assert "vllm-key" not in gateway.log() and PROMPT not in gateway.log()
    with Gateway(cluster.tmp, cluster.clients, "--api-key", "k", "--guard-models") as gateway:
        assert gateway.ask("/v1/models")[0] == 401
        assert gateway.ask("/v1/models", headers={"authorization": "Bearer k"})[0] == 200


def test_who_leaves_is_heard_in_the_queue_and_while_it_streams(slow_cluster):
    long = {"model": "tiny", "prompt": PROMPT, "max_tokens": 900, "ignore_eos": True}
    with Gateway(slow_cluster.tmp, slow_cluster.clients) as gateway:
        for streams in (True, False):
            connection = gateway.open("/v1/completions", {**long, "stream": streams})
            if streams:
                connection.getresponse().readline()
            eventually(lambda: slow_cluster.status().requests_running >= 1, 10, "it runs")
            connection.close()
            eventually(lambda: slow_cluster.status().requests_running == 0, 10, "it is cancelled")
        eventually(lambda: gateway.metric("tandem_http_clients_gone_total") == 2, 10, "both are counted")


def test_without_a_scheduler(tmp_path):
    with Gateway(tmp_path, 1, ready=False) as gateway:
        eventually(lambda: gateway.status("/health/live") == 200, 10, "it listens")
        assert gateway.status("/health") == 503
        status, headers, body = gateway.complete()
        assert status == 503 and body["error"]["code"] == "scheduler_unreachable" and int(headers["retry-after"]) >= 1
        assert gateway.ask("/v1/models")[0] == 503


def test_answers_under_way_outlive_the_signal(cluster):
    with Gateway(cluster.tmp, cluster.clients) as gateway:
        events = gateway.events("/v1/completions", {"model": "tiny", "prompt": PROMPT, "max_tokens": 64, "ignore_eos": True})
        next(events)
        gateway.process.terminate()
        assert list(events)[-1] == "[DONE]"
        assert gateway.process.wait(timeout=20) == 0


def test_what_outlasts_the_grace_ends_with_an_error(tmp_path):
    """On a simulated device at a hundredth of its speed, because a fast machine ends any answer of the tiny model in time."""
    with Cluster(tmp_path, tensor_parallel=1, **unhurried(pace=0.01)) as cluster:
        with Gateway(cluster.tmp, cluster.clients, "--stop-grace", f"{4 * SLOW}s") as gateway:
            long = {"model": "tiny", "prompt": "a", "max_tokens": 1000, "ignore_eos": True}
            with gateway.socket() as probe, gateway.open("/v1/completions", long) as whole:
                probe.sendall(b"GET /health HTTP/1.1\r\n")  # on its way when the signal comes
                events = gateway.events("/v1/completions", long)
                next(events)
                eventually(lambda: cluster.status().requests_running == 2, 10, "both run")
                gateway.process.terminate()
                with pytest.raises(OSError):
                    eventually(lambda: gateway.socket(1).close(), 10, "it takes no new connection")
                probe.sendall(b"Host: x\r\n\r\n")
                assert b" 503 " in probe.recv(100)
                *_, last = events
                assert json.loads(last)["error"]["code"] == "shutting_down"
                response = whole.getresponse()
                assert response.status == 503 and json.loads(response.read())["error"]["code"] == "shutting_down"
            assert gateway.process.wait(timeout=20 * SLOW) == 0
        eventually(lambda: cluster.status().requests_running == 0, 10, "nobody computes for them any more")
