"""The gateway against what is no proper client: malformed HTTP, bombs, floods, slow and half-closed sockets, and many at
once. Afterwards it serves as before, and so does everybody else meanwhile."""

import json
import socket
import threading
import time

import pytest

from gateway_rig import Gateway, post, read_all
from harness import SLOW, Cluster, eventually, unhurried

PROMPT = "Once upon a time"
ASK = {"model": "tiny", "prompt": PROMPT, "max_tokens": 4, "temperature": 0, "ignore_eos": True}
CLOSE = "Connection: close\r\n"


@pytest.fixture(scope="module")
def gateway(cluster):
    with Gateway(cluster.tmp, cluster.clients) as running:
        yield running


@pytest.fixture(autouse=True)
def serves_afterwards(request):
    yield
    if "gateway" in request.fixturenames:
        gateway = request.getfixturevalue("gateway")
        assert gateway.complete(max_tokens=4)[0] == 200


def status_of(reply):
    assert reply.startswith(b"HTTP/1.1 "), reply[:200]
    return int(reply[9:12])


@pytest.mark.parametrize("data, status", [
    (b"hello\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, 400),  # TLS at a plain port
    (b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\n\r\n", 400),  # no host
    (b"GET  HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /health%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20000 + b"\r\n\r\n", 431),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n", 413),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\nabc", 413),
])
def test_malformed_http(gateway, data, status):
    reply = gateway.raw(data)
    assert status_of(reply) == status
    body = json.loads(reply.split(b"\r\n\r\n", 1)[1])
    assert body["error"]["message"] and b"connection: close" in reply


@pytest.mark.parametrize("body, words", [
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b"[]", "must be a JSON object"),
    (b"[" * 1_000_000, "nested deeper"),
    (b'{"a":' * 100_000, "nested deeper"),
    (b'{"prompt":[' + b"1," * 2_000_000 + b"1]}", "more than 1048576 values"),
    (b'{"model":"tiny","prompt":"\xff"}', "not JSON"),
    (b'{"model":"tiny","prompt":"a","temperature":1e999}', "out of range"),
    (b'{"model":"tiny","prompt":"a","n":1000000000}', "n is 1000000000"),
])
def test_bad_bodies(gateway, body, words):
    status, _, answer = gateway.ask("/v1/completions", body)
    assert status == 400 and words in answer["error"]["message"], answer


def test_a_body_of_100_megabytes_is_refused_while_it_comes(gateway):
    before = gateway.memory_bytes()
    piece = b"a" * (1 << 20)
    with gateway.socket() as s:
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n")
        for _ in range(100):
            s.sendall(piece)
        assert status_of(read_all(s)) == 413, "the answer arrives although the client was still sending"
    with gateway.socket() as s:  # without saying so first
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(100):
                s.sendall(b"100000\r\n" + piece + b"\r\n")
        except OSError:
            pass
        assert status_of(read_all(s)) == 413
    assert gateway.memory_bytes() - before < 64 << 20


def test_a_body_without_a_key_is_not_waited_for(cluster):
    with Gateway(cluster.tmp, cluster.clients, "--api-key", "k") as gateway:
        large = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n"
        held = [gateway.socket() for _ in range(20)]
        for s in held:
            s.sendall(large + b"\r\n")
            assert status_of(s.recv(4096)) == 401, "before a byte of the body has come"
            s.close()
        held = [gateway.socket() for _ in range(20)]  # 320 MB in all
        for s in held:
            s.sendall(large + b"Authorization: Bearer k\r\n\r\n")
        body = {**ASK, "user": "a" * 1_000_000}
        assert gateway.ask("/v1/completions", body, {"authorization": "Bearer k"})[0] == 200, "who announces takes no room"
        for s in held:
            s.close()


def test_keep_alive_pipelining_chunked_bodies_and_continue(gateway):
    body = json.dumps(ASK).encode()
    chunks = b"".join(f"{len(p):x}\r\n".encode() + p + b"\r\n" for p in (body[:5], body[5:], b""))
    chunked = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    reply = gateway.raw(post("/v1/completions", ASK) + chunked + b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert reply.count(b"HTTP/1.1 200 OK") == 3, "three requests sent ahead, three answers in order"
    assert reply.count(b'"object":"text_completion"') == 2 and b'"status":"ready"' in reply
    with gateway.socket() as s:
        head, rest = post("/v1/completions", ASK, "Expect: 100-continue\r\n" + CLOSE).split(b"\r\n\r\n", 1)
        s.sendall(head + b"\r\n\r\n")
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(rest)
        assert status_of(read_all(s)) == 200
    # A body that will be refused is not asked for.
    reply = gateway.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
    assert status_of(reply) == 413
    reply = gateway.raw(post("/v1/completions", {**ASK, "stream": True}).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert status_of(reply) == 200 and b"chunked" not in reply and reply.endswith(b"data: [DONE]\n\n")


def test_a_byte_at_a_time(gateway):
    with gateway.socket() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post("/v1/completions", ASK, CLOSE):
            s.send(bytes([byte]))
        assert status_of(read_all(s)) == 200


def test_sockets_half_closed_while_it_is_computed(slow_cluster):
    long = {**ASK, "max_tokens": 900}
    with Gateway(slow_cluster.tmp, slow_cluster.clients) as gateway:
        with gateway.socket() as s:  # taken as leaving, and told so
            s.sendall(post("/v1/completions", long))
            eventually(lambda: slow_cluster.status().requests_running == 1, 10, "it runs")
            s.shutdown(socket.SHUT_WR)
            assert status_of(read_all(s)) == 499
        with gateway.socket() as s:  # within the answer
            s.sendall(post("/v1/completions", {**long, "stream": True}))
            s.recv(1)
            s.shutdown(socket.SHUT_WR)
            reply = read_all(s)
            assert b'"client_closed_request"' in reply and b"[DONE]" not in reply
        eventually(lambda: slow_cluster.status().requests_running == 0, 10, "both are cancelled")


def test_half_closed_sockets(cluster, gateway):
    with gateway.socket() as s:  # within the request
        s.sendall(post("/v1/completions", ASK)[:-5])
        s.shutdown(socket.SHUT_WR)
        assert status_of(read_all(s)) == 400
    with gateway.socket() as s:  # before it
        s.shutdown(socket.SHUT_WR)
        assert read_all(s) == b""
    eventually(lambda: cluster.status().requests_running == 0, 10, "all of them are cancelled")


def test_an_error_within_a_stream_is_an_event_and_the_end(tmp_path):
    """The deadline passes while it streams: the status has been sent, so the error comes as openai-python reads one. On a
    simulated device at a hundredth of its speed, because a fast machine ends any answer of the tiny model in time."""
    with Cluster(tmp_path, tensor_parallel=1, **unhurried(pace=0.01)) as cluster:
        with Gateway(cluster.tmp, cluster.clients) as gateway:
            events = list(gateway.events("/v1/completions", {**ASK, "max_tokens": 1000, "prompt": "a"}, {"x-request-timeout": str(2 * SLOW)}))
            assert gateway.metric('tandem_http_streams_failed_total') == 1, "the 200 that was counted does not say it"
    last = json.loads(events[-1])
    assert last["error"]["code"] == "deadline_exceeded" and "[DONE]" not in events
    assert json.loads(events[0])["choices"], "it had begun"


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    """Two simulated devices: many streams at once cost next to nothing behind the gateway."""
    with Cluster(tmp_path_factory.mktemp("fast"), devices=["sim:RTX3090"] * 2, tensor_parallel=1, replicas=2,
                 device_keys=", sim_speedup: 0", model_keys=", max_num_seqs: 256") as cluster:
        with Gateway(cluster.tmp, cluster.clients) as gateway:
            yield cluster, gateway


class Stream(threading.Thread):
    def __init__(self, gateway, tokens):
        super().__init__(daemon=True)
        self.gateway, self.tokens = gateway, tokens
        self.first = self.end = None
        self.chunks = 0
        self.error = None

    def run(self):
        begin = time.monotonic()
        try:
            for event in self.gateway.events("/v1/completions", {**ASK, "max_tokens": self.tokens}):
                self.first = self.first or time.monotonic() - begin
                if event == "[DONE]":
                    self.end = time.monotonic() - begin
                self.chunks += 1
        except BaseException as error:  # noqa: reported by the test's thread
            self.error = error


def test_256_streams_at_once(fast):
    _, gateway = fast
    before = gateway.memory_bytes()
    streams = [Stream(gateway, 200) for _ in range(256)]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.join(120 * SLOW)
    assert [s.error for s in streams if s.error] == []
    assert all(s.end is not None for s in streams), "every one of them ended"
    firsts, ends = sorted(s.first for s in streams), sorted(s.end for s in streams)
    print(f"first text p50 {firsts[128]:.2f} s, max {firsts[-1]:.2f} s; end p50 {ends[128]:.2f} s, max {ends[-1]:.2f} s")
    assert firsts[128] < ends[-1] * 0.9 + 1, "nobody waits for the others to end"
    assert gateway.memory_bytes() - before < 128 << 20


def test_slow_readers_harm_nobody(fast):
    cluster, gateway = fast
    before = gateway.memory_bytes()
    slow = []
    for _ in range(32):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", gateway.port))
        s.sendall(post("/v1/completions", {**ASK, "max_tokens": 1000, "stream": True, "logprobs": 5}))
        slow.append(s)
    try:
        begin = time.monotonic()
        for _ in range(5):
            assert gateway.complete(max_tokens=20)[0] == 200
        assert time.monotonic() - begin < 20 * SLOW
        assert gateway.memory_bytes() - before < 64 << 20, "what nobody reads is not collected here"
        # The scheduler has all of them computed and waits for none; what is read late is whole.
        eventually(lambda: cluster.status().requests_running == 0, 30, "nothing runs for those who do not read")
        reply = b""
        while b"[DONE]" not in reply:
            piece = slow[0].recv(65536)
            assert piece, reply[-300:]
            reply += piece
        assert reply.count(b'"text":') >= 20
    finally:
        for s in slow:
            s.close()
    eventually(lambda: gateway.metric("tandem_http_streams_open") == 0, 10, "they are forgotten")


def test_more_connections_than_allowed(cluster):
    with Gateway(cluster.tmp, cluster.clients, "--max-connections", 4) as gateway:
        held = []

        def hold():
            """One more that is open and was answered; the connection of who looked whether it is ready may still count."""
            s = gateway.socket()
            s.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            if status_of(s.recv(1000)) == 200:
                held.append(s)
            return len(held) == 4
        eventually(hold, 10, "as many as are allowed")
        reply = gateway.raw(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status_of(reply) == 503 and b"retry-after: 1" in reply
        for s in held:
            s.close()
        eventually(lambda: gateway.status("/health/live") == 200, 10, "there is room again")
