"""A rack's doors: TLS, client certificates, tokens and roles, in every program and both client libraries."""

import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import time

import grpc
import pytest
from cryptography import x509

from certificates import Authority
from harness import BIN, MODEL, SLOW, Cluster, eventually, free_ports, reason_of
from protos import admin, admin_rpc, inference, inference_rpc, worker

TOKENS = {name: f"{name}-{'0123456789abcdef' * 2}" for name in ("asker", "computer", "looker", "operator", "nightly")}
PROMPT = "Once upon a time"


class SecureCluster(Cluster):
    """`up` with TLS at all doors: certificates are asked for at the clients' door and required at the others. Its own programs
    have a certificate with roles; the test's calls have a certificate without one, and the operator's token."""

    def __init__(self, tmp, **arguments):
        tmp = pathlib.Path(tmp)
        self.authority = Authority(tmp / "pki")
        self.server = self.authority.issue("server", "localhost", "127.0.0.1")
        self.node = self.authority.issue("node", "n1.workers.rack", "spiffe://rack/node/1")
        self.plain = self.authority.issue("plain", "somebody.rack")
        self.tokens = tmp / "tokens"
        self.write_tokens(TOKENS)
        super().__init__(tmp, extra=f"""
security:
  certificate: {self.server.crt}
  key: {self.server.key}
  client_ca: {self.authority.path}
  clients: {{client_certificates: optional}}
  tokens: tokens
  identities: ["*.workers.rack=worker+client", "spiffe://rack/node/*=viewer", "batch.rack=client highest_priority=-5"]
  refresh: 1s
  dial: {{ca: {self.authority.path}, certificate: {self.node.crt}, key: {self.node.key}}}
""", **arguments)

    def write_tokens(self, tokens):
        roles = {"leaver": "client", "watcher": "viewer", "asker": "client", "computer": "worker", "looker": "viewer", "operator": "admin+client", "nightly": "client"}
        bounds = {"nightly": " highest_priority=-10"}
        new = self.tokens.with_name("tokens.new")
        new.touch(mode=0o600)
        new.write_text("# who may\n" + "".join(f"{name} {roles[name]} {token}{bounds.get(name, '')}\n" for name, token in tokens.items()))
        new.rename(self.tokens)

    def open(self, port, pair=None, token=None, ca=None):
        credentials = grpc.ssl_channel_credentials((ca or self.authority).pem, pair and pair.key_pem, pair and pair.certificate_pem)
        if token:
            credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
        # A session of another test's channel would be resumed with that one's certificate.
        return grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=[("grpc.use_local_subchannel_pool", 1)])

    def channel(self, port=None):
        return self.open(port or self.clients, self.plain, TOKENS["operator"])

    def token_file(self, name, token=None):
        path = self.tmp / f"{name}.token"
        path.touch(mode=0o600)
        path.write_text((token or TOKENS[name]) + "\n")
        return path


@pytest.fixture(scope="module")
def rack(tmp_path_factory):
    with SecureCluster(tmp_path_factory.mktemp("rack")) as running:
        yield running
        for name, token in TOKENS.items():
            assert token not in running.log_path.read_text(), f"a log line has the token of {name}"


def refused(call):
    with pytest.raises(grpc.RpcError) as caught:
        answer = call()
        for _ in answer if hasattr(answer, "__iter__") else ():
            pass
    return caught.value.code(), reason_of(caught.value), caught.value.details()


UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"
DENIED = grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"


def raw(channel, service, method):
    """A call of any shape with nothing in it."""
    path = f"/{service.full_name}/{method.name}"
    shape = ("stream" if method.client_streaming else "unary") + "_" + ("stream" if method.server_streaming else "unary")
    call = getattr(channel, shape)(path, request_serializer=None, response_deserializer=None)
    return lambda: call(iter(()) if method.client_streaming else b"", timeout=10)


def methods():
    for file in (inference, worker, admin):
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from ((service, method) for method in service.methods)


# ---- what works -----------------------------------------------------------------------------------------------------


