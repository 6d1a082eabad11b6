"""How one completion survives: which call comes next, what a message means, and what follows a failure.

Before the first token a repetition is Generate again, under the same idempotency key, so that it attaches to what runs
already. After it a broken stream is taken up by Resume, from the first index that is missing; where the scheduler does not
know the request any more, Generate goes on from all tokens received under the seed of the first attempt. So no token is
lost or doubled.

No I/O and no clock of its own: the same rules drive the threaded and the asyncio stream, and a test can play any fault.
"""

from __future__ import annotations

import math
import secrets
from typing import List, Optional, Tuple, Union

import grpc

from tandem_client import requests, types
from tandem_client._proto.tandem.v1 import inference_pb2 as pb
from tandem_client.errors import TandemError, fault

_BROKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED)


def _is_broken(error: TandemError) -> bool:
    """The stream broke under us: nobody said that the request has failed."""
    if error.reason:
        return error.reason == "DRAINING"  # what runs is not lost by a shutdown
    return error.code in _BROKEN


class Session:
    def __init__(self, request: pb.GenerateRequest, options: types.Options, deadline: float):
        self._request = request
        self._options = options
        self._deadline = deadline  # of the caller's clock; inf: none
        self._own_key = not request.idempotency_key
        if self._own_key:
            request.idempotency_key = "stream-" + secrets.token_hex(16)
        self._ids: List[int] = list(request.resume_token_ids)
        self._way = "generate"  # resume, go on
        self._going_on = 0
        self._lost = ""  # the request that a scheduler no longer knows
        self._had = self._delivered = self._tail_delivered = False
        self._broken_at = math.inf
        self._tries = 0
        self.accepted = pb.Accepted()
        self.finished: Optional[pb.Finished] = None
        self.attempts = 0
        self.resumes = 0

    @property
    def most_silence(self) -> float:
        return self._options.most_silence

    # ---- calls

    def next_call(self, connected: bool = False) -> Tuple[str, object]:
        """("Generate", request) or ("Resume", request). `connected`: over a connection that stands, so that the scheduler may
        have had the request although nothing of it is ever heard."""
        self.attempts += 1
        self._had |= connected
        if self._way == "generate":
            self.accepted = pb.Accepted()
            return "Generate", self._request
        if self._way == "go on":
            return "Generate", self._going_on_request()
        resume = pb.ResumeRequest(next_index=len(self._ids), tenant=self._request.tenant)
        if self.accepted.request_id:
            resume.request_id = self.accepted.request_id
        else:
            resume.idempotency_key = self._key()
        return "Resume", resume

    def abort_request(self) -> Optional[pb.AbortRequest]:
        """A request with a key outlives its stream, so that it can be taken up again. Where nobody will, this ends it."""
        if not self._own_key or self.attempts == 0 or self.finished is not None:
            return None
        return pb.AbortRequest(tenant=self._request.tenant, idempotency_keys=[self._key()])

    def _key(self) -> str:
        key = self._request.idempotency_key
        return key if self._going_on == 0 else f"{key[:112]}+{self._going_on}"

    def _going_on_request(self) -> pb.GenerateRequest:
        request = pb.GenerateRequest()
        request.CopyFrom(self._request)
        request.idempotency_key = self._key()
        if self.accepted.request_id:
            request.sampling.seed = self.accepted.seed
        known, most = self._ids, self._request.stopping.max_tokens
        if self._request.stopping.HasField("max_tokens") and len(known) >= most:
            known = known[:most - 1]  # all is here but how it ended: the last token is computed once more
        del request.resume_token_ids[:]
        request.resume_token_ids.extend(known)
        return request

    # ---- messages

    def on_message(self, message: Union[pb.GenerateResponse, pb.ResumeResponse]) -> Optional[types.Chunk]:
        self._had = True
        kind = message.WhichOneof("event")
        if kind == "accepted":
            self.accepted = message.accepted
        elif kind == "progress":
            if not self.accepted.request_id:
                self.accepted.request_id = message.progress.request_id
            if self._options.on_progress is not None:
                self._options.on_progress(requests.progress(message.progress))
        elif kind == "chunk":
            return self._take(message.chunk)
        elif kind == "finished":
            self.finished = message.finished
        return None  # a newer scheduler's word is passed over

    def _take(self, chunk: pb.Chunk) -> Optional[types.Chunk]:
        ids = list(chunk.token_ids)
        if not ids:  # the end's own text; a stream that broke behind it sends it again
            again, self._tail_delivered = self._tail_delivered, True
            if again:
                return None
        elif self._way == "go on" and len(ids) == 1 and self._ids and chunk.offset + 1 == len(self._ids):
            if ids[0] != self._ids[-1]:
                raise fault(f"token {chunk.offset} came as {self._ids[-1]} and again as {ids[0]}")
            return None  # once more, as asked for in _going_on_request
        elif chunk.offset != len(self._ids):
            raise fault(f"a chunk begins at token {chunk.offset}, expected {len(self._ids)}")
        self._ids.extend(ids)
        self._broken_at, self._tries = math.inf, 0
        self._delivered = True
        return requests.chunk(chunk)

    # ---- failures

    def on_error(self, error: TandemError, now: float) -> float:
        """How long to wait before next_call(). Raises `error` where that is the end."""
        wait = self._take_up_again(error, now) if self._delivered else self._try_again(error, now)
        if wait is None or now + wait >= self._deadline:  # an answer that must come too late is worse than the one there is
            raise error
        return wait

    def _try_again(self, error: TandemError, now: float) -> Optional[float]:
        if error.code != grpc.StatusCode.UNAVAILABLE:
            return None
        options = self._options
        # A scheduler that may have had the request and is away comes back with it; one that was never there may not come.
        away = self._had and error.unreachable
        if away:
            self._broken_at = min(self._broken_at, now)
        if now > self._broken_at + options.resume_within if away else self.attempts > options.retries:
            return None
        wait = error.retry_after
        if wait is None:
            wait = options.first_backoff * 2 ** min(self.attempts - 1, 20)
        return min(wait, 1.0 if away else options.most_backoff)

    def _take_up_again(self, error: TandemError, now: float) -> Optional[float]:
        options, broken = self._options, _is_broken(error)
        unknown = error.reason == "RESUME_UNKNOWN"
        if not broken and not unknown and error.code != grpc.StatusCode.UNAVAILABLE:
            return None
        if self._broken_at == math.inf:
            if self.resumes >= options.resumes:
                return None
            self.resumes += 1
            self._broken_at = now
            if options.on_resume is not None:
                options.on_resume(error, len(self._ids))
        elif now > self._broken_at + options.resume_within:
            return None
        if unknown or not broken:  # lost, or failed for a reason that will pass: what is here goes on as another request
            self._way = "go on"
            self._going_on += 1
            self._lost = self.accepted.request_id
        else:  # the other one may not have been taken up yet
            self._way = "go on" if self.accepted.request_id == self._lost else "resume"
        if unknown:
            return 0.0
        wait = error.retry_after
        if wait is None:
            wait = options.first_backoff / 2 * 2 ** min(self._tries, 5)
            self._tries += 1
        return min(wait, 1.0)
