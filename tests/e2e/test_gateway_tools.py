"""Calls of tools through the gateway, as agents make them. What a model would write is canned: behind the gateway stands a
scheduler's gRPC surface that answers every chat with the text of the test, a few characters at a time."""

import concurrent.futures
import json

import grpc
import pytest

from gateway_rig import Gateway
from protos import common, inference, inference_rpc

openai = pytest.importorskip("openai", reason="not in this venv; scripts/test installs requirements.txt")

WEATHER = {"name": "get_weather", "description": "The weather of a city",
           "parameters": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}}
TOOLS = [{"type": "function", "function": WEATHER}]
ASK = [{"role": "user", "content": "What is the weather in Lyon and in Graz?"}]
HERMES = ('I ask.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Lyon"}}\n</tool_call>\n'
          '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Graz"}}\n</tool_call>')
LLAMA = '{"name": "get_weather", "parameters": {"city": "Lyon"}}'
QWEN_CODER = ('I ask.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nLyon\n</parameter>\n</function>\n</tool_call>\n'
              '<tool_call>\n<function=get_weather>\n<parameter=city>\nGraz\n</parameter>\n</function>\n</tool_call>')
GLM = 'I ask.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Lyon</arg_value>\n</tool_call>'
DEEPSEEK = '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Lyon"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
PYTHON_TAG = 'get_weather.call(city="Lyon")'  # its tag is a control token, which no text has
PYTHON_LIST = "[get_weather(city='Lyon'), get_weather(city='Graz')]"
MISTRAL = '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Lyon"}}]'


class Canned(inference_rpc.InferenceServiceServicer):
    """Answers with `text`, and keeps what it was asked."""

    def __init__(self):
        self.text, self.reason, self.asked = "", common.STOP, []

    def ListModels(self, request, context):
        return inference.ListModelsResponse(models=[inference.ServedModel(name="canned", task="generate", ready=True)])

    def Generate(self, request, context):
        self.asked.append(request)
        yield inference.GenerateResponse(accepted=inference.Accepted(request_id="r1", prompt_tokens=3))
        pieces = [self.text[i:i + 5] for i in range(0, len(self.text), 5)]
        for offset, piece in enumerate(pieces):
            logprobs = {}
            if request.HasField("logprobs"):
                chosen = common.TokenLogprob(token_id=offset, logprob=-1)
                logprobs = {"logprobs": [common.PositionLogprobs(chosen=chosen)],
                            "token_texts": [inference.TokenText(token_id=offset, text=piece.encode())]}
            yield inference.GenerateResponse(chunk=inference.Chunk(offset=offset, text=piece.encode(), token_ids=[offset], **logprobs))
        usage = common.Usage(prompt_tokens=3, completion_tokens=len(pieces))
        yield inference.GenerateResponse(finished=inference.Finished(reason=self.reason, usage=usage))


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    canned = Canned()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
    inference_rpc.add_InferenceServiceServicer_to_server(canned, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Gateway(tmp_path_factory.mktemp("tools"), port) as gateway:
        yield canned, gateway
    server.stop(None)


@pytest.fixture
def canned(rig):
    rig[0].text, rig[0].reason, rig[0].asked = "", common.STOP, []
    return rig[0]


@pytest.fixture(scope="module")
def client(rig):
    return openai.OpenAI(base_url=rig[1].url + "/v1", api_key="any", max_retries=0)


def gather(stream):
    """A stream's choices put together: (content, [(id, name, arguments)], finish reason)."""
    content, calls, finish = "", {}, None
    for chunk in stream:
        for choice in chunk.choices:
            content += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                entry = calls.setdefault(call.index, ["", "", ""])
                entry[0] += call.id or ""
                entry[1] += call.function.name or ""
                entry[2] += call.function.arguments or ""
            finish = choice.finish_reason or finish
    return content, [tuple(calls[i]) for i in sorted(calls)], finish


@pytest.mark.parametrize("text, cities, content", [
    (HERMES, ["Lyon", "Graz"], "I ask.\n"), (LLAMA, ["Lyon"], ""), (MISTRAL, ["Lyon"], ""), (QWEN_CODER, ["Lyon", "Graz"], "I ask.\n"),
    (GLM, ["Lyon"], "I ask.\n"), (DEEPSEEK, ["Lyon"], ""), (PYTHON_TAG, ["Lyon"], ""), (PYTHON_LIST, ["Lyon", "Graz"], "")],
    ids=["hermes", "llama", "mistral", "qwen-coder", "glm", "deepseek", "python-tag", "python-list"])
def test_calls_whole_and_streamed(canned, client, text, cities, content):
    canned.text = text
    ask = {"model": "canned", "messages": ASK, "tools": TOOLS}
    choice = client.chat.completions.create(**ask).choices[0]
    assert choice.finish_reason == "tool_calls" and (choice.message.content or "") == content
    assert [json.loads(call.function.arguments) for call in choice.message.tool_calls] == [{"city": city} for city in cities]
    streamed, calls, finish = gather(client.chat.completions.create(**ask, stream=True))
    assert (streamed, finish) == (content, "tool_calls")
    assert [(name, json.loads(arguments)) for _, name, arguments in calls] == [("get_weather", {"city": city}) for city in cities]
    ids = [call_id for call_id, _, _ in calls]
    assert len(set(ids)) == len(cities) and all(len(i) == 9 and i.isalnum() for i in ids)
    assert json.loads(canned.asked[0].chat.tools_json) == TOOLS
    assert list(json.loads(canned.asked[0].chat.tools_json)[0]["function"]) == list(WEATHER), "in the order that was sent"


def test_an_answer_in_text_and_one_that_was_cut(canned, client):
    canned.text = "It is warm in both, {as ever}."
    ask = {"model": "canned", "messages": ASK, "tools": TOOLS, "tool_choice": "auto"}
    choice = client.chat.completions.create(**ask).choices[0]
    assert (choice.message.content, choice.message.tool_calls, choice.finish_reason) == (canned.text, None, "stop")
    assert gather(client.chat.completions.create(**ask, stream=True)) == (canned.text, [], "stop")
    canned.text, canned.reason = HERMES[:-40], common.LENGTH
    content, calls, finish = gather(client.chat.completions.create(**ask, stream=True))
    assert finish == "length" and len(calls) == 1
    assert content == "I ask.\n" + canned.text[canned.text.rindex("<tool_call>"):], "what is no whole call is shown"


def test_without_tools_nothing_is_read_into_the_text(canned, client):
    canned.text = LLAMA
    for extra in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        choice = client.chat.completions.create(model="canned", messages=ASK, **extra).choices[0]
        assert (choice.message.content, choice.message.tool_calls, choice.finish_reason) == (LLAMA, None, "stop")
        assert canned.asked[-1].chat.tools_json == ""


def test_one_call_at_a_time(canned, client):
    canned.text = HERMES
    choice = client.chat.completions.create(model="canned", messages=ASK, tools=TOOLS, parallel_tool_calls=False).choices[0]
    assert [json.loads(call.function.arguments)["city"] for call in choice.message.tool_calls] == ["Lyon"]


def test_logprobs_of_what_was_held_come_with_the_call(canned, client):
    canned.text = HERMES
    ask = {"model": "canned", "messages": ASK, "tools": TOOLS, "logprobs": True}
    tokens = [t.token for t in client.chat.completions.create(**ask).choices[0].logprobs.content]
    assert "".join(tokens) == HERMES
    streamed = [t.token for chunk in client.chat.completions.create(**ask, stream=True) for choice in chunk.choices
                if choice.logprobs for t in choice.logprobs.content]
    assert streamed == tokens


def test_a_forced_call_is_refused_by_name(client):
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="canned", messages=ASK, tools=TOOLS, tool_choice=choice)
        assert refused.value.param == "tool_choice" and refused.value.code == "unsupported_parameter"