def test_text_comes_over_grpc_with_a_token_or_a_certificate(rack):
    answers = [rack.generate(PROMPT, max_tokens=24, stub=inference_rpc.InferenceServiceStub(rack.open(rack.clients, *who)))
               for who in ((None, TOKENS["asker"]), (rack.plain, TOKENS["asker"]), (rack.node, None))]
    assert all(a.error is None and len(a.ids) == 24 for a in answers), [a.error for a in answers]
    assert len({a.text for a in answers}) == 1


def test_text_comes_over_http_as_ever(rack):
    connection = http.client.HTTPConnection("127.0.0.1", rack.http, timeout=30 * SLOW)
    connection.request("POST", "/v1/completions", json.dumps({"model": "tiny", "prompt": PROMPT, "max_tokens": 8, "temperature": 0}),
                       {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    assert answer["usage"]["completion_tokens"] == 8, answer


def test_the_cli_by_the_configuration_by_flags_and_by_the_environment(rack):
    assert "tiny" in rack.ctl("status").stdout
    flags = ["--ca", rack.authority.path, "--cert", rack.plain.crt, "--key", rack.plain.key]
    bare = [BIN / "tandemctl", "--admin", f"127.0.0.1:{rack.admin_port}", "--server", f"127.0.0.1:{rack.clients}"]

    def run(*words, **environment):
        return subprocess.run([*bare, *map(str, words)], capture_output=True, text=True, timeout=60 * SLOW,
                              env={**os.environ, **{k: str(v) for k, v in environment.items()}})
    by_flags = run("get", "devices", *flags, "--token-file", rack.token_file("looker"))
    assert by_flags.returncode == 0, by_flags.stderr
    by_environment = run("generate", "--model", "tiny", "--max-tokens", "4", PROMPT, TANDEM_CA=rack.authority.path,
                         TANDEM_TOKEN=TOKENS["asker"])
    assert by_environment.returncode == 0, by_environment.stderr
    shown = run("config", "show", "--origin", TANDEM_CA=rack.authority.path, TANDEM_TOKEN=TOKENS["asker"]).stdout
    assert "environment TANDEM_CA" in shown and TOKENS["asker"] not in shown


def test_the_load_generator(rack):
    done = rack.ctl("bench", "--model", "tiny", "--requests", 8, "--concurrency", 4, "--input-tokens", 16, "--output-tokens", 4)
    assert done.returncode == 0, done.stderr


def test_the_libraries(rack, package):
    own = package.Security(ca=str(rack.authority.path), token_file=str(rack.token_file("asker")))
    with package.Client(f"127.0.0.1:{rack.clients}", security=own) as client:
        text = client.complete("tiny", PROMPT, max_tokens=16, temperature=0.0, ignore_eos=True).text
        assert client.models()["tiny"].ready

    async def run():
        both = package.Security(ca=str(rack.authority.path), cert=str(rack.node.crt), key=str(rack.node.key), server_name="localhost")
        async with package.AsyncClient(f"127.0.0.1:{rack.clients}", security=both) as client:
            assert (await client.models())["tiny"].ready
        async with package.AsyncClient(f"127.0.0.1:{rack.clients}", security=own) as client:
            return (await client.complete("tiny", PROMPT, max_tokens=16, temperature=0.0, ignore_eos=True)).text
    assert asyncio.run(run()) == text
    example = subprocess.run([BIN / "generate_example", f"127.0.0.1:{rack.clients}", "tiny", PROMPT], capture_output=True, text=True,
                             timeout=30 * SLOW, env={**os.environ, "TANDEM_CA": str(rack.authority.path), "TANDEM_TOKEN": TOKENS["asker"]})
    assert example.returncode == 0 and example.stdout.strip() and "64 tokens" in example.stderr


def test_a_stream_goes_on_over_the_death_of_the_scheduler(rack, package):
    whole = rack.generate(PROMPT, max_tokens=900)
    own = package.Security(ca=str(rack.authority.path), token_file=str(rack.token_file("asker")))

    def strike():
        """Whether it was hit: a machine may end it first."""
        ids, scheduler = [], rack.children()["scheduler"]
        with package.Client(f"localhost:{rack.clients}", security=own) as client:
            stream = client.generate("tiny", PROMPT, max_tokens=900, temperature=0.0, ignore_eos=True, timeout=60 * SLOW)
            for chunk in stream:
                if not ids:
                    os.kill(scheduler, signal.SIGKILL)
                ids.extend(chunk.token_ids)
            assert ids == whole.ids
        eventually(rack.ready, 30, "the group is taken over by the new scheduler")
        return stream.result.resumes
    assert any(strike() for _ in range(5))


# ---- what does not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service, method", methods(), ids=lambda d: d.name)
def test_no_method_serves_nobody(rack, service, method):
    port = {"InferenceService": rack.clients, "WorkerService": rack.workers, "AdminService": rack.admin_port}[service.name]
    with rack.open(port, rack.plain, "somebody-elses-token") as channel:
        code, reason, details = refused(raw(channel, service, method))
        assert (code, reason) == UNAUTHENTICATED, details
    # A certificate of ours that no rule names: known, and without a role.
    with rack.open(port, rack.plain) as channel:
        code, reason, details = refused(raw(channel, service, method))
        assert (code, reason) == DENIED and '"somebody.rack" has no role' in details


def test_without_anything_a_client_is_told_what_is_missing(rack):
    with rack.open(rack.clients) as channel:
        code, reason, details = refused(lambda: inference_rpc.InferenceServiceStub(channel).ListModels(inference.ListModelsRequest()))
    assert (code, reason) == UNAUTHENTICATED and "bearer token" in details and "certificate" in details


def test_health_is_for_probes_that_have_no_identity(rack):
    serving = b"\x08\x01"
    with rack.open(rack.clients) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=None, response_deserializer=None)
        assert check(b"", timeout=10) == serving


def test_a_role_does_not_open_the_doors_of_others(rack):
    with rack.open(rack.admin_port, rack.plain, TOKENS["computer"]) as channel:
        code, reason, details = refused(lambda: admin_rpc.AdminServiceStub(channel).GetStatus(admin.GetStatusRequest()))
        assert (code, reason) == DENIED and '"computer" is worker; AdminService/GetStatus is for admin or viewer' in details
    with rack.open(rack.clients, None, TOKENS["computer"]) as channel:
        stub = inference_rpc.InferenceServiceStub(channel)
        assert refused(lambda: stub.Generate(rack.request(PROMPT)))[:2] == DENIED
    service = worker.DESCRIPTOR.services_by_name["WorkerService"]
    with rack.open(rack.workers, rack.plain, TOKENS["operator"]) as channel:
        for method in service.methods:
            assert refused(raw(channel, service, method))[:2] == DENIED


def test_nobody_goes_before_others_beyond_his_bound(rack):
    batch = rack.authority.issue("batch", "batch.rack")
    for who, most in (((None, TOKENS["nightly"]), -10), ((batch, None), -5)):
        stub = inference_rpc.InferenceServiceStub(rack.open(rack.clients, *who))
        code, reason, details = refused(lambda: stub.Generate(rack.request(PROMPT, priority=most + 1)))
        assert (code, reason) == DENIED and f"priority is {most + 1}; this caller may ask for {most} or less" in details
        for asked, given in ((0, most), (most - 1, most - 1)):
            answer = rack.generate(PROMPT, max_tokens=2, stub=stub, priority=asked)
            assert answer.error is None, answer.error
            request = admin_rpc.AdminServiceStub(rack.channel(rack.admin_port)).GetRequest(
                admin.GetRequestRequest(name=f"requests/{answer.accepted.request_id}")).request
            assert request.priority == given
    # Whose line says nothing is not bounded.
    stub = inference_rpc.InferenceServiceStub(rack.open(rack.clients, None, TOKENS["asker"]))
    assert rack.generate(PROMPT, max_tokens=2, stub=stub, priority=100).error is None


def test_a_viewer_looks_and_changes_nothing(rack):
    with rack.open(rack.admin_port, rack.plain, TOKENS["looker"]) as channel:
        stub = admin_rpc.AdminServiceStub(channel)
        device = stub.ListDevices(admin.ListDevicesRequest()).devices[0]
        assert stub.ExplainModel(admin.ExplainModelRequest(name="tiny")).explanation.verdict
        for call in (lambda: stub.DrainDevice(admin.DrainDeviceRequest(name=device.name)),
                     lambda: stub.CordonDevice(admin.CordonDeviceRequest(name=device.name)),
                     lambda: stub.ScaleModel(admin.ScaleModelRequest(name="tiny"))):
            assert refused(call)[:2] == DENIED
        after = stub.GetDevice(admin.GetDeviceRequest(name=device.name)).device
    assert after.state == admin.DEVICE_ACTIVE and not after.cordoned
    drained = rack.ctl("drain", device.name, "--reason", "test", "--token-file", rack.token_file("looker"), check=False)
    assert drained.returncode == 6 and "PERMISSION_DENIED" in drained.stderr and "is viewer" in drained.stderr


@pytest.mark.parametrize("who", ["no certificate", "another CA's", "an expired one", "one that is not valid yet"])
def test_a_door_that_requires_a_certificate_takes_no_other(rack, tmp_path, who):
    pair = {"no certificate": None, "another CA's": Authority(tmp_path, "another").issue("evil", "n1.workers.rack"),
            "an expired one": rack.authority.issue("expired", "n1.workers.rack", begins=-3, ends=-1),
            "one that is not valid yet": rack.authority.issue("early", "n1.workers.rack", begins=1, ends=3)}[who]
    with rack.open(rack.admin_port, pair, TOKENS["operator"]) as channel:
        code, reason, details = refused(lambda: admin_rpc.AdminServiceStub(channel).GetStatus(admin.GetStatusRequest(), timeout=10))
        assert code == grpc.StatusCode.UNAVAILABLE and reason is None, details
    if pair is not None:  # what is shown is looked at where it is optional, too
        with rack.open(rack.clients, pair, TOKENS["asker"]) as channel:
            code, _, details = refused(lambda: inference_rpc.InferenceServiceStub(channel).ListModels(inference.ListModelsRequest(), timeout=10))
            assert code == grpc.StatusCode.UNAVAILABLE, details


def test_the_cli_says_in_one_line_what_is_wrong(rack, tmp_path):
    another = Authority(tmp_path, "another")
    known = ["--cert", rack.plain.crt, "--key", rack.plain.key, "--token-file", rack.token_file("looker")]

    def line(code, *words, environment={}):
        done = subprocess.run([BIN / "tandemctl", "--admin", f"127.0.0.1:{rack.admin_port}", "get", "devices", *map(str, words)],
                              capture_output=True, text=True, timeout=30 * SLOW, env={**os.environ, **environment})
        assert done.returncode == code and done.stderr.count("\n") == 1, (done.returncode, done.stderr)
        return done.stderr
    assert "it may want TLS (--ca)" in line(5)
    assert "its certificate is not of the given CA" in line(5, "--ca", another.path, *known)
    assert "it may require a certificate" in line(5, "--ca", rack.authority.path)
    assert "is not known here (UNAUTHENTICATED)" in line(
        6, "--ca", rack.authority.path, *known[:4], "--token-file", rack.token_file("wrong", "wrong-token-of-some-length"))
    assert "belong together" in line(2, "--ca", rack.authority.path, "--cert", rack.plain.crt)
    assert "No such file" in line(2, "--ca", tmp_path / "none.crt")
    assert "not the key of certificate" in line(2, "--ca", rack.authority.path, "--cert", rack.plain.crt, "--key", rack.node.key)
    away = subprocess.run([BIN / "tandemctl", "--admin", "head.rack.invalid:1", "get", "devices"], capture_output=True, text=True,
                          timeout=30 * SLOW, env={**os.environ, "TANDEM_TOKEN": TOKENS["looker"]})
    assert away.returncode == 2 and "would be sent in plain text" in away.stderr


def test_a_certificate_must_be_of_the_host_that_is_dialled(rack):
    base = [BIN / "tandemctl", "get", "devices", "--ca", rack.authority.path, "--cert", rack.plain.crt, "--key", rack.plain.key,
            "--token-file", rack.token_file("looker"), "--admin"]
    other = subprocess.run([*map(str, base), f"localhost:{rack.admin_port}", "--tls-server-name", "head.rack"],
                           capture_output=True, text=True, timeout=30 * SLOW)
    assert other.returncode == 5 and "is not its own" in other.stderr, other.stderr
    right = subprocess.run([*map(str, base), f"127.0.0.1:{rack.admin_port}", "--tls-server-name", "localhost"],
                           capture_output=True, text=True, timeout=30 * SLOW)
    assert right.returncode == 0, right.stderr


def test_a_worker_that_is_not_let_in_says_so_and_ends(rack, tmp_path):
    done = subprocess.run([BIN / "tandem-worker", "--device", "sim:H100:7", "--node", "stranger", "--scheduler", f"127.0.0.1:{rack.workers}",
                           "--ca", rack.authority.path, "--cert", rack.plain.crt, "--key", rack.plain.key,
                           "--token-file", rack.token_file("asker")], capture_output=True, text=True, timeout=60 * SLOW)
    assert done.returncode != 0 and '"asker" is client; WorkerService/Attach is for worker' in done.stderr
    assert TOKENS["asker"] not in done.stderr


def test_what_was_refused_is_counted_and_the_certificates_end_is_told(rack):
    connection = http.client.HTTPConnection("127.0.0.1", rack.metrics, timeout=10 * SLOW)

    def metrics():
        connection.request("GET", "/metrics")
        answer = connection.getresponse().read().decode()
        connection.close()
        return dict(line.rsplit(" ", 1) for line in answer.splitlines() if not line.startswith("#"))
    key = 'tandem_calls_refused_total{reason="UNAUTHENTICATED"}'
    before = float(metrics().get(key, 0))
    with rack.open(rack.clients) as channel:
        refused(lambda: inference_rpc.InferenceServiceStub(channel).ListModels(inference.ListModelsRequest()))
    after = metrics()
    assert float(after[key]) == before + 1
    left = float(after['tandem_certificate_expiry_timestamp_seconds{door="workers"}']) - time.time()
    assert 364 * 86400 < left < 366 * 86400


def test_no_secret_is_on_a_command_line(rack):
    for pid in rack.children().values():
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        assert not any(token.encode() in words for token in TOKENS.values())


# ---- renewal --------------------------------------------------------------------------------------------------------


def served_serial(rack):
    context = ssl.create_default_context(cafile=rack.authority.path)
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", rack.clients), timeout=5) as line:
        with context.wrap_socket(line, server_hostname="localhost") as tls:
            return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True)).serial_number


