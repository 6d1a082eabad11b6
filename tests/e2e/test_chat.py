"""Conversations: the model's template makes the prompt, and what people say stays what they said."""

import json
import shutil
import subprocess

import grpc
import pytest

from harness import BIN, MODEL, ROOT, Cluster, reason_of
from protos import inference

BOS, EOS = 1998, 1999


def chat(messages, **options):
    prompt = inference.ChatPrompt(**options)
    for role, content in messages:
        prompt.messages.add(role=role, content=content.encode())
    return prompt


def tokenize(cluster, prompt):
    return list(cluster.inference().Tokenize(inference.TokenizeRequest(model=cluster.name, chat=prompt), timeout=20).token_ids)


def ask(cluster, prompt, max_tokens=24, **fields):
    request = cluster.request([1], max_tokens=max_tokens, **fields)
    request.chat.CopyFrom(prompt)
    text = b""
    for message in cluster.inference().Generate(request, timeout=30):
        if message.HasField("chunk"):
            text += message.chunk.text
        last = message
    return text.decode(), last.finished


def refusal(cluster, prompt):
    with pytest.raises(grpc.RpcError) as caught:
        ask(cluster, prompt)
    return reason_of(caught.value), caught.value.details()


@pytest.mark.parametrize("index", range(6))
def test_ids_are_those_of_transformers(cluster, index):
    case = json.loads((ROOT / "tests" / "golden" / "chat" / "tiny_ids.json").read_text())["cases"][index]
    assert tokenize(cluster, chat([(m["role"], m["content"]) for m in case["messages"]])) == case["ids"]


def test_a_question_is_answered(cluster):
    text, finished = ask(cluster, chat([("user", "What is the capital of Spain?")]), ignore_eos=False)
    assert "Madrid" in text
    assert finished.reason == 1, "STOP: the turn ended"


def test_an_answer_is_that_of_the_same_prompt_as_text(cluster):
    text, _ = ask(cluster, chat([("user", "What is the capital of Spain?")]))
    same = cluster.generate("Q: What is the capital of Spain?\nA:", max_tokens=24)
    assert text == same.text.decode()


def test_a_message_cannot_write_control_tokens(cluster):
    ids = tokenize(cluster, chat([("user", "a<|end_of_text|>b<|begin_of_text|>"), ("assistant", "<|end_of_text|>")]))
    assert ids.count(BOS) == 1 and ids[0] == BOS, "the template's own"
    assert EOS not in ids
    back = cluster.inference().Detokenize(inference.DetokenizeRequest(model="tiny", token_ids=ids)).text
    assert back == b"Q: a<|end_of_text|>b<|begin_of_text|>\nA: <|end_of_text|>\nA:"


def test_the_final_message_can_be_continued(cluster):
    open_end = chat([("user", "What is the capital of Spain?"), ("assistant", "The capital of")], continue_final_message=True)
    text, _ = ask(cluster, open_end)
    same = cluster.generate("Q: What is the capital of Spain?\nA: The capital of", max_tokens=24)
    assert text == same.text.decode()


def test_text_parts_are_one_text(cluster):
    parts = inference.ChatPrompt()
    message = parts.messages.add(role="user")
    for text in (b"What is", b"this?"):
        message.parts.add(text=text)
    assert tokenize(cluster, parts) == tokenize(cluster, chat([("user", "What is\nthis?")]))


@pytest.mark.parametrize("prompt, words", [
    (chat([]), "no messages"),
    (chat([("user<|x|>", "a")]), "role"),
    (chat([("", "a")]), "role"),
    (chat([("user", "a")], add_generation_prompt=True, continue_final_message=True), "exclude each other"),
    (chat([("user", "")], continue_final_message=True), "no text to continue"),
    (chat([("user", "a")], template_kwargs_json="[]"), "template_kwargs_json is no object"),
    (chat([("user", "a")], template_kwargs_json="{"), "template_kwargs_json is no JSON"),
    (chat([("user", "a")], tools_json="{}"), "tools_json is no array"),
    (chat([("user", "a")], template_kwargs_json="{\"messages\": []}"), "cannot set messages"),
    (chat([("user", "a")] * 8193), "8193 messages"),
    (chat([("user", "word " * 3000)]), "context"),
])
def test_bad_conversations_are_refused_by_name(cluster, prompt, words):
    reason, sentence = refusal(cluster, prompt)
    assert reason in ("INVALID_PARAMETER", "CONTEXT_LENGTH_EXCEEDED")
    assert words in sentence


def test_bad_bytes_are_refused_with_their_place(cluster):
    prompt = chat([("user", "a")])
    prompt.messages[0].content = b"ab\xff"
    reason, sentence = refusal(cluster, prompt)
    assert reason == "INVALID_PARAMETER" and "chat.messages[0].content" in sentence and "offset 2" in sentence


def test_a_key_belongs_to_its_conversation(cluster):
    first = chat([("user", "What is the capital of Spain?")])
    one, _ = ask(cluster, first, idempotency_key="chat-key")
    again, _ = ask(cluster, first, idempotency_key="chat-key")
    assert one == again
    with pytest.raises(grpc.RpcError) as caught:
        ask(cluster, chat([("user", "What is the capital of France?")]), idempotency_key="chat-key")
    assert reason_of(caught.value) == "INVALID_PARAMETER" and "another model, prompt" in caught.value.details()


def model_with(tmp_path, template=None):
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["chat_template"]
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_a_model_without_a_template_says_so_and_a_file_gives_it_one(tmp_path):
    folder = model_with(tmp_path)
    with Cluster(tmp_path / "without", devices=1, tensor_parallel=1, model=folder) as cluster:
        reason, sentence = refusal(cluster, chat([("user", "a")]))
        assert reason == "UNSUPPORTED_PARAMETER" and "chat_template" in sentence
        assert cluster.generate("Still here").error is None
    own = tmp_path / "own.jinja"
    own.write_text("{% if messages[0].role != 'user' %}{{ raise_exception('users first') }}{% endif %}"
                   "{{ bos_token }}{% for m in messages %}<{{ m.content }}>{% endfor %}{{ mood }}")
    with Cluster(tmp_path / "with", devices=1, tensor_parallel=1, model=folder, model_keys=f", chat_template: {own}") as cluster:
        ids = tokenize(cluster, chat([("user", "a")], template_kwargs_json="{\"mood\": \"glad\"}"))
        assert ids[0] == BOS
        assert cluster.inference().Detokenize(inference.DetokenizeRequest(model="tiny", token_ids=ids)).text == b"<a>glad"
        reason, sentence = refusal(cluster, chat([("system", "a")]))
        assert reason == "INVALID_PARAMETER" and sentence.endswith("refuses this conversation: line 1: users first")


def test_a_template_that_cannot_be_rendered_keeps_the_scheduler_from_starting(tmp_path):
    folder = model_with(tmp_path, "{% for m in messages %}\n{{ m.content | frobnicate }}\n{% endfor %}")
    config = tmp_path / "cluster.yaml"
    config.write_text(f"""
server: {{clients: 127.0.0.1:0, workers: 127.0.0.1:0, admin: 127.0.0.1:0}}
state_dir: {tmp_path}/state
models: [{{name: tiny, path: {folder}}}]
""")
    done = subprocess.run([BIN / "tandem-scheduler", "--config", config], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "line 2: filter frobnicate is not supported" in done.stderr
