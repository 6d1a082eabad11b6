"""The clients that people use, as they are installed from PyPI, against a running gateway. Loopback only."""

import asyncio
import os
import subprocess
import sys
import time

import pytest

# Before the clients are imported: nothing of them may look beyond this machine.
os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_TELEMETRY="False", LITELLM_MODE="PRODUCTION", DO_NOT_TRACK="1",
                  NO_PROXY="127.0.0.1,localhost", OPENAI_API_KEY="unused", HF_HUB_OFFLINE="1")

litellm = pytest.importorskip("litellm", reason="not in this venv; scripts/test installs requirements.txt")
openai = pytest.importorskip("openai")
encoders = pytest.importorskip("test_embed", reason="this tree serves no embeddings")

from gateway_rig import Gateway  # noqa: E402
from harness import SLOW, Cluster, eventually, free_ports, unhurried  # noqa: E402

PROMPT = "Once upon a time"
KEY = "vllm-key"
MASTER_KEY = "sk-" + "0123456789abcdef" * 4  # LiteLLM starts with none only where it is forced to
GREEDY = {"temperature": 0, "max_tokens": 8}
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me of the scheduler."}]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """Two CPU workers as one group, and two encoders beside it; the names that the user's LiteLLM asks for; a key."""
    tmp = tmp_path_factory.mktemp("service")
    with Cluster(tmp, model_keys="", extra=encoders.extra_models(tmp)) as cluster:
        with Gateway(cluster.tmp, cluster.clients, "--api-key", KEY) as gateway:
            yield cluster, gateway


@pytest.fixture(scope="module")
def base(service):
    return service[1].url + "/v1"


@pytest.fixture(scope="module")
def expected(service):
    """What the scheduler itself says to PROMPT."""
    result = service[0].generate(PROMPT, max_tokens=8, ignore_eos=False)
    return result.text.decode()


@pytest.fixture(scope="module")
def client(base):
    return openai.OpenAI(base_url=base, api_key=KEY, max_retries=0, timeout=60 * SLOW)


# ---- openai-python


def test_openai_lists_models(client):
    assert [m.id for m in client.models.list()][:2] == ["tiny", "default"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_openai_completion(client, expected):
    answer = client.completions.create(model="tiny", prompt=PROMPT, **GREEDY)
    assert answer.choices[0].text == expected
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id


def test_openai_completion_stream(client, expected):
    chunks = list(client.completions.create(model="tiny", prompt=PROMPT, stream=True, stream_options={"include_usage": True}, **GREEDY))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == expected
    assert chunks[-1].usage.completion_tokens == 8 and chunks[-1].choices == []


def test_openai_chat(client):
    answer = client.chat.completions.create(model="tiny", messages=HELLO, max_completion_tokens=8, temperature=0, logprobs=True,
                                            top_logprobs=2)
    message = answer.choices[0].message
    assert message.role == "assistant" and answer.choices[0].finish_reason in ("stop", "length")
    assert "".join(t.token for t in answer.choices[0].logprobs.content).startswith(message.content)
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2
    chunks = list(client.chat.completions.create(model="tiny", messages=HELLO, max_completion_tokens=8, temperature=0, stream=True,
                                                 stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == message.content
    assert chunks[-1].usage.prompt_tokens == answer.usage.prompt_tokens


def test_openai_async_and_many_at_once(base, expected):
    async def run():
        async with openai.AsyncOpenAI(base_url=base, api_key=KEY, max_retries=0, timeout=60 * SLOW) as client:
            answers = await asyncio.gather(*(client.completions.create(model="default", prompt=PROMPT, **GREEDY) for _ in range(16)))
            return {a.choices[0].text for a in answers}
    assert asyncio.run(run()) == {expected}


def test_openai_errors_have_their_classes(client, base):
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        client.completions.create(model="nothing", prompt=PROMPT)
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="tiny", prompt=PROMPT, echo=True)
    assert refused.value.param == "echo" and refused.value.code == "unsupported_parameter"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=base, api_key="wrong", max_retries=0).completions.create(model="tiny", prompt=PROMPT)


def test_openai_raises_an_error_within_a_stream(tmp_path):
    """Simulated at a hundredth of a card's speed: no machine is so fast that the answer ends before its deadline."""
    with Cluster(tmp_path, tensor_parallel=1, **unhurried(pace=0.01)) as cluster:
        with Gateway(cluster.tmp, cluster.clients) as gateway:
            slow = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0)
            with pytest.raises(openai.APIError, match="(?i)deadline"):
                for _ in slow.completions.create(model="tiny", prompt="a", stream=True, max_tokens=1000, extra_body={"ignore_eos": True},
                                                 extra_headers={"x-request-timeout": str(2 * SLOW)}):
                    pass


# ---- LiteLLM, the library


@pytest.mark.parametrize("provider", ["hosted_vllm", "openai"])
def test_litellm_text_completion(base, expected, provider):
    model = f"{provider}/tiny" if provider == "hosted_vllm" else "text-completion-openai/tiny"
    answer = litellm.text_completion(model=model, prompt=PROMPT, api_base=base, api_key=KEY, **GREEDY)
    assert answer.choices[0].text == expected


@pytest.mark.parametrize("provider", ["hosted_vllm", "openai"])
def test_litellm_chat(base, provider):
    ask = {"model": f"{provider}/tiny", "messages": HELLO, "api_base": base, "api_key": KEY, "drop_params": True, **GREEDY}
    answer = litellm.completion(**ask)
    assert answer.usage.completion_tokens > 0
    chunks = list(litellm.completion(stream=True, stream_options={"include_usage": True}, **ask))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == answer.choices[0].message.content
    assert any(getattr(c, "usage", None) for c in chunks)


