"""Completions from Tandem over gRPC, each token exactly once.

    with tandem_client.Client("127.0.0.1:50051") as client:
        for chunk in client.generate("chat", messages=[{"role": "user", "content": "Hello"}], max_tokens=64):
            print(chunk.text, end="", flush=True)

Client is for threads, AsyncClient for asyncio; both may serve any number of streams at once. A stream that breaks, because
the scheduler restarts or a worker is lost, goes on where it was; the caller sees nothing but a pause.
"""

from tandem_client.aio import AsyncClient, AsyncTokenStream
from tandem_client.client import Client, TokenStream
from tandem_client.errors import TandemError
from tandem_client.security import Security
from tandem_client.types import (Chunk, Completion, Message, Model, Options, PositionLogprobs, Progress, RankedDocument,
                                 Timings, TokenLogprob, Usage)

__all__ = ["AsyncClient", "AsyncTokenStream", "Chunk", "Client", "Completion", "Message", "Model", "Options",
           "PositionLogprobs", "Progress", "RankedDocument", "Security", "TandemError", "Timings", "TokenLogprob", "TokenStream", "Usage"]
__version__ = "0.1.0"
