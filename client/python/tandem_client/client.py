"""The client for threads."""

from __future__ import annotations

import math
import threading
import time
from typing import Any, Dict, Generator, Iterator, List, Optional, Sequence, cast

import grpc

from tandem_client import requests, types
from tandem_client._proto.tandem.v1 import inference_pb2 as pb, inference_pb2_grpc
from tandem_client.errors import TandemError, fault, from_grpc
from tandem_client.security import Security, open_channel
from tandem_client.session import Session
from tandem_client.silence import CallFailed, Reader

CHANNEL_OPTIONS = [("grpc.max_send_message_length", 32 << 20), ("grpc.max_receive_message_length", 32 << 20),
                   # A scheduler that restarts is back within a second; streams that broke wait for it.
                   ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000),
                   # Who only reads sends nothing, and would never learn that the other end has vanished. The scheduler's
                   # doors take a ping every 10 s; 0: no bound to how many. A ping of gRPC's own that is under way when the
                   # line dies stands in the way of these, and has a minute unless it is told otherwise.
                   ("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 5_000),
                   ("grpc.http2.max_pings_without_data", 0), ("grpc.http2.ping_timeout_ms", 5_000)]
_ABORT_TIMEOUT = 1.0  # a word to a scheduler that is there takes a millisecond


def cancelled() -> TandemError:
    return TandemError(grpc.StatusCode.CANCELLED, "cancelled")


def _nothing(state: grpc.ChannelConnectivity) -> None:
    pass


def _wait_and_mend(channel: grpc.Channel, cancelled: threading.Event, seconds: float) -> bool:
    """Waits; whether it was cancelled. A connection that is being made gets on only while somebody polls: a call that fails
    at once does not, and without one gRPC looks every five seconds, of which TLS takes several."""
    channel.subscribe(_nothing, try_to_connect=True)
    try:
        return cancelled.wait(seconds)
    finally:
        channel.unsubscribe(_nothing)


class TokenStream:
    """One completion as it comes: iterate over its chunks, then read `result`.

    Belongs to one thread; cancel() alone may be called from others. Leaving it early (close(), or the end of a `with`)
    cancels the request.
    """

    def __init__(self, channel: grpc.Channel, there: threading.Event, stub: inference_pb2_grpc.InferenceServiceStub,
                 session: Session, timeout: Optional[float]):
        self._channel = channel
        self._there = there  # of all streams of the channel: the scheduler was heard, and no call has missed it since
        self._stub = stub
        self._session = session
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout
        self._chunks: List[types.Chunk] = []
        self._call: Optional[grpc.Call] = None
        self._cancelled = threading.Event()
        self._error: Optional[TandemError] = None
        self._ended = False
        self._steps = self._run()

    def __iter__(self) -> Iterator[types.Chunk]:
        return self

    def __next__(self) -> types.Chunk:
        return next(self._steps)

    @property
    def request_id(self) -> str:
        """Empty until the scheduler has said it."""
        return cast(str, self._session.accepted.request_id)

    @property
    def result(self) -> types.Completion:
        """The whole answer. Reads what has not been read; raises what ended the stream."""
        for _ in self:
            pass
        if self._error is not None:
            raise self._error
        return requests.completion(self._chunks, self._session.accepted, self._session.finished, self._session.attempts,
                                   self._session.resumes)

    def cancel(self) -> None:
        """Any thread, any time: the stream ends with CANCELLED unless it had ended before."""
        self._cancelled.set()
        call = self._call
        if call is not None:
            call.cancel()

    def close(self) -> None:
        if not self._ended:
            self.cancel()
            self._steps.close()
            self._end()

    def __enter__(self) -> "TokenStream":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _run(self) -> Generator[types.Chunk, None, None]:
        try:
            while True:
                try:
                    with Reader(self._open(), self._session.most_silence) as reader:
                        while (message := reader.next()) is not None:
                            self._there.set()
                            chunk = self._session.on_message(message)
                            if chunk is not None:
                                self._chunks.append(chunk)
                                yield chunk
                    if self._session.finished is None:
                        raise fault("it ended without saying how")
                    self._ended = True
                    return
                except CallFailed as failed:
                    if self._cancelled.is_set():
                        raise cancelled() from None
                    if failed.error.unreachable:
                        self._there.clear()
                    wait = self._session.on_error(failed.error, time.monotonic())
                if _wait_and_mend(self._channel, self._cancelled, wait):
                    raise cancelled()
        except TandemError as error:
            self._error = error
            self._end()
            raise

    def _open(self) -> grpc.Call:
        if self._cancelled.is_set():
            raise cancelled()
        method, request = self._session.next_call(self._there.is_set())
        timeout = None if self._deadline == math.inf else max(0.001, self._deadline - time.monotonic())
        self._call = getattr(self._stub, method)(request, timeout=timeout)
        if self._cancelled.is_set():
            self._call.cancel()
        return self._call

    def _end(self) -> None:
        self._ended = True
        if self._call is not None:
            self._call.cancel()
        abort = self._session.abort_request()
        if abort is not None:
            try:
                self._stub.Abort(abort, timeout=_ABORT_TIMEOUT)
            except grpc.RpcError:
                pass  # a scheduler that is away forgets it by itself


