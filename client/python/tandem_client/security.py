"""How a client shows who it is and knows whom it speaks to: TLS, a certificate, a token."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
import time
from typing import Any, Awaitable, Callable, Optional, Sequence, Tuple, Union

import grpc

ChannelOptions = Sequence[Tuple[str, Union[int, str]]]

_READ_AGAIN = 10.0  # seconds a token is kept before its file is looked at again


@dataclasses.dataclass(frozen=True)
class Security:
    """Paths of PEM files and of a file with a token. Without a `ca`: plain text.

    The token's file is read again while the client lives; certificates are read once, so a client that outlives its
    certificate is made anew. A token is never sent in plain text to another machine.
    """

    ca: Optional[str] = None  # who signs the scheduler's certificate
    cert: Optional[str] = None  # our own, for a scheduler that asks for one
    key: Optional[str] = None
    token_file: Optional[str] = None
    token: Optional[str] = dataclasses.field(default=None, repr=False)  # where there is no file
    server_name: Optional[str] = None  # in the scheduler's certificate, where it is not the host that is dialled

    def __post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise ValueError("a certificate and its key belong together; only one of them is given")
        if self.cert and not self.ca:
            raise ValueError("a certificate is given, but no ca to know the scheduler by")

    @classmethod
    def from_environment(cls) -> "Security":
        """TANDEM_CA, TANDEM_CERT, TANDEM_KEY, TANDEM_TOKEN_FILE, TANDEM_TOKEN and TANDEM_TLS_SERVER_NAME."""
        names = {"ca": "TANDEM_CA", "cert": "TANDEM_CERT", "key": "TANDEM_KEY", "token_file": "TANDEM_TOKEN_FILE",
                 "token": "TANDEM_TOKEN", "server_name": "TANDEM_TLS_SERVER_NAME"}
        return cls(**{field: os.environ.get(name) or None for field, name in names.items()})


def open_channel(address: str, security: Security, options: ChannelOptions) -> grpc.Channel:
    """Connects when it is first used."""
    bearer = _bearer(address, security)
    if security.ca:
        channel = grpc.secure_channel(address, _credentials(security), options=_named(options, security))
    else:
        channel = grpc.insecure_channel(address, options=options)
    return grpc.intercept_channel(channel, _Bearing(bearer)) if bearer else channel


def open_aio_channel(address: str, security: Security, options: ChannelOptions) -> grpc.aio.Channel:
    bearer = _bearer(address, security)
    # One class of each kind: grpc.aio asks an interceptor for one kind only.
    interceptors = [_AioUnary(bearer), _AioStream(bearer)] if bearer else []
    if security.ca:
        return grpc.aio.secure_channel(address, _credentials(security), options=_named(options, security),
                                       interceptors=interceptors)
    return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)


def _read(path: Optional[str]) -> Optional[bytes]:
    return pathlib.Path(path).read_bytes() if path else None


def _credentials(security: Security) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(_read(security.ca), _read(security.key), _read(security.cert))


def _named(options: ChannelOptions, security: Security) -> ChannelOptions:
    if not security.server_name:
        return options
    return [*options, ("grpc.ssl_target_name_override", security.server_name)]


def _bearer(address: str, security: Security) -> Optional["_Bearer"]:
    if not security.token_file and not security.token:
        return None
    host = address.rsplit(":", 1)[0]
    local = address.startswith("unix:") or host in ("localhost", "[::1]") or host.startswith("127.")
    if not security.ca and not local:
        raise ValueError(f"the token would be sent in plain text to {address}; give the ca of its certificate")
    return _Bearer(security)


class _Bearer:
    def __init__(self, security: Security):
        self._file = security.token_file
        self._token = pathlib.Path(self._file).read_text().strip() if self._file else (security.token or "").strip()
        self._read = time.monotonic()

    def __call__(self, details: grpc.ClientCallDetails) -> "_Details":
        """The call's details with the token among its metadata."""
        if self._file and time.monotonic() - self._read >= _READ_AGAIN:
            self._read = time.monotonic()
            try:
                self._token = pathlib.Path(self._file).read_text().strip() or self._token
            except OSError:
                pass  # as it was when it could be read
        return _Details(details.method, details.timeout,
                        [*(details.metadata or ()), ("authorization", f"Bearer {self._token}")], details.credentials,
                        details.wait_for_ready, getattr(details, "compression", None))


class _Details(collections.namedtuple("_Details", "method timeout metadata credentials wait_for_ready compression"),
               grpc.ClientCallDetails):
    pass


class _Bearing(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    def __init__(self, bearer: _Bearer):
        self._bearer = bearer

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, request: Any) -> Any:
        return continuation(self._bearer(details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, request: Any) -> Any:
        return continuation(self._bearer(details), request)


class _AioUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, bearer: _Bearer):
        self._bearer = bearer

    async def intercept_unary_unary(self, continuation: Callable[..., Awaitable[Any]], details: grpc.aio.ClientCallDetails,
                                    request: Any) -> Any:
        return await continuation(_aio(self._bearer(details)), request)


class _AioStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, bearer: _Bearer):
        self._bearer = bearer

    async def intercept_unary_stream(self, continuation: Callable[..., Awaitable[Any]], details: grpc.aio.ClientCallDetails,
                                     request: Any) -> Any:
        return await continuation(_aio(self._bearer(details)), request)


def _aio(details: _Details) -> grpc.aio.ClientCallDetails:
    return grpc.aio.ClientCallDetails(details.method, details.timeout, grpc.aio.Metadata(*details.metadata),
                                      details.credentials, details.wait_for_ready)
