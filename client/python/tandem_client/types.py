"""What goes in and comes out, as plain immutable values. Times are in seconds."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple, Union


@dataclasses.dataclass(frozen=True)
class Message:
    """One turn of a conversation. `content` is a text or a list of texts; tool calls are as in OpenAI's API."""

    role: str
    content: Union[str, Sequence[str]] = ""
    name: str = ""
    tool_calls: Optional[Sequence[Mapping[str, Any]]] = None
    tool_call_id: str = ""


@dataclasses.dataclass(frozen=True)
class TokenLogprob:
    token_id: int
    logprob: float


@dataclasses.dataclass(frozen=True)
class PositionLogprobs:
    chosen: TokenLogprob
    top: Tuple[TokenLogprob, ...]  # highest first


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some next tokens. `offset` is the index of the first; each index comes exactly once, in order."""

    offset: int
    text: str  # may be empty while a token only begins a character
    token_ids: Tuple[int, ...]
    logprobs: Tuple[PositionLogprobs, ...] = ()


@dataclasses.dataclass(frozen=True)
class Progress:
    """Said while nothing else comes: where in the queue the request is, and what it waits for."""

    request_id: str
    state: str  # queued, assigned, running, migrating
    queue_position: int
    waits_for: str


@dataclasses.dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclasses.dataclass(frozen=True)
class Timings:
    """As the scheduler measured them, from the request's arrival."""

    queue: float
    first_token: float
    total: float
    preemptions: int


@dataclasses.dataclass(frozen=True)
class Completion:
    """A whole answer, and how it came about."""

    text: str
    token_ids: Tuple[int, ...]
    finish_reason: str  # stop, length
    stop_string: Optional[str]
    stop_token_id: Optional[int]
    usage: Usage
    timings: Timings
    request_id: str
    model_revision: str
    group: str
    seed: int
    attempts: int  # calls made, all together
    resumes: int  # times that the stream broke and went on
    logprobs: Tuple[PositionLogprobs, ...] = ()


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    aliases: Tuple[str, ...]
    task: str
    max_model_len: int
    revision: str
    ready: bool


@dataclasses.dataclass(frozen=True)
class RankedDocument:
    index: int
    score: float


@dataclasses.dataclass(frozen=True)
class Options:
    """How hard a stream tries. The defaults are those of the C++ library."""

    # Repetitions before the first token. The scheduler says how long to wait; where it is silent, from `first_backoff` on,
    # doubling. No wait is longer than `most_backoff`.
    retries: int = 4
    first_backoff: float = 0.1
    most_backoff: float = 10.0
    # After the first token a stream that breaks is taken up again, this often; each time may take `resume_within`.
    resumes: int = 16
    resume_within: float = 60.0
    # A scheduler says something every 15 s at least. A stream on which nothing came for this long has broken, whatever the
    # connection looks like, and is dealt with as one.
    most_silence: float = 35.0
    # Called when a stream begins to: why, and how many tokens are there.
    on_resume: Optional[Callable[[Exception, int], None]] = None
    on_progress: Optional[Callable[[Progress], None]] = None
