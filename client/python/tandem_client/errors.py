"""What a failed call says beyond its code: a stable reason, the numbers behind the sentence, and when to come again.

They travel as google.rpc.Status in the call's trailing metadata. Three small messages are read here by hand: a second copy
of google.rpc's descriptors would clash with whichever copy the caller's other packages bring.
"""

from __future__ import annotations

from typing import Dict, Iterator, Optional, Tuple, Union

import grpc

_DETAILS = "grpc-status-details-bin"
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


class TandemError(Exception):
    """A request that failed. `reason` is empty where the failure is not Tandem's: no connection, a proxy's answer."""

    def __init__(self, code: grpc.StatusCode, message: str, reason: str = "", metadata: Optional[Dict[str, str]] = None,
                 retry_after: Optional[float] = None):
        super().__init__(f"{reason}: {message}" if reason else message)
        self.code = code
        self.message = message
        self.reason = reason  # INVALID_PARAMETER, QUEUE_FULL, ...
        self.metadata = metadata or {}
        self.retry_after = retry_after  # seconds; None: the scheduler does not ask to come again

    @property
    def unreachable(self) -> bool:
        """No scheduler answered."""
        return self.code == grpc.StatusCode.UNAVAILABLE and not self.reason


def from_grpc(error: grpc.RpcError) -> TandemError:
    reason, retry_after = "", None
    metadata: Dict[str, str] = {}
    for key, value in error.trailing_metadata() or ():
        if key != _DETAILS:
            continue
        try:
            reason, metadata, retry_after = _read_status(value)
        except (IndexError, ValueError):  # somebody else's bytes
            pass
    return TandemError(error.code(), error.details() or "", reason, metadata, retry_after)


def fault(what: str) -> TandemError:
    return TandemError(grpc.StatusCode.INTERNAL, f"the scheduler's answer is not whole: {what}")


def _varint(data: bytes, at: int) -> Tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[Tuple[int, Union[int, bytes]]]:
    """The fields of a protobuf message, in order, as (number, value)."""
    at = 0
    value: Union[int, bytes]
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at:at + size], at + size
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at:at + size], at + size
        else:
            raise ValueError(f"wire type {kind}")
        yield number, value


def _bytes(value: Union[int, bytes]) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")
    return value


def _number(value: Union[int, bytes]) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes where a number belongs")
    return value


def _read_status(data: bytes) -> Tuple[str, Dict[str, str], Optional[float]]:
    reason, metadata, retry_after = "", {}, None
    for number, detail in _fields(data):
        if number != 3:
            continue
        parts = dict(_fields(_bytes(detail)))
        kind, value = _bytes(parts.get(1, b"")).decode(), _bytes(parts.get(2, b""))
        if kind == _ERROR_INFO:
            info = list(_fields(value))
            if dict(info).get(2) == b"tandem":
                reason = _bytes(dict(info).get(1, b"")).decode()
            for field, entry in info:
                if field == 3:
                    pair = dict(_fields(_bytes(entry)))
                    metadata[_bytes(pair.get(1, b"")).decode()] = _bytes(pair.get(2, b"")).decode()
        elif kind == _RETRY_INFO:
            delay = dict(_fields(_bytes(dict(_fields(value)).get(1, b""))))
            retry_after = max(0.0, _number(delay.get(1, 0)) + _number(delay.get(2, 0)) / 1e9)
    return reason, metadata, retry_after
