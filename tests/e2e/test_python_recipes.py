"""The recipes of docs/clients.md, as they stand there, with the packages that they are for. Skipped without those."""

import asyncio
import importlib
import re
import sys

import pytest

from harness import ROOT

QUESTION = [{"role": "user", "content": "What is the capital of Spain?"}]


def recipe(heading):
    """The Python of one section of docs/clients.md."""
    section = (ROOT / "docs" / "clients.md").read_text().split(f"### {heading}\n", 1)[1].split("\n#", 1)[0]
    return re.search(r"```python\n(.*?)```", section, re.S).group(1)


@pytest.fixture
def litellm(package, monkeypatch):  # noqa: F811
    module = pytest.importorskip("litellm")
    monkeypatch.syspath_prepend(str(ROOT / "client" / "python" / "examples"))
    importlib.import_module("tandem_litellm").register()
    return module


def test_litellm_asks_over_grpc(litellm, cluster):
    where = dict(model="tandem/tiny", api_base=f"127.0.0.1:{cluster.clients}", messages=QUESTION, temperature=0.0, max_tokens=24)
    whole = litellm.completion(**where)
    assert "Madrid" in whole.choices[0].message.content and whole.usage.completion_tokens > 0
    text = "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(stream=True, **where))
    assert text == whole.choices[0].message.content

    async def both():
        answer = await litellm.acompletion(**where)
        parts = [chunk.choices[0].delta.content or "" async for chunk in await litellm.acompletion(stream=True, **where)]
        return answer.choices[0].message.content, "".join(parts)

    assert asyncio.run(both()) == (text, text)


def test_litellm_sees_a_refusal(litellm, cluster):
    with pytest.raises(Exception, match="MODEL_NOT_FOUND"):
        litellm.completion(model="tandem/nobody", api_base=f"127.0.0.1:{cluster.clients}", messages=QUESTION)


def test_langchain(package, cluster, capsys):  # noqa: F811
    pytest.importorskip("langchain_core")
    code = recipe("LangChain").replace('"127.0.0.1:50051"', f'"127.0.0.1:{cluster.clients}"').replace('"chat"', '"tiny"')
    exec(compile(code, "docs/clients.md", "exec"), {"__name__": "langchain_recipe"})
    assert "Madrid" in capsys.readouterr().out


def test_llama_index(package, cluster):  # noqa: F811
    pytest.importorskip("llama_index.core")
    space = {"__name__": "llama_index_recipe"}
    sys.modules.setdefault("llama_index_recipe", type(sys)("llama_index_recipe"))  # pydantic looks its classes' modules up
    exec(compile(recipe("LlamaIndex"), "docs/clients.md", "exec"), space)
    llm = space["TandemLLM"](model="tiny", server=f"127.0.0.1:{cluster.clients}")
    prompt = "Q: What is the capital of Spain?\nA:"
    whole = llm.complete(prompt, temperature=0.0, max_tokens=24).text
    assert "Madrid" in whole
    assert list(llm.stream_complete(prompt, temperature=0.0, max_tokens=24))[-1].text == whole
