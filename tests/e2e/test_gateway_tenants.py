"""Each API key of the gateway's file is a tenant: it has its share of the waiting room, its own counters and its own prefixes,
and keys are replaced while the gateway runs."""

import http.client
import json
import socket
import subprocess
import threading

import pytest

from gateway_rig import Gateway
from harness import BIN, Cluster, eventually, unhurried

KEYS = "# who may ask\nagents:sk-agents\nretrieval:sk-retrieval\n"


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def completion(**fields):
    return {"model": "tiny", "prompt": "Once upon a time", "temperature": 0, "ignore_eos": True, **fields}


class Ask(threading.Thread):
    """One request that waits; its answer is there when it has ended."""

    def __init__(self, gateway, key):
        super().__init__(daemon=True)
        self.gateway, self.key, self.answer, self.connection = gateway, key, None, None
        self.start()

    def run(self):
        self.connection = self.gateway.open("/v1/completions", completion(max_tokens=900), bearer(self.key))
        try:
            response = self.connection.getresponse()
            self.answer = response.status, response.getheader("retry-after"), response.read().decode()
        except (OSError, http.client.HTTPException):  # the test has left
            pass

    def leave(self):
        if self.answer is None:
            self.connection.sock.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A simulated device at a thousandth of its speed that takes one request at a time: what comes, waits. Four may."""
    tmp = tmp_path_factory.mktemp("tenants")
    keys = tmp / "keys"
    keys.write_text(KEYS)
    with Cluster(tmp, tensor_parallel=1, model_keys=", max_num_seqs: 1", extra="scheduling: {waiting_room_requests: 4}",
                 **unhurried(pace=0.001)) as cluster:
        with Gateway(tmp, cluster.clients, "--api-keys-file", keys) as gateway:
            yield cluster, gateway


def test_a_tenant_gives_way_when_another_comes(busy):
    cluster, gateway = busy
    many, other = [], None

    def waiting():
        return cluster.status().requests_queued

    try:
        while not any(ask.answer for ask in many):  # until one is told that there is no room
            many.append(Ask(gateway, "sk-agents"))
            before = len(many)
            eventually(lambda: cluster.status().requests_running + waiting() >= before or many[-1].answer, 10, "it is in, or out")
        status, retry_after, body = many[-1].answer
        assert status == 503 and int(retry_after) >= 1 and "queue_full" in body, "a room that one tenant has filled alone is full"
        assert waiting() == 4

        other = Ask(gateway, "sk-retrieval")
        refused = eventually(lambda: [ask for ask in many[:-1] if ask.answer], 10, "one of the tenant that has most gives way")
        status, retry_after, body = refused[0].answer
        assert status == 429 and int(retry_after) >= 1 and "tenant_limit" in body, body
        assert len(refused) == 1 and other.answer is None and waiting() == 4, "the newcomer waits in its place"
        tenants = {row["tenant"] for row in requests(cluster)}
        assert tenants == {"agents", "retrieval"}
        eventually(lambda: 'tandem_http_tenant_requests_total{tenant="agents",code="429"} 1' in gateway.ask("/metrics")[2], 10, "counted")
        assert 'tenant="retrieval",code="429"' not in gateway.ask("/metrics")[2]
    finally:
        for ask in [*many, other]:
            if ask:
                ask.leave()
    eventually(lambda: cluster.status().requests_running + waiting() == 0, 20, "who waited in the queue and left is forgotten")


def requests(cluster):
    return json.loads(cluster.ctl("get", "requests", "-o", "json").stdout)["requests"]


def test_tokens_are_counted_for_each_tenant_and_prefixes_are_not_shared(cluster, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(KEYS)
    prompt = "The scheduler knows where every block of memory stands. " * 8
    with Gateway(tmp_path, cluster.clients, "--api-keys-file", keys) as gateway:
        def cached(key):
            answer = gateway.ask("/v1/completions", completion(prompt=prompt, max_tokens=4), bearer(key))[2]
            return answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached("sk-agents") == 0 and cached("sk-agents") > 0
        assert cached("sk-retrieval") == 0, "that a prompt was sent by somebody else cannot be seen in the time it takes"
        text = gateway.ask("/metrics")[2]
        assert 'tandem_http_tenant_tokens_total{tenant="agents",kind="generation"} 8' in text
        assert 'tandem_http_tenant_tokens_total{tenant="retrieval",kind="generation"} 4' in text


def test_keys_are_replaced_without_a_restart(cluster, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(KEYS)
    with Gateway(tmp_path, cluster.clients, "--api-keys-file", keys, "--api-key", "plain") as gateway:
        def status(key):
            return gateway.ask("/v1/completions", completion(max_tokens=1), bearer(key))[0]
        assert [status(key) for key in ("sk-agents", "plain", "sk-agents-2")] == [200, 200, 401]
        keys.write_text(KEYS + "agents:sk-agents-2\n")
        eventually(lambda: status("sk-agents-2") == 200, 10, "the new key is good")
        assert status("sk-agents") == 200, "and the old one still is"
        keys.write_text(KEYS.replace("sk-agents", "sk-agents-2"))
        eventually(lambda: status("sk-agents") == 401, 10, "the old key is given up")
        assert [status(key) for key in ("sk-agents-2", "sk-retrieval", "plain")] == [200, 200, 200]
        keys.write_text("not a file of keys\n")
        eventually(lambda: status("sk-agents-2") == 200 and "stay good" in gateway.log(), 10, "a bad file changes nothing, and is told")
        assert "sk-" not in gateway.log()


def test_a_key_bounds_the_priority_of_its_requests(cluster, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("agents:sk-agents\noncall:sk-oncall highest_priority=10\nnight:sk-night highest_priority=-5\n")
    with Gateway(tmp_path, cluster.clients, "--api-keys-file", keys, "--api-key", "plain") as gateway:
        def ask(key, priority):  # as with vLLM: the lower is served first
            return gateway.ask("/v1/completions", completion(max_tokens=1, priority=priority), bearer(key))
        allowed = [("sk-agents", 0), ("sk-agents", 50), ("sk-agents", None), ("sk-oncall", -10), ("sk-night", 5), ("sk-night", None), ("plain", -100)]
        for key, priority in allowed:
            assert ask(key, priority)[0] == 200, (key, priority)
        for key, priority in [("sk-agents", -1), ("sk-oncall", -11), ("sk-night", 4)]:
            status, _, body = ask(key, priority)
            assert (status, body["error"]["code"], body["error"]["param"]) == (403, "priority_not_allowed", "priority")
        assert "send -10 or more" in ask("sk-oncall", -11)[2]["error"]["message"]


def test_a_file_that_is_wrong_at_the_start_is_refused(cluster, tmp_path):
    (tmp_path / "keys").write_text("agents:sk-1\nsk-2\n")
    done = subprocess.run([BIN / "tandem-gateway", "--http", "127.0.0.1:0", "--api-keys-file", tmp_path / "keys"], capture_output=True,
                          text=True, timeout=30)
    assert done.returncode != 0 and "keys: line 2: expected NAME:KEY" in done.stderr and "sk-2" not in done.stderr
