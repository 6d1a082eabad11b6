"""Reading the messages of one call, and giving it up when its other end has fallen silent.

A scheduler says something at least every 15 s. One that says nothing for much longer is gone, or what stands between is.
Pings (CHANNEL_OPTIONS) notice a dead line; this also notices a line that lives and leads to nobody, as through a proxy.
Time counts only while a message is waited for: what a caller does not ask for is no silence.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from typing import Any, Iterator, Optional, Set

import grpc

from tandem_client.errors import TandemError, from_grpc

_LINGER = 10.0  # seconds that the watchman's thread waits for work


class CallFailed(Exception):
    """How a call ended that did not end well."""

    def __init__(self, error: TandemError):
        super().__init__(str(error))
        self.error = error


def _silence(most: float) -> CallFailed:
    return CallFailed(TandemError(grpc.StatusCode.UNAVAILABLE, f"nothing was heard from the scheduler for {most:g} s"))


class Reader:
    """The messages of a call, read by one thread. To be left (`with`) when no more are wanted."""

    def __init__(self, call: Any, most: float):
        self._call = call
        self._most = most
        self._messages: Iterator[Any] = iter(call)
        self._since = math.inf  # when the wait for a message began; written by the reading thread alone
        self._silent = False

    def __enter__(self) -> "Reader":
        _watchman.add(self)
        return self

    def __exit__(self, *unused: object) -> None:
        _watchman.remove(self)

    def next(self) -> Any:
        """None: it has ended well. Raises CallFailed."""
        self._since = time.monotonic()
        try:
            return next(self._messages, None)
        except grpc.RpcError as error:
            raise (_silence(self._most) if self._silent else CallFailed(from_grpc(error))) from None
        finally:
            self._since = math.inf

    def look(self, now: float) -> float:
        """By the watchman: ends the call if it is silent. When to look again."""
        since = self._since
        if now < since + self._most:
            return min(now, since) + self._most
        self._silent = True
        self._call.cancel()
        return math.inf


class _Watchman:
    """One thread for all calls of the process, while there are any: a blocking read has no timeout of its own."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers: Set[Reader] = set()
        self._thread: Optional[threading.Thread] = None

    def add(self, reader: Reader) -> None:
        with self._changed:
            self._readers.add(reader)
            if self._thread is None or not self._thread.is_alive():  # the latter: in the child of a fork
                self._thread = threading.Thread(target=self._run, name="tandem-silence", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, reader: Reader) -> None:
        with self._changed:
            self._readers.discard(reader)

    def _run(self) -> None:
        with self._changed:
            while self._changed.wait_for(lambda: bool(self._readers), _LINGER):
                now = time.monotonic()
                again = min(reader.look(now) for reader in self._readers)
                self._changed.wait(min(again - now, _LINGER))
            self._thread = None


_watchman = _Watchman()


class AsyncReader:
    """The same for a call of grpc.aio."""

    def __init__(self, call: Any, most: float):
        self._call = call
        self._most = most
        self._messages = call.__aiter__()
        self._loop = asyncio.get_running_loop()
        self._since = math.inf
        self._silent = False
        self._timer: Optional[asyncio.TimerHandle] = None

    def __enter__(self) -> "AsyncReader":
        if self._most != math.inf:
            self._timer = self._loop.call_later(self._most, self._look)
        return self

    def __exit__(self, *unused: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def next(self) -> Any:
        self._since = self._loop.time()
        try:
            return await self._messages.__anext__()
        except StopAsyncIteration:
            return None
        except grpc.aio.AioRpcError as error:
            raise CallFailed(from_grpc(error)) from None
        except asyncio.CancelledError:  # by the task's owner, or by _look
            if not self._silent:
                raise
            raise _silence(self._most) from None
        finally:
            self._since = math.inf

    def _look(self) -> None:
        now = self._loop.time()
        if now >= self._since + self._most:
            self._silent = True
            self._call.cancel()
        else:  # one timer for the whole call, set again where something was heard
            self._timer = self._loop.call_at(min(now, self._since) + self._most, self._look)