def test_a_renewed_certificate_is_shown_without_a_restart_and_no_stream_notices(rack):
    scheduler = rack.children()["scheduler"]
    assert served_serial(rack) == rack.server.serial
    renewed = rack.authority.issue("renewed", "localhost", "127.0.0.1")

    put = []

    def renew(call, result):
        if result.ids and not put:  # its first tokens, one or several
            renewed.put_at(rack.server.crt, rack.server.key)
            put.append(len(result.ids))
    answer = rack.generate(PROMPT, max_tokens=200, on_message=renew)
    assert answer.error is None and len(answer.ids) == 200 and put[0] < 200

    def shown():
        try:
            return served_serial(rack) == renewed.serial
        except (ssl.SSLError, OSError):  # between the two renames
            return False
    eventually(shown, 15, "the new certificate is shown")
    rack.server = renewed
    assert rack.generate(PROMPT, max_tokens=4).error is None
    assert rack.children()["scheduler"] == scheduler


def test_a_new_token_opens_and_an_old_one_no_longer(rack):
    def works(token):
        with rack.open(rack.clients, None, token) as channel:
            try:
                inference_rpc.InferenceServiceStub(channel).ListModels(inference.ListModelsRequest(), timeout=10)
                return True
            except grpc.RpcError as error:
                assert reason_of(error) == "UNAUTHENTICATED", error
                return False
    new = "asker-renewed-0123456789abcdef"
    assert works(TOKENS["asker"]) and not works(new)
    try:
        rack.write_tokens({**TOKENS, "asker": new})
        eventually(lambda: works(new), 10, "the new token opens")
        assert not works(TOKENS["asker"])
        rack.tokens.write_text("half a lin")  # the file breaks: who had access keeps it
        time.sleep(1.5)
        assert works(new)
    finally:
        rack.write_tokens(TOKENS)
    eventually(lambda: works(TOKENS["asker"]), 10, "the first token opens again")