class Client:
    """A connection to a scheduler, or to several behind one name. Mends itself; serves any number of threads."""

    def __init__(self, address: str, *, timeout: float = 30.0, options: types.Options = types.Options(),
                 security: Optional[Security] = None, channel: Optional[grpc.Channel] = None):
        """`timeout` is of every call but generate(). `security`: None takes what the environment says (TANDEM_CA, ...)."""
        self._channel = channel or open_channel(address, security or Security.from_environment(), CHANNEL_OPTIONS)
        self._there = threading.Event()
        self._stub = inference_pb2_grpc.InferenceServiceStub(self._channel)
        self._timeout = timeout
        self._options = options

    def generate(self, model: str, prompt: Optional[requests.Prompt] = None, *, timeout: Optional[float] = None,
                 options: Optional[types.Options] = None, **arguments: Any) -> TokenStream:
        """Streams an answer to a prompt (text or token ids) or to messages; see requests.generate_request for the rest.

        `timeout` is of the whole, repetitions and resumptions included.
        """
        request = requests.generate_request(model, prompt, **arguments)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        return TokenStream(self._channel, self._there, self._stub, Session(request, options or self._options, deadline), timeout)

    def complete(self, model: str, prompt: Optional[requests.Prompt] = None, **arguments: Any) -> types.Completion:
        """The same, whole."""
        with self.generate(model, prompt, **arguments) as stream:
            return stream.result

    def tokenize(self, model: str, text: Optional[requests.Text] = None, *,
                 messages: Optional[Sequence[requests.AnyMessage]] = None,
                 no_special_tokens: bool = False, **chat: Any) -> List[int]:
        request = requests.tokenize_request(model, text, messages, no_special_tokens, **chat)
        return list(self._ask("Tokenize", request).token_ids)

    def detokenize(self, model: str, token_ids: Sequence[int], *, keep_special_tokens: bool = False) -> str:
        request = pb.DetokenizeRequest(model=model, token_ids=token_ids, keep_special_tokens=keep_special_tokens)
        return cast(bytes, self._ask("Detokenize", request).text).decode()

    def embed(self, model: str, texts: requests.Texts = (), **arguments: Any) -> List[List[float]]:
        """One vector for each text and each image; see requests.embed_request for what they may be."""
        answer = self._ask("Embed", requests.embed_request(model, texts, **arguments))
        return [list(embedding.values) for embedding in answer.embeddings]

    def rerank(self, model: str, query: str, documents: Sequence[str]) -> List[types.RankedDocument]:
        """Highest first."""
        request = pb.RerankRequest(model=model, query=query.encode(), documents=[d.encode() for d in documents])
        return [types.RankedDocument(result.index, result.score) for result in self._ask("Rerank", request).results]

    def models(self) -> Dict[str, types.Model]:
        return {m.name: requests.model(m) for m in self._ask("ListModels", pb.ListModelsRequest()).models}

    def abort(self, request_ids: Sequence[str], tenant: str = "") -> List[str]:
        """The ids of those that were alive, and of that tenant."""
        return list(self._ask("Abort", pb.AbortRequest(request_ids=request_ids, tenant=tenant)).aborted)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _ask(self, method: str, request: Any) -> Any:
        """One call, repeated as often and as late as the scheduler asks."""
        deadline = time.monotonic() + self._timeout
        for attempt in range(self._options.retries + 1):
            try:
                return getattr(self._stub, method)(request, timeout=max(0.001, deadline - time.monotonic()))
            except grpc.RpcError as error:
                failure = from_grpc(error)
                wait = failure.retry_after
                if attempt == self._options.retries or wait is None or time.monotonic() + wait >= deadline:
                    raise failure from None
                _wait_and_mend(self._channel, threading.Event(), wait)
        raise AssertionError("not reached")
