"""A LiteLLM provider that speaks gRPC to Tandem: streams that survive a restart of the scheduler.

The OpenAI endpoint of tandem-gateway is the plain way to put LiteLLM before Tandem. This is for who wants the gRPC client's
resumption within LiteLLM. Beside LiteLLM's config.yaml:

    model_list:
      - model_name: chat
        litellm_params: {model: tandem/chat, api_base: "127.0.0.1:50051"}
    litellm_settings:
      custom_provider_map: [{provider: tandem, custom_handler: tandem_litellm.handler}]

From Python: litellm.custom_provider_map = [{"provider": "tandem", "custom_handler": tandem_litellm.handler}]
"""

import os
import threading

import litellm
from litellm.llms.custom_llm import CustomLLM, CustomLLMError
from litellm.types.utils import Choices, GenericStreamingChunk, Message, ModelResponse, Usage

import tandem_client

_STATUS = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503, "RESOURCE_EXHAUSTED": 429, "DEADLINE_EXCEEDED": 504}
# OpenAI's name, ours.
_ARGUMENTS = {"max_tokens": "max_tokens", "max_completion_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p",
              "top_k": "top_k", "min_p": "min_p", "seed": "seed", "presence_penalty": "presence_penalty",
              "frequency_penalty": "frequency_penalty", "stop": "stop", "tools": "tools"}


def _arguments(optional_params, timeout):
    arguments = {ours: optional_params[theirs] for theirs, ours in _ARGUMENTS.items() if optional_params.get(theirs) is not None}
    if isinstance(timeout, (int, float)):
        arguments["timeout"] = float(timeout)
    return arguments


def _error(error):
    return CustomLLMError(status_code=_STATUS.get(error.code.name, 500), message=str(error))


def _usage(usage):
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens}


def _chunk(text, finish_reason=None, usage=None) -> GenericStreamingChunk:
    return {"text": text, "is_finished": finish_reason is not None, "finish_reason": finish_reason or "", "index": 0,
            "tool_use": None, "usage": usage}


def _fill(model_response: ModelResponse, model, answer) -> ModelResponse:
    model_response.id = answer.request_id
    model_response.model = model
    model_response.choices = [Choices(index=0, finish_reason=answer.finish_reason, message=Message(role="assistant", content=answer.text))]
    model_response.usage = Usage(**_usage(answer.usage))
    return model_response


class TandemLLM(CustomLLM):
    def __init__(self):
        super().__init__()
        self._lock = threading.Lock()
        self._clients = {}

    def _client(self, api_base) -> tandem_client.Client:
        address = api_base or os.environ.get("TANDEM_SERVER", "127.0.0.1:50051")
        with self._lock:
            if address not in self._clients:
                self._clients[address] = tandem_client.Client(address)
            return self._clients[address]

    def completion(self, model, messages, api_base, custom_prompt_dict, model_response, print_verbose, encoding, api_key, logging_obj,
                   optional_params, acompletion=None, litellm_params=None, logger_fn=None, headers=None, timeout=None, client=None):
        try:
            answer = self._client(api_base).complete(model, messages=messages, **_arguments(optional_params, timeout))
        except tandem_client.TandemError as error:
            raise _error(error) from error
        return _fill(model_response, model, answer)

    def streaming(self, model, messages, api_base, custom_prompt_dict, model_response, print_verbose, encoding, api_key, logging_obj,
                  optional_params, acompletion=None, litellm_params=None, logger_fn=None, headers=None, timeout=None, client=None):
        try:
            with self._client(api_base).generate(model, messages=messages, **_arguments(optional_params, timeout)) as stream:
                for chunk in stream:
                    if chunk.text:
                        yield _chunk(chunk.text)
                answer = stream.result
        except tandem_client.TandemError as error:
            raise _error(error) from error
        yield _chunk("", answer.finish_reason, _usage(answer.usage))

    async def acompletion(self, model, messages, api_base, custom_prompt_dict, model_response, print_verbose, encoding, api_key,
                          logging_obj, optional_params, acompletion=None, litellm_params=None, logger_fn=None, headers=None,
                          timeout=None, client=None):
        # A client per call: gRPC's channels belong to the event loop, and LiteLLM may have several.
        try:
            async with tandem_client.AsyncClient(api_base or os.environ.get("TANDEM_SERVER", "127.0.0.1:50051")) as tandem:
                answer = await tandem.complete(model, messages=messages, **_arguments(optional_params, timeout))
        except tandem_client.TandemError as error:
            raise _error(error) from error
        return _fill(model_response, model, answer)

    async def astreaming(self, model, messages, api_base, custom_prompt_dict, model_response, print_verbose, encoding, api_key,
                         logging_obj, optional_params, acompletion=None, litellm_params=None, logger_fn=None, headers=None,
                         timeout=None, client=None):
        try:
            async with tandem_client.AsyncClient(api_base or os.environ.get("TANDEM_SERVER", "127.0.0.1:50051")) as tandem:
                async with tandem.generate(model, messages=messages, **_arguments(optional_params, timeout)) as stream:
                    async for chunk in stream:
                        if chunk.text:
                            yield _chunk(chunk.text)
                    answer = await stream.result()
        except tandem_client.TandemError as error:
            raise _error(error) from error
        yield _chunk("", answer.finish_reason, _usage(answer.usage))


handler = TandemLLM()


def register() -> None:
    """For programs that use LiteLLM as a library."""
    litellm.custom_provider_map = [*litellm.custom_provider_map, {"provider": "tandem", "custom_handler": handler}]