def test_who_is_withdrawn_reads_no_further_and_who_has_a_new_token_reads_on(rack):
    tokens = {**TOKENS, "leaver": "leaver-0123456789abcdef", "watcher": "watcher-0123456789abcdef"}
    rack.write_tokens(tokens)

    def opens():
        with rack.open(rack.clients, None, tokens["leaver"]) as channel:
            with contextlib.suppress(grpc.RpcError):
                return inference_rpc.InferenceServiceStub(channel).ListModels(inference.ListModelsRequest(), timeout=10)
    try:
        eventually(opens, 10, "the new tokens are known")
        events = admin_rpc.AdminServiceStub(rack.open(rack.admin_port, rack.plain, tokens["watcher"])).WatchEvents(
            admin.WatchEventsRequest(from_sequence=1))
        next(events)
        stubs = {who: inference_rpc.InferenceServiceStub(rack.open(rack.clients, None, tokens[who]))
                 for who in ("leaver", "asker", "operator")}
        for stub in stubs.values():
            stub.ListModels(inference.ListModelsRequest(), wait_for_ready=True)
        stopped = rack.children()["cpu:1"]
        os.kill(stopped, signal.SIGSTOP)  # no step ends, and so no stream
        try:
            streams = {who: stub.Generate(rack.request(PROMPT, max_tokens=300), timeout=120 * SLOW) for who, stub in stubs.items()}
            for stream in streams.values():
                stream.initial_metadata()  # let in, and on its way
            # Two are taken out; a third one has another token under its name.
            rack.write_tokens({**TOKENS, "asker": "asker-renewed-0123456789abcdef"})
            for name, call in (("leaver", streams["leaver"]), ("watcher", events)):
                code, reason, details = refused(lambda: call)
                assert (code, reason) == UNAUTHENTICATED and f'the token of "{name}" has been withdrawn' in details
        finally:
            with contextlib.suppress(ProcessLookupError):  # on a slow machine `up` may have ended it for its silence
                os.kill(stopped, signal.SIGCONT)
        for who in ("asker", "operator"):
            assert list(streams[who])[-1].finished.usage.completion_tokens == 300
    finally:
        rack.write_tokens(TOKENS)
    eventually(rack.ready, 30, "the group serves")