# ---- LangChain and LlamaIndex


def test_langchain(base, expected):
    from langchain_openai import OpenAI
    llm = OpenAI(model="tiny", base_url=base, api_key=KEY, **GREEDY)
    assert llm.invoke(PROMPT) == expected
    assert "".join(llm.stream(PROMPT)) == expected


def test_langchain_chat(base):
    from langchain_openai import ChatOpenAI
    chat = ChatOpenAI(model="tiny", base_url=base, api_key=KEY, stream_usage=True, **GREEDY)
    answer = chat.invoke([("system", "Be brief."), ("human", "Tell me of the scheduler.")])
    assert answer.usage_metadata["output_tokens"] > 0
    assert "".join(c.content for c in chat.stream([("system", "Be brief."), ("human", "Tell me of the scheduler.")])) == answer.content


def test_llama_index(base, expected):
    from llama_index.llms.openai_like import OpenAILike
    llm = OpenAILike(model="tiny", api_base=base, api_key=KEY, is_chat_model=False, context_window=1024, **GREEDY)
    assert llm.complete(PROMPT).text == expected
    assert list(llm.stream_complete(PROMPT))[-1].text == expected


def test_llama_index_chat(base):
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai_like import OpenAILike
    llm = OpenAILike(model="tiny", api_base=base, api_key=KEY, is_chat_model=True, context_window=1024, **GREEDY)
    messages = [ChatMessage(role=m["role"], content=m["content"]) for m in HELLO]
    assert list(llm.stream_chat(messages))[-1].message.content == llm.chat(messages).message.content


# ---- LiteLLM, the proxy: the user's own configuration, with the host's name alone changed


USER_CONFIG = """
model_list:
  - model_name: gpt-3.5-turbo
    litellm_params:
      model: openai/tiny
      api_base: {base}
      api_key: vllm-key
  - model_name: local-model
    litellm_params:
      model: openai/tiny
      api_base: {base}
      api_key: vllm-key
  - model_name: hosted
    litellm_params:
      model: hosted_vllm/tiny
      api_base: {base}
      api_key: vllm-key
  - model_name: vectors
    litellm_params:
      model: openai/small-embed
      api_base: {base}
      api_key: vllm-key
    model_info: {{mode: embedding}}
  - model_name: hosted-vectors
    litellm_params:
      model: hosted_vllm/small-embed
      api_base: {base}
      api_key: vllm-key
    model_info: {{mode: embedding}}
  - model_name: ranker
    litellm_params:
      model: hosted_vllm/small-rerank
      api_base: {base}
      api_key: vllm-key
    model_info: {{mode: rerank}}
litellm_settings:
  drop_params: true
  json_logs: true
router_settings:
  routing_strategy: simple-shuffle
"""


@pytest.fixture(scope="module")
def proxy(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "config.yaml").write_text(USER_CONFIG.format(base=base))
    port = free_ports(1)[0]
    log = open(folder / "proxy.log", "wb")
    command = [os.path.join(os.path.dirname(sys.executable), "litellm"), "--config", folder / "config.yaml", "--port", str(port),
               "--host", "127.0.0.1"]
    process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, cwd=folder,
                               env={**os.environ, "LITELLM_MASTER_KEY": MASTER_KEY})
    url = f"http://127.0.0.1:{port}"

    def alive():
        assert process.poll() is None, (folder / "proxy.log").read_text()[-3000:]
        try:
            return openai.OpenAI(base_url=url + "/v1", api_key=MASTER_KEY, max_retries=0, timeout=5).models.list()
        except openai.APIError:
            time.sleep(0.3)
            return None

    try:
        eventually(alive, 120, "the LiteLLM proxy listens")
        yield url
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def test_the_users_litellm_configuration(proxy):
    client = openai.OpenAI(base_url=proxy + "/v1", api_key=MASTER_KEY, max_retries=0, timeout=60 * SLOW)
    for model in ("gpt-3.5-turbo", "local-model", "hosted"):
        answer = client.chat.completions.create(model=model, messages=HELLO, **GREEDY)
        assert answer.usage.completion_tokens > 0, model
        chunks = list(client.chat.completions.create(model=model, messages=HELLO, stream=True, **GREEDY))
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == answer.choices[0].message.content, model


def test_the_proxy_embeds_and_reranks(proxy, service):
    import httpx
    texts = ["the scheduler", "answers with stream tokens"]
    expected = service[1].ask("/v1/embeddings", {"model": "small-embed", "input": texts}, {"authorization": f"Bearer {KEY}"})[2]
    client = openai.OpenAI(base_url=proxy + "/v1", api_key=MASTER_KEY, max_retries=0, timeout=60 * SLOW)
    for model in ("vectors", "hosted-vectors"):
        answer = client.embeddings.create(model=model, input=texts, encoding_format="float")
        for got, item in zip(answer.data, expected["data"]):
            assert got.embedding == pytest.approx(item["embedding"], abs=1e-6), model
    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        body = httpx.post(proxy + path, headers={"authorization": f"Bearer {MASTER_KEY}"}, timeout=60 * SLOW,
                          json={"model": "ranker", "query": "what is the scheduler", "documents": texts, "top_n": 1}).json()
        assert len(body["results"]) == 1 and body["results"][0]["index"] in (0, 1), body


def test_litellms_health_check_finds_all_models_healthy(proxy, service):
    import httpx
    health = httpx.get(proxy + "/health", headers={"authorization": f"Bearer {MASTER_KEY}"}, timeout=60 * SLOW).json()
    assert health["unhealthy_count"] == 0 and health["healthy_count"] == 6, health
    assert service[1].ask("/v1/models")[0] == 200, "the container's own probe opens it without a key"
