"""Arguments to messages, and messages to plain values. The one place that knows the wire's field names."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any, Mapping, Optional, Sequence, Union

from tandem_client import types
from tandem_client._proto.tandem.v1 import common_pb2, inference_pb2 as pb

Text = Union[str, bytes]
Prompt = Union[Text, Sequence[int]]
Texts = Union[Text, Sequence[Union[Text, Sequence[int]]]]
AnyMessage = Union[types.Message, Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed")


def _bytes(text: Text) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _part_text(part: Union[Text, Mapping[str, Any]]) -> Text:
    if isinstance(part, Mapping):
        if part.get("type") != "text":
            raise ValueError(f"a content part of type {part.get('type')!r}; text alone is served")
        text: Text = part["text"]
        return text
    return part


def chat_prompt(messages: Sequence[AnyMessage], tools: Optional[Tools] = None,
                template_kwargs: Optional[Mapping[str, Any]] = None, add_generation_prompt: Optional[bool] = None,
                continue_final_message: bool = False) -> pb.ChatPrompt:
    prompt = pb.ChatPrompt(continue_final_message=continue_final_message)
    for message in messages:
        if not isinstance(message, types.Message):
            known = {field: message[field] for field in types.Message.__dataclass_fields__ if message.get(field) is not None}
            message = types.Message(**known)
        out = prompt.messages.add(role=message.role, name=message.name, tool_call_id=message.tool_call_id)
        if isinstance(message.content, (str, bytes)):
            out.content = _bytes(message.content)
        else:
            for part in message.content:
                out.parts.add(text=_bytes(_part_text(part)))
        if message.tool_calls:
            out.tool_calls_json = json.dumps(list(message.tool_calls), ensure_ascii=False)
    if add_generation_prompt is not None:
        prompt.add_generation_prompt = add_generation_prompt
    if tools:
        prompt.tools_json = json.dumps(list(tools), ensure_ascii=False)
    if template_kwargs:
        prompt.template_kwargs_json = json.dumps(dict(template_kwargs), ensure_ascii=False)
    return prompt


Picture = Union[bytes, "os.PathLike[str]"]


def embed_request(model: str, texts: Texts = (), *, image: Union[Picture, Sequence[Picture], None] = None,
                  dimensions: int = 0, truncate_tokens: Optional[int] = None,
                  priority: int = 0, tenant: str = "") -> pb.EmbedRequest:
    """`texts`: a text, or a list of texts and of lists of token ids. `image`: a PNG or JPEG file's bytes or its path
    (pathlib.Path), or a list of those; they follow the texts. An address elsewhere is not taken: nothing is fetched."""
    request = pb.EmbedRequest(model=model, dimensions=dimensions, priority=priority, tenant=tenant)
    for text in [texts] if isinstance(texts, (str, bytes)) else texts:
        if isinstance(text, (str, bytes)):
            request.inputs.add(text=_bytes(text))
        else:
            request.inputs.add().token_ids.ids.extend(text)
    if image is None:
        image = []
    for picture in [image] if isinstance(image, (str, bytes, os.PathLike)) else image:
        if isinstance(picture, str):
            raise TypeError("an image is bytes or a pathlib.Path, not a str")
        request.inputs.add(image=picture if isinstance(picture, bytes) else pathlib.Path(picture).read_bytes())
    if truncate_tokens is not None:
        request.truncate_tokens = truncate_tokens
    return request


def generate_request(model: str, prompt: Optional[Prompt] = None, *, messages: Optional[Sequence[AnyMessage]] = None,
                     tools: Optional[Tools] = None, template_kwargs: Optional[Mapping[str, Any]] = None,
                     continue_final_message: bool = False, max_tokens: Optional[int] = None, min_tokens: int = 0,
                     stop: Sequence[str] = (), stop_token_ids: Sequence[int] = (), ignore_eos: bool = False,
                     logprobs: Optional[int] = None, priority: int = 0, tenant: str = "", session_id: str = "",
                     idempotency_key: str = "", resume_token_ids: Sequence[int] = (), chunk_interval: float = 0.0,
                     **sampling: Optional[float]) -> pb.GenerateRequest:
    request = pb.GenerateRequest(model=model, priority=priority, tenant=tenant, session_id=session_id,
                                 idempotency_key=idempotency_key, chunk_interval_ms=round(chunk_interval * 1000))
    if (prompt is None) == (messages is None):
        raise ValueError("give a prompt or messages, one of them")
    if messages is not None:
        request.chat.CopyFrom(chat_prompt(messages, tools, template_kwargs, continue_final_message=continue_final_message))
    elif tools or template_kwargs or continue_final_message:
        raise ValueError("tools, template_kwargs and continue_final_message belong to messages")
    elif isinstance(prompt, (str, bytes)):
        request.text = _bytes(prompt)
    else:
        request.token_ids.ids.extend(prompt)
    for name, value in sampling.items():
        if name not in _SAMPLING:
            raise TypeError(f"unknown argument {name!r}")
        if value is not None:
            setattr(request.sampling, name, value)
    stopping = request.stopping
    if max_tokens is not None:
        stopping.max_tokens = max_tokens
    stopping.min_tokens = min_tokens
    stopping.ignore_eos = ignore_eos
    stopping.stop.extend([stop] if isinstance(stop, str) else stop)
    stopping.stop_token_ids.extend(stop_token_ids)
    if logprobs is not None:
        request.logprobs = logprobs
    request.resume_token_ids.extend(resume_token_ids)
    return request


def _token(logprob: common_pb2.TokenLogprob) -> types.TokenLogprob:
    return types.TokenLogprob(logprob.token_id, logprob.logprob)


def chunk(message: pb.Chunk) -> types.Chunk:
    logprobs = tuple(types.PositionLogprobs(_token(p.chosen), tuple(map(_token, p.top))) for p in message.logprobs)
    return types.Chunk(message.offset, message.text.decode(), tuple(message.token_ids), logprobs)


def progress(message: pb.Progress) -> types.Progress:
    state = pb.Progress.State.Name(message.state).lower()
    return types.Progress(message.request_id, state, message.queue_position, message.waits_for)


def usage(message: common_pb2.Usage) -> types.Usage:
    return types.Usage(message.prompt_tokens, message.completion_tokens, message.cached_tokens)


def completion(chunks: Sequence[types.Chunk], accepted: pb.Accepted, finished: pb.Finished, attempts: int,
               resumes: int) -> types.Completion:
    matched, timings = finished.WhichOneof("matched_stop"), finished.timings
    return types.Completion(
        text="".join(c.text for c in chunks),
        token_ids=tuple(i for c in chunks for i in c.token_ids),
        finish_reason=common_pb2.FinishReason.Name(finished.reason).lower(),
        stop_string=finished.stop_string if matched == "stop_string" else None,
        stop_token_id=finished.stop_token_id if matched == "stop_token_id" else None,
        usage=usage(finished.usage),
        timings=types.Timings(timings.queue_us / 1e6, timings.first_token_us / 1e6, timings.total_us / 1e6, timings.preemptions),
        request_id=accepted.request_id, model_revision=accepted.model_revision, group=accepted.group, seed=accepted.seed,
        attempts=attempts, resumes=resumes, logprobs=tuple(p for c in chunks for p in c.logprobs))


def model(message: pb.ServedModel) -> types.Model:
    return types.Model(message.name, tuple(message.aliases), message.task, message.max_model_len, message.revision, message.ready)


def tokenize_request(model_name: str, text: Optional[Text], messages: Optional[Sequence[AnyMessage]], no_special_tokens: bool,
                     **chat: Any) -> pb.TokenizeRequest:
    if (text is None) == (messages is None):
        raise ValueError("give a text or messages, one of them")
    request = pb.TokenizeRequest(model=model_name, no_special_tokens=no_special_tokens)
    if messages is not None:
        request.chat.CopyFrom(chat_prompt(messages, **chat))
    else:
        assert text is not None
        request.text = _bytes(text)
    return request
