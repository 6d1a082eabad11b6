"""The gateway over HTTPS: an OpenAI client, renewal under a stream, and who is turned away."""

import json
import os
import socket
import ssl
import subprocess

import pytest

openai = pytest.importorskip("openai")
import httpx  # noqa: E402  comes with openai

from certificates import Authority  # noqa: E402
from gateway_rig import Gateway, read_all  # noqa: E402
from harness import BIN, SLOW, Cluster, eventually  # noqa: E402

PROMPT = "Once upon a time"


class SecureGateway(Gateway):
    def __init__(self, tmp, clients, authority, *flags, name="web", env=None):
        self.authority = authority
        self.pair = authority.issue(name, "localhost", "127.0.0.1")
        self.trust = ssl.create_default_context(cafile=str(authority.path))
        env = {**os.environ, "TANDEM_SECURITY_REFRESH": "1s", **(env or {})}
        super().__init__(tmp, clients, "--tls-cert", self.pair.crt, "--tls-key", self.pair.key, *flags, ready=False, env=env)
        eventually(lambda: self.serial(), 20, "the gateway speaks TLS")

    def tls(self, context=None):
        return (context or self.trust).wrap_socket(self.socket(), server_hostname="127.0.0.1")

    def serial(self):
        """Of the certificate that is shown to who comes now; None: nobody is there."""
        try:
            with self.tls() as s:
                return int(s.getpeercert()["serialNumber"], 16)
        except OSError:
            return None

    def client(self):
        return openai.OpenAI(base_url=f"https://localhost:{self.port}/v1", api_key="any", max_retries=0, timeout=60 * SLOW,
                             http_client=httpx.Client(verify=self.trust))

    def metrics(self):
        with self.tls() as s:
            s.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            return read_all(s).decode()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("tls")) as running:
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("web-pki"))


@pytest.fixture(scope="module")
def gateway(cluster, authority):
    with SecureGateway(cluster.tmp, cluster.clients, authority) as running:
        yield running


def test_an_openai_client_with_the_authority_of_the_certificate(gateway):
    with gateway.client() as client:
        whole = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=16, temperature=0)
        stream = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=16, temperature=0, stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text != ""
    with pytest.raises(openai.APIConnectionError):
        openai.OpenAI(base_url=f"https://localhost:{gateway.port}/v1", api_key="any", max_retries=0).models.list()


def test_a_certificate_is_renewed_under_a_running_stream(gateway):
    old = gateway.serial()
    with gateway.client() as client:
        stream = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=400, temperature=0, stream=True,
                                           extra_body={"ignore_eos": True})
        pieces = [next(stream)]
        renewed = gateway.authority.issue("renewed", "localhost", "127.0.0.1")
        renewed.put_at(gateway.pair.crt, gateway.pair.key)
        eventually(lambda: gateway.serial() == renewed.serial != old, 20, "the new certificate is shown to who comes now")
        pieces.extend(stream)
    assert pieces[-1].choices[0].finish_reason == "length"
    assert "is renewed" in gateway.log()


def test_who_speaks_plain_http_is_told_so(gateway):
    with gateway.socket() as s:
        s.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = read_all(s)
    assert answer.startswith(b"HTTP/1.1 400 ") and b"ask https://" in answer
    eventually(lambda: "127.0.0.1 speaks plain HTTP; this address serves https:// alone" in gateway.log(), 10, "the log says so")
    assert 'tandem_http_handshakes_failed_total{reason="plain_http"} 1\n' in gateway.metrics()
    assert "tandem_http_certificate_expiry_timestamp_seconds 1" in gateway.metrics()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_an_older_protocol_is_refused(gateway):
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(gateway.authority.path)
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match="(?i)protocol version|internal error"):
        gateway.tls(old)


def test_whose_certificate_is_asked_for(cluster, authority):
    with SecureGateway(cluster.tmp, cluster.clients, authority, "--tls-client-ca", authority.path, "--tls-client-certs", "optional",
                       "--api-key", "sk-one", name="asking") as gateway:
        def status(context=None, key="sk-one"):
            with gateway.tls(context) as s:
                s.sendall(f"GET /v1/none HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n".encode())
                return read_all(s)[:12]

        def showing(pair):
            context = ssl.create_default_context(cafile=str(authority.path))
            context.load_cert_chain(pair.crt, pair.key)
            return context
        assert status() == status(showing(authority.issue("known", "known.rack"))) == b"HTTP/1.1 404"
        stranger = Authority(cluster.tmp / "strange-pki").issue("strange", "strange.rack")
        with pytest.raises(OSError, match="(?i)alert|reset|broken pipe"):
            status(showing(stranger))
        eventually(lambda: "shows a certificate that security.http.client_ca has not signed" in gateway.log(), 10, "the log says so")


@pytest.mark.parametrize("flags, said", [
    (["--tls-cert", "{crt}"], "security.http: a certificate and its key belong together"),
    (["--tls-cert", "{crt}", "--tls-key", "/none.key"], "key /none.key: No such file or directory"),
    (["--tls-cert", "{crt}", "--tls-key", "{other}"], "not the key of certificate {crt}"),
    (["--tls-cert", "{late}.crt", "--tls-key", "{late}.key"], "expired at"),
    (["--http=0.0.0.0:0"], "set security.http.certificate and security.http.key for TLS"),
], ids=["no key", "no file", "another key", "expired", "plain text for all"])
def test_what_is_wrong_is_said_before_the_door_opens(tmp_path, authority, flags, said):
    pair, other = authority.issue("good", "localhost"), authority.issue("other", "localhost")
    late = authority.issue("late", "localhost", begins=-3, ends=-1)
    names = {"crt": pair.crt, "other": other.key, "late": str(late.crt)[:-4]}
    done = subprocess.run([BIN / "tandem-gateway", *(flag.format(**names) for flag in flags)],
                          capture_output=True, text=True, timeout=20 * SLOW)
    assert done.returncode == 1 and said.format(**names) in done.stderr, done.stderr


def test_up_asks_over_https_whether_its_gateway_lives(tmp_path, authority):
    pair = authority.issue("up", "gateway.elsewhere")
    with Cluster(tmp_path, extra=f"security: {{http: {{certificate: {pair.crt}, key: {pair.key}}}}}\n") as cluster:
        trust = ssl.create_default_context(cafile=str(authority.path))
        with trust.wrap_socket(socket.create_connection(("127.0.0.1", cluster.http)), server_hostname="gateway.elsewhere") as s:
            body = json.dumps({"model": "tiny", "prompt": PROMPT, "max_tokens": 4})
            s.sendall(f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
                      f"content-length: {len(body)}\r\n\r\n{body}".encode())
            assert read_all(s).startswith(b"HTTP/1.1 200 ")
        assert f", https 127.0.0.1:{cluster.http}" in cluster.log_path.read_text()
