"""The main job: a client asks, a tensor-parallel group of two processes answers."""

import json

import pytest

from harness import ROOT
from protos import inference

GOLDEN = ROOT / "tests" / "golden" / "tiny_greedy.json"


def golden_cases():
    return json.loads(GOLDEN.read_text())["cases"]


@pytest.mark.parametrize("index", range(10))
def test_greedy_ids_equal_the_reference(cluster, index):
    case = golden_cases()[index]
    result = cluster.generate(case["prompt_ids"], max_tokens=64)
    assert result.error is None
    assert result.ids == case["greedy_ids"]
    assert result.finished.reason == 2  # LENGTH
    assert result.finished.usage.completion_tokens == 64
    assert result.finished.usage.prompt_tokens == len(case["prompt_ids"])


def test_text_in_text_out(cluster):
    result = cluster.generate("The scheduler", max_tokens=24)
    assert result.error is None and len(result.ids) == 24
    text = result.text.decode()  # whole UTF-8
    assert len(text.split()) >= 8, text
    back = cluster.inference().Detokenize(inference.DetokenizeRequest(model="tiny", token_ids=result.ids)).text
    assert back == result.text


def test_alias_names_the_same_model(cluster):
    assert cluster.generate("A worker", model="default").ids == cluster.generate("A worker").ids


def test_end_of_sequence_ends_the_text(cluster):
    result = cluster.generate("The capital of France is", max_tokens=400, ignore_eos=False)
    assert result.error is None
    assert result.finished.reason == 1, "STOP"
    assert result.finished.WhichOneof("matched_stop") == "stop_token_id"
    assert len(result.ids) < 400


def test_a_chunk_interval_changes_chunks_not_text(cluster):
    one = cluster.generate("Once upon a time", max_tokens=40)
    chunks = []
    other = cluster.generate("Once upon a time", max_tokens=40, chunk_interval_ms=50, on_message=lambda c, r: chunks.append(len(r.ids)))
    assert (one.text, one.ids) == (other.text, other.ids)


def test_stop_string_cuts_exactly(cluster):
    whole = cluster.generate("Once upon a time", max_tokens=60)
    text = whole.text.decode()
    stop = text[len(text) // 2:len(text) // 2 + 5]
    cut = cluster.generate("Once upon a time", max_tokens=60, stop=[stop])
    assert cut.error is None
    assert cut.text.decode() == text[:text.index(stop)]
    assert cut.finished.reason == 1 and cut.finished.stop_string == stop
    assert cut.finished.usage.completion_tokens <= len(whole.ids)


def test_a_seed_repeats_itself_and_another_does_not(cluster):
    draws = [cluster.generate("The garden", max_tokens=32, temperature=1.0, seed=s).ids for s in (7, 7, 8)]
    assert draws[0] == draws[1] != draws[2]


def test_the_drawn_seed_is_returned_and_replays(cluster):
    first = cluster.generate("The garden", max_tokens=32, temperature=1.0)
    again = cluster.generate("The garden", max_tokens=32, temperature=1.0, seed=first.accepted.seed)
    assert first.ids == again.ids


def test_resume_tokens_are_a_forced_prefix(cluster):
    for extra in ({"temperature": 0.0}, {"temperature": 1.0, "seed": 11}):
        whole = cluster.generate("In the morning", max_tokens=30, **extra)
        request = cluster.request("In the morning", max_tokens=30, resume_token_ids=whole.ids[:13], **extra)
        ids, text, offset = [], b"", None
        for message in cluster.inference().Generate(request, timeout=30):
            if message.HasField("chunk"):
                offset = message.chunk.offset if offset is None else offset
                ids += message.chunk.token_ids
                text += message.chunk.text
        assert offset == 13 and ids == whole.ids[13:]
        assert whole.text.endswith(text)


def test_logprobs(cluster):
    request = cluster.request("Two and two", max_tokens=5)
    request.logprobs = 3
    seen = []
    for message in cluster.inference().Generate(request, timeout=30):
        if message.HasField("chunk"):
            assert len(message.chunk.logprobs) == len(message.chunk.token_ids)
            seen += zip(message.chunk.token_ids, message.chunk.logprobs)
    assert len(seen) == 5
    for token, entry in seen:
        assert entry.chosen.token_id == token and len(entry.top) == 3
        assert entry.top[0].token_id == token, "greedy takes the most likely"
        values = [t.logprob for t in entry.top]
        assert values == sorted(values, reverse=True) and values[0] <= 0


def test_a_repeated_prompt_is_served_from_the_prefix_cache(cluster):
    prompt = list(range(100, 180))
    first = cluster.generate(prompt, max_tokens=4)
    second = cluster.generate(prompt, max_tokens=4)
    assert first.ids == second.ids
    assert second.accepted.cached_tokens >= 64 > first.accepted.cached_tokens


def test_tokenize_round_trip(cluster):
    text = "Grüße, 世界! \n\t 3.14 👩‍💻".encode()
    ids = cluster.inference().Tokenize(inference.TokenizeRequest(model="tiny", text=text, no_special_tokens=True)).token_ids
    assert cluster.inference().Detokenize(inference.DetokenizeRequest(model="tiny", token_ids=ids)).text == text


def test_the_models_are_listed(cluster):
    models = cluster.inference().ListModels(inference.ListModelsRequest()).models
    assert [m.name for m in models] == ["tiny"] and models[0].ready and models[0].max_model_len >= 512
