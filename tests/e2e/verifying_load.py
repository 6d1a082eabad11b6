"""Clients that know what they must get: every token of every stream is checked against the hash chain as it comes.

A client that loses its stream goes on as the C++ library does: Resume(request_id, next_index); where the scheduler no
longer knows the request, Generate with resume_token_ids. What it never does is begin again from nothing, so whatever is
lost, comes twice or changes on the way is seen.

Belongs to one asyncio loop; run_in_thread() gives it one of its own.
"""

import asyncio
import contextlib
import dataclasses
import random
import threading
import time

import grpc

from harness import reason_of
from hash_chain import HashChain
from protos import inference, inference_rpc

RETRY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN,
         grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED}
LEAST_WAIT, MOST_WAIT = 0.05, 1.0


@dataclasses.dataclass
class Gap:
    begin: float  # time.monotonic() of the token before it, or of the request
    end: float

    @property
    def seconds(self):
        return self.end - self.begin


@dataclasses.dataclass
class Outcome:
    requests: int = 0
    tokens: int = 0
    finished: int = 0
    lost: int = 0
    duplicated: int = 0
    corrupted: int = 0
    unfinished: int = 0
    resumes: int = 0       # streams that went on by Resume
    continuations: int = 0  # by resume_token_ids
    refusals: dict = dataclasses.field(default_factory=dict)  # by reason; each was tried again
    failures: list = dataclasses.field(default_factory=list)  # of requests that did not finish: why
    gaps: list = dataclasses.field(default_factory=list)      # longer than `long_gap`
    first_token: list = dataclasses.field(default_factory=list)

    @property
    def wrong(self):
        return self.lost + self.duplicated + self.corrupted + self.unfinished

    @property
    def worst_gap(self):
        return max((gap.seconds for gap in self.gaps), default=0.0)


class Load:
    def __init__(self, target, vocabulary, streams=8, seed=1, tokens=(50, 300), prompt=(1, 60), patience=60.0, long_gap=0.2,
                 model="tiny", requests=None):
        self.target, self.vocabulary, self.model = target, vocabulary, model
        self.streams, self.tokens, self.prompt = streams, tokens, prompt
        self.random = random.Random(seed)
        self.patience, self.long_gap = patience, long_gap
        self.left = requests  # None: until stop()
        self.outcome = Outcome()
        self.errors = []  # what went wrong in a client itself
        self._stopping = False

    # ---- any thread

    def run_in_thread(self):
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        return self

    def stop(self):
        """No new requests; waits for those that run. Returns the outcome."""
        self._stopping = True
        return self.join()

    def join(self):
        self._thread.join()
        if self.errors:
            raise self.errors[0]
        return self.outcome

    # ---- the loop

    async def _run(self):
        async with grpc.aio.insecure_channel(self.target, options=[
                ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 1000),
                ("grpc.max_reconnect_backoff_ms", 500), ("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 2_000),
                ("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = inference_rpc.InferenceServiceStub(channel)
            await asyncio.gather(*(self._stream(stub) for _ in range(self.streams)))

    async def _stream(self, stub):
        try:
            while not self._stopping and self.left != 0:
                if self.left is not None:
                    self.left -= 1
                await self._request(stub)
        except Exception as error:  # a fault of this file must not look like one of the service
            self.errors.append(error)

    async def _request(self, stub):
        dice, out = self.random, self.outcome
        prompt = [dice.randrange(self.vocabulary.size) for _ in range(dice.randint(*self.prompt))]
        wanted = dice.randint(*self.tokens)
        chain = HashChain(prompt, self.vocabulary)
        request = inference.GenerateRequest(model=self.model, idempotency_key=f"{dice.getrandbits(96):024x}")
        request.token_ids.ids.extend(prompt)
        request.stopping.max_tokens = wanted
        request.stopping.ignore_eos = True
        request.sampling.temperature = 0.0
        out.requests += 1
        begin = last = time.monotonic()
        request_id, finished, why, wait = None, None, "", LEAST_WAIT
        while finished is None and time.monotonic() - begin < self.patience:
            if request_id is None:
                call = stub.Generate(request, timeout=self.patience)
            else:
                out.resumes += 1
                call = stub.Resume(inference.ResumeRequest(request_id=request_id, next_index=len(chain.tokens)), timeout=self.patience)
            try:
                async for message in call:
                    kind = message.WhichOneof("event")
                    if kind == "accepted":
                        request_id = message.accepted.request_id
                    elif kind == "progress" and message.progress.request_id:
                        request_id = message.progress.request_id
                    elif kind == "chunk":
                        now = time.monotonic()
                        if not chain.tokens:
                            out.first_token.append(now - begin)
                        if now - last > self.long_gap:
                            out.gaps.append(Gap(last, now))
                        last, wait = now, LEAST_WAIT
                        before = len(chain.tokens)
                        chain.take(message.chunk.offset, message.chunk.token_ids)
                        out.tokens += len(chain.tokens) - before
                    elif kind == "finished":
                        finished = message.finished
            except grpc.aio.AioRpcError as error:
                reason = reason_of(error) or error.code().name
                out.refusals[reason] = out.refusals.get(reason, 0) + 1
                why = f"{reason}: {error.details()}"
                if error.code() == grpc.StatusCode.NOT_FOUND and request_id is not None:
                    if len(chain.tokens) == wanted:
                        break  # only the word that it ended was lost with the scheduler
                    request_id = None
                    out.continuations += 1
                    request.resume_token_ids[:] = chain.tokens
                    request.idempotency_key = f"{dice.getrandbits(96):024x}"
                    continue
                if error.code() not in RETRY:
                    break
                # A request that ended in an error is over: only its tokens can go on.
                if reason in ENDED and request_id is not None:
                    request_id = None
                    out.continuations += 1
                    request.resume_token_ids[:] = chain.tokens
                    request.idempotency_key = f"{dice.getrandbits(96):024x}"
                await asyncio.sleep(wait * dice.uniform(0.5, 1.0))
                wait = min(2 * wait, MOST_WAIT)
            else:
                if finished is None:
                    why = "the stream ended without a word"
        out.lost += chain.lost
        out.duplicated += chain.duplicated
        out.corrupted += chain.corrupted
        if finished is not None:
            out.lost += max(0, wanted - len(chain.tokens))
            if finished.usage.completion_tokens != wanted and not chain.wrong:
                out.failures.append(f"usage says {finished.usage.completion_tokens} of {wanted}")
                out.unfinished += 1
                return
        if len(chain.tokens) >= wanted:
            out.finished += 1
        elif finished is None:
            out.unfinished += 1
            out.failures.append(f"{len(chain.tokens)} of {wanted} tokens after {time.monotonic() - begin:.1f} s, "
                                f"{time.monotonic() - last:.1f} s after the last one: {why}")


# Reasons that end a request for good: the scheduler has given it up, not only the stream.
ENDED = {"WORKER_LOST", "DRAIN_ABORTED", "ENGINE_FAULT", "NO_CAPACITY", "DRAINING", "MODEL_LOADING", "QUEUE_FULL"}
