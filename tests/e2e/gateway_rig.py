"""A gateway process in front of a cluster, and raw HTTP for what no client library would send."""

import http.client
import json
import signal
import socket
import subprocess
import urllib.error
import urllib.request

from harness import BIN, SLOW, eventually, free_ports


class Gateway:
    def __init__(self, tmp, clients, *flags, ready=True, env=None):
        """`clients`: the scheduler's port."""
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = tmp / f"gateway-{self.port}.log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [BIN / "tandem-gateway", "--http", f"127.0.0.1:{self.port}", "--scheduler", f"127.0.0.1:{clients}", "--die-with-parent",
                 *map(str, flags)], stdout=log, stderr=log, env=env)
        if ready:
            eventually(lambda: self.status("/health") == 200, 20, "the gateway is ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(timeout=20 * SLOW) == 0, self.log()
        finally:
            self.process.kill()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def ask(self, path, body=None, headers=None, method=None, timeout=60):
        """(status, headers, body as JSON where it is JSON)."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json", **(headers or {})}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout * SLOW) as response:
                status, head, raw = response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            status, head, raw = error.code, error.headers, error.read()
        try:
            return status, head, json.loads(raw)
        except ValueError:
            return status, head, raw.decode(errors="replace")

    def status(self, path):
        try:
            return self.ask(path, timeout=5)[0]
        except (OSError, http.client.HTTPException):
            return None

    def complete(self, prompt="Once upon a time", model="tiny", **fields):
        return self.ask("/v1/completions", {"model": model, "prompt": prompt, "temperature": 0, "ignore_eos": True, **fields})

    def events(self, path, body, headers=None):
        """Yields the data of each server-sent event, as text."""
        connection = self.open(path, {**body, "stream": True}, headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.getheader("content-type").startswith("text/event-stream")
        with connection:
            for line in response:
                if line.startswith(b"data: "):
                    yield line[6:].strip().decode()

    def open(self, path, body, headers=None):
        connection = Closing("127.0.0.1", self.port, timeout=60 * SLOW)
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **(headers or {})})
        return connection

    def raw(self, data, timeout=20):
        """Sends bytes and returns all that comes back until the gateway closes."""
        with self.socket(timeout) as s:
            s.sendall(data)
            return read_all(s)

    def socket(self, timeout=20):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout * SLOW)

    def metric(self, name):
        """The sum over all labels."""
        text = self.ask("/metrics")[2]
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)

    def memory_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))


class Closing(http.client.HTTPConnection):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def read_all(s):
    data = b""
    while True:
        try:
            piece = s.recv(65536)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


def post(path, body, extra=""):
    """The bytes of one request."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body