# ---- how it is configured -------------------------------------------------------------------------------------------


def start(tmp_path, server, security="", *flags):
    config = tmp_path / "c.yaml"
    config.write_text(f"state_dir: {tmp_path}/state\nserver: {server}\n{security}\nmodels:\n  - {{name: tiny, path: {MODEL}}}\n")
    return subprocess.run([BIN / "tandem-scheduler", "--config", config, *map(str, flags)], capture_output=True, text=True,
                          timeout=30 * SLOW)


def test_plain_text_to_other_machines_is_refused_with_what_to_do(tmp_path):
    done = start(tmp_path, "{clients: 0.0.0.0:0}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    for word in ("127.0.0.1", "security.certificate", "server.plaintext_beyond_loopback: true"):
        assert word in done.stderr


def test_tls_to_other_machines_needs_no_flag(tmp_path):
    authority = Authority(tmp_path)
    pair = authority.issue("server", "localhost")
    clients, workers, admin_port, metrics = free_ports(4)
    config = tmp_path / "c.yaml"
    config.write_text(f"state_dir: {tmp_path}/state\nserver: {{clients: '0.0.0.0:{clients}', workers: '0.0.0.0:{workers}', "
                      f"admin: '0.0.0.0:{admin_port}', metrics: '127.0.0.1:{metrics}'}}\nmodels:\n  - {{name: tiny, path: {MODEL}}}\n")
    with subprocess.Popen([BIN / "tandem-scheduler", "--config", config, "--tls-cert", pair.crt, "--tls-key", pair.key],
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            credentials = grpc.ssl_channel_credentials(authority.pem)
            with grpc.secure_channel(f"localhost:{admin_port}", credentials) as channel:
                stub = admin_rpc.AdminServiceStub(channel)
                assert stub.GetStatus(admin.GetStatusRequest(), timeout=20 * SLOW, wait_for_ready=True).models[0].name == "tiny"
        finally:
            process.terminate()
            said = process.stderr.read()
    assert "whoever reaches 0.0.0.0" in said  # encrypted, and open to all


def test_files_that_are_no_good_end_the_start_in_one_line(tmp_path):
    authority = Authority(tmp_path)
    pair, other = authority.issue("server", "localhost"), authority.issue("other", "localhost")
    expired = authority.issue("expired", "localhost", begins=-3, ends=-1)
    tokens = tmp_path / "tokens"
    tokens.write_text("ops root 0123456789abcdef\n")
    anywhere = "{clients: '127.0.0.1:0', workers: '127.0.0.1:0', admin: '127.0.0.1:0', metrics: '127.0.0.1:0'}"
    for flags, words in (((pair.crt, other.key), "not the key of certificate"), ((expired.crt, expired.key), "expired at"),
                         ((tmp_path / "none", pair.key), "No such file"), ((pair.key, pair.key), "no certificate in PEM form")):
        done = start(tmp_path, anywhere, "", "--tls-cert", flags[0], "--tls-key", flags[1])
        assert done.returncode == 1 and words in done.stderr.splitlines()[-1], done.stderr
    done = start(tmp_path, anywhere, "", "--tokens", tokens)
    assert done.returncode == 1 and "tokens:1: the second word is no role" in done.stderr.splitlines()[-1]


def test_config_validate_reads_the_files_and_warns_of_who_may_read_them(tmp_path):
    authority = Authority(tmp_path)
    pair = authority.issue("server", "localhost")
    tokens = tmp_path / "tokens"
    tokens.write_text("ops admin 0123456789abcdef\n")
    tokens.chmod(0o644)
    config = tmp_path / "c.yaml"
    config.write_text(f"security: {{certificate: server.crt, key: server.key, tokens: tokens, dial: {{ca: {authority.path.name}}}}}\n")
    done = subprocess.run([BIN / "tandemctl", "--config", config, "config", "validate"], capture_output=True, text=True)
    assert done.returncode == 0 and "valid" in done.stdout
    assert "warning: token file" in done.stderr and "chmod 600" in done.stderr
    pair.crt.unlink()
    done = subprocess.run([BIN / "tandemctl", "--config", config, "config", "validate"], capture_output=True, text=True)
    assert done.returncode == 2 and "server.crt: No such file" in done.stderr


def test_tokens_alone_work_on_loopback(tmp_path):
    """No TLS on one machine: roles, and nothing to make certificates for."""
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(f"all client+worker+viewer {TOKENS['asker']}\n")
    own = tmp_path / "own"
    own.touch(mode=0o600)
    own.write_text(TOKENS["asker"])

    class TokenCluster(Cluster):
        def channel(self, port=None):
            class Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
                def intercept_unary_unary(self, continuation, details, request):
                    return continuation(details._replace(metadata=[("authorization", f"Bearer {TOKENS['asker']}")]), request)
                intercept_unary_stream = intercept_unary_unary
            return grpc.intercept_channel(super().channel(port), Bearer())

    with TokenCluster(tmp_path, devices=["sim:H100"], tensor_parallel=1,
                      extra=f"security: {{tokens: {tokens}, dial: {{token_file: {own}}}}}") as cluster:
        assert cluster.generate(PROMPT, max_tokens=4).error is None
        with grpc.insecure_channel(f"127.0.0.1:{cluster.clients}") as channel:
            stub = inference_rpc.InferenceServiceStub(channel)
            assert refused(lambda: stub.ListModels(inference.ListModelsRequest()))[:2] == UNAUTHENTICATED