def test_functions_as_elder_agents_send_them(canned, client):
    canned.text = HERMES
    ask = {"model": "canned", "messages": ASK, "functions": [WEATHER]}
    choice = client.chat.completions.create(**ask).choices[0]
    assert choice.finish_reason == "function_call" and choice.message.function_call.name == "get_weather"
    assert json.loads(choice.message.function_call.arguments) == {"city": "Lyon"} and choice.message.tool_calls is None
    arguments, finish = "", None
    for chunk in client.chat.completions.create(**ask, stream=True):
        for choice in chunk.choices:
            arguments += choice.delta.function_call.arguments if choice.delta.function_call else ""
            finish = choice.finish_reason or finish
    assert json.loads(arguments) == {"city": "Lyon"} and finish == "function_call"
    # What the agent sends back: the call, and what came of it.
    canned.text = "It is warm."
    messages = ASK + [{"role": "assistant", "content": None, "function_call": {"name": "get_weather", "arguments": arguments}},
                      {"role": "function", "name": "get_weather", "content": "warm"}]
    assert client.chat.completions.create(**{**ask, "messages": messages}).choices[0].message.content == "It is warm."
    said = canned.asked[-1].chat.messages
    assert json.loads(said[1].tool_calls_json)[0]["function"]["name"] == "get_weather"
    assert (said[2].role, said[2].content) == ("tool", b"warm")
    assert json.loads(canned.asked[-1].chat.tools_json) == TOOLS


def test_langchain_binds_tools_and_answers_them(canned, rig):
    pytest.importorskip("langchain_openai")
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_openai import ChatOpenAI
    model = ChatOpenAI(model="canned", base_url=rig[1].url + "/v1", api_key="any", max_retries=0).bind_tools(TOOLS)
    canned.text = HERMES
    question = HumanMessage(ASK[0]["content"])
    answer = model.invoke([question])
    assert [(c["name"], c["args"]) for c in answer.tool_calls] == [("get_weather", {"city": "Lyon"}), ("get_weather", {"city": "Graz"})]
    streamed = None
    for chunk in model.stream([question]):
        streamed = chunk if streamed is None else streamed + chunk
    assert [c["args"] for c in streamed.tool_calls] == [c["args"] for c in answer.tool_calls]
    canned.text = "Warm in both."
    results = [ToolMessage("warm", tool_call_id=c["id"]) for c in answer.tool_calls]
    assert model.invoke([question, answer, *results]).content == "Warm in both."
    said = canned.asked[-1].chat.messages
    assert [m.role for m in said] == ["user", "assistant", "tool", "tool"]
    assert [c["id"] for c in json.loads(said[1].tool_calls_json)] == [m.tool_call_id for m in said[2:]]
