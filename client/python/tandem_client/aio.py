"""The client for asyncio: the same rules (session.py), the same arguments."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any, AsyncGenerator, AsyncIterator, Dict, List, Optional, Sequence, cast

import grpc

from tandem_client import requests, types
from tandem_client._proto.tandem.v1 import inference_pb2 as pb, inference_pb2_grpc
from tandem_client.client import CHANNEL_OPTIONS, _ABORT_TIMEOUT
from tandem_client.errors import TandemError, fault, from_grpc
from tandem_client.security import Security, open_aio_channel
from tandem_client.session import Session
from tandem_client.silence import AsyncReader, CallFailed


class AsyncTokenStream:
    """One completion as it comes: `async for` its chunks, then `await result()`.

    Leaving it early (aclose(), the end of an `async with`, or cancelling the task) cancels the request.
    """

    def __init__(self, channel: grpc.aio.Channel, stub: inference_pb2_grpc.InferenceServiceStub, session: Session, deadline: float):
        self._channel = channel
        self._stub = stub
        self._session = session
        self._deadline = deadline
        self._chunks: List[types.Chunk] = []
        self._call: Optional[grpc.aio.UnaryStreamCall] = None
        self._error: Optional[TandemError] = None
        self._ended = False
        self._steps = self._run()

    def __aiter__(self) -> AsyncIterator[types.Chunk]:
        return self

    async def __anext__(self) -> types.Chunk:
        return await self._steps.__anext__()

    @property
    def request_id(self) -> str:
        """Empty until the scheduler has said it."""
        return cast(str, self._session.accepted.request_id)

    async def result(self) -> types.Completion:
        """The whole answer. Reads what has not been read; raises what ended the stream."""
        async for _ in self:
            pass
        if self._error is not None:
            raise self._error
        return requests.completion(self._chunks, self._session.accepted, self._session.finished, self._session.attempts,
                                   self._session.resumes)

    async def aclose(self) -> None:
        await self._steps.aclose()
        await self._end()

    async def __aenter__(self) -> "AsyncTokenStream":
        return self

    async def __aexit__(self, *unused: object) -> None:
        await self.aclose()

    async def _run(self) -> AsyncGenerator[types.Chunk, None]:
        try:
            while True:
                try:
                    with AsyncReader(self._open(), self._session.most_silence) as reader:
                        while (message := await reader.next()) is not None:
                            chunk = self._session.on_message(message)
                            if chunk is not None:
                                self._chunks.append(chunk)
                                yield chunk
                    if self._session.finished is None:
                        raise fault("it ended without saying how")
                    self._ended = True
                    return
                except CallFailed as failed:
                    wait = self._session.on_error(failed.error, time.monotonic())
                await asyncio.sleep(wait)
        except TandemError as error:
            self._error = error
            await self._end()
            raise
        except asyncio.CancelledError:
            # The task is going away; the word to the scheduler must not be waited for within it.
            self._ended = True
            if self._call is not None:
                self._call.cancel()
            asyncio.get_running_loop().create_task(self._abort())
            raise

    def _open(self) -> grpc.aio.UnaryStreamCall:
        method, request = self._session.next_call(self._channel.get_state() == grpc.ChannelConnectivity.READY)
        timeout = None if self._deadline == math.inf else max(0.001, self._deadline - time.monotonic())
        self._call = getattr(self._stub, method)(request, timeout=timeout)
        return self._call

    async def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._call is not None:
            self._call.cancel()
        await self._abort()

    async def _abort(self) -> None:
        abort = self._session.abort_request()
        if abort is None:
            return
        try:
            await self._stub.Abort(abort, timeout=_ABORT_TIMEOUT)
        except grpc.aio.AioRpcError:
            pass  # a scheduler that is away forgets it by itself


class AsyncClient:
    """A connection to a scheduler, or to several behind one name. Belongs to the event loop that made it."""

    def __init__(self, address: str, *, timeout: float = 30.0, options: types.Options = types.Options(),
                 security: Optional[Security] = None, channel: Optional[grpc.aio.Channel] = None):
        """`timeout` is of every call but generate(). `security`: None takes what the environment says (TANDEM_CA, ...)."""
        self._channel = channel or open_aio_channel(address, security or Security.from_environment(), CHANNEL_OPTIONS)
        self._stub = inference_pb2_grpc.InferenceServiceStub(self._channel)
        self._timeout = timeout
        self._options = options

    def generate(self, model: str, prompt: Optional[requests.Prompt] = None, *, timeout: Optional[float] = None,
                 options: Optional[types.Options] = None, **arguments: Any) -> AsyncTokenStream:
        """As Client.generate()."""
        request = requests.generate_request(model, prompt, **arguments)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        return AsyncTokenStream(self._channel, self._stub, Session(request, options or self._options, deadline), deadline)

    async def complete(self, model: str, prompt: Optional[requests.Prompt] = None, **arguments: Any) -> types.Completion:
        async with self.generate(model, prompt, **arguments) as stream:
            return await stream.result()

    async def tokenize(self, model: str, text: Optional[requests.Text] = None, *,
                       messages: Optional[Sequence[requests.AnyMessage]] = None,
                       no_special_tokens: bool = False, **chat: Any) -> List[int]:
        request = requests.tokenize_request(model, text, messages, no_special_tokens, **chat)
        return list((await self._ask("Tokenize", request)).token_ids)

    async def detokenize(self, model: str, token_ids: Sequence[int], *, keep_special_tokens: bool = False) -> str:
        request = pb.DetokenizeRequest(model=model, token_ids=token_ids, keep_special_tokens=keep_special_tokens)
        return cast(bytes, (await self._ask("Detokenize", request)).text).decode()

    async def embed(self, model: str, texts: requests.Texts = (), **arguments: Any) -> List[List[float]]:
        """One vector for each text and each image; see requests.embed_request for what they may be."""
        answer = await self._ask("Embed", requests.embed_request(model, texts, **arguments))
        return [list(embedding.values) for embedding in answer.embeddings]

    async def rerank(self, model: str, query: str, documents: Sequence[str]) -> List[types.RankedDocument]:
        """Highest first."""
        request = pb.RerankRequest(model=model, query=query.encode(), documents=[d.encode() for d in documents])
        return [types.RankedDocument(r.index, r.score) for r in (await self._ask("Rerank", request)).results]

    async def models(self) -> Dict[str, types.Model]:
        return {m.name: requests.model(m) for m in (await self._ask("ListModels", pb.ListModelsRequest())).models}

    async def abort(self, request_ids: Sequence[str], tenant: str = "") -> List[str]:
        """The ids of those that were alive, and of that tenant."""
        return list((await self._ask("Abort", pb.AbortRequest(request_ids=request_ids, tenant=tenant))).aborted)

    async def close(self) -> None:
        await self._channel.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *unused: object) -> None:
        await self.close()

    async def _ask(self, method: str, request: Any) -> Any:
        """One call, repeated as often and as late as the scheduler asks."""
        deadline = time.monotonic() + self._timeout
        for attempt in range(self._options.retries + 1):
            try:
                return await getattr(self._stub, method)(request, timeout=max(0.001, deadline - time.monotonic()))
            except grpc.aio.AioRpcError as error:
                failure = from_grpc(error)
                wait = failure.retry_after
                if attempt == self._options.retries or wait is None or time.monotonic() + wait >= deadline:
                    raise failure from None
                await asyncio.sleep(wait)
        raise AssertionError("not reached")
