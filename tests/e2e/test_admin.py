"""What an operator does: looks, asks why, cordons, drains, replays."""

import json
import re
import threading
import time

import grpc
import pytest

from harness import BIN, Cluster, eventually, unhurried
from protos import admin


def test_status_and_get(cluster):
    assert "tiny" in cluster.ctl("status").stdout
    devices = json.loads(cluster.ctl("get", "devices", "-o", "json").stdout)["devices"]
    assert len(devices) == 2 and all(d["state"] == "DEVICE_ACTIVE" for d in devices)
    assert int(devices[0]["memory_total_bytes"]) == 1 << 30
    assert cluster.ctl("get", "gpus", "-o", "name").stdout.split() == [d["name"] for d in devices]
    groups = json.loads(cluster.ctl("get", "groups", "-o", "json").stdout)["groups"]
    assert len(groups) == 1 and groups[0]["state"] == "GROUP_READY" and len(groups[0]["devices"]) == 2
    assert json.loads(cluster.ctl("get", "models", "tiny", "-o", "json").stdout)
    for what in ("devices", "groups", "models", "nodes", "requests"):
        cluster.ctl("get", what, "-o", "wide")
        cluster.ctl("get", what, "-o", "yaml")


def test_describe_and_explain(cluster):
    result = cluster.generate("Why here", max_tokens=4)
    group = result.accepted.group.split("/")[1]
    said = cluster.ctl("explain", f"request/{result.accepted.request_id}").stdout
    assert result.accepted.group in said or f"group {group}" in said
    assert "devices/0" in cluster.ctl("explain", f"group/{group}").stdout
    assert cluster.ctl("explain", "model/tiny").stdout
    for what, name in (("device", "0"), ("gpu", "1"), ("group", group), ("model", "tiny"), ("request", result.accepted.request_id)):
        assert cluster.ctl("describe", what, name).stdout


def test_exit_codes(cluster, tmp_path):
    assert cluster.ctl("get", "groups", "999", check=False).returncode == 4
    assert cluster.ctl("describe", "model", "nobody", check=False).returncode == 4
    assert cluster.ctl("nonsense", check=False).returncode == 2
    assert cluster.ctl("generate", "--model", "nobody", "x", check=False).returncode in (1, 4)
    assert cluster.ctl("--server", "127.0.0.1:1", "--admin", "127.0.0.1:1", "status", check=False).returncode == 5
    assert cluster.ctl("drain", "0", "--reason", "x", check=False).returncode == 6


def test_generate_prints_text_and_json(cluster):
    text = cluster.ctl("generate", "--model", "tiny", "--max-tokens", "20", "The scheduler").stdout
    one = json.loads(cluster.ctl("generate", "--model", "tiny", "--max-tokens", "20", "-o", "json", "The scheduler").stdout)
    assert set(one) >= {"request_id", "text", "token_ids", "finish_reason", "usage", "group"}
    assert text.strip() == one["text"].strip()
    ids = ",".join(map(str, one["token_ids"]))
    again = json.loads(cluster.ctl("generate", "--model", "tiny", "--max-tokens", "3", "-o", "json", "--prompt-ids", ids).stdout)
    assert again["usage"]["prompt_tokens"] == len(one["token_ids"])


def test_topology(cluster):
    said = json.loads(cluster.ctl("topology", "-o", "json").stdout)
    assert len(said["devices"]) == 2 and len(said["links"]) == 1


def test_topology_shows_what_was_measured(cluster):
    deadline = time.monotonic() + 60
    while True:
        (link,) = json.loads(cluster.ctl("topology", "-o", "json").stdout)["links"]
        if link["source"] == "measured" or time.monotonic() > deadline:
            break
        time.sleep(0.2)  # a probe waits for an idle host
    assert link["source"] == "measured", link
    assert int(link["bandwidth_bytes_per_s"]) > 1e8
    assert 100 < int(link["small_message_ns"]) < 1e8
    assert link["label"] in ("SHM", "SYS")
    assert "GB/s" in cluster.ctl("topology").stdout


def test_cordon_keeps_what_runs(cluster):
    cluster.ctl("cordon", "0", "--reason", "fan is loud")
    try:
        device = json.loads(cluster.ctl("get", "devices", "0", "-o", "json").stdout)
        assert "fan is loud" in json.dumps(device)
        assert cluster.generate("Still serving", max_tokens=4).error is None
    finally:
        cluster.ctl("uncordon", "0")


def test_the_last_replica_is_protected(cluster):
    refused = cluster.ctl("drain", "1", "--reason", "test", check=False)
    assert refused.returncode == 6 and "WOULD_LOSE_LAST_REPLICA" in refused.stderr
    assert cluster.generate("Still serving", max_tokens=4).error is None


def test_a_dry_run_changes_nothing(cluster):
    said = cluster.ctl("drain", "1", "--reason", "test", "--force", "--dry-run").stdout
    assert "tiny" in said
    assert cluster.ready()


def test_drain_waits_for_what_runs_and_undrain_brings_it_back(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas=2, **unhurried(2)) as cluster:
        results = []
        threads = [threading.Thread(target=lambda: results.append(cluster.generate([1, 2, 3], max_tokens=60)))
                   for _ in range(12)]
        for thread in threads:
            thread.start()
        eventually(lambda: cluster.status().requests_running >= 2, 10, "requests run on the groups")
        done = cluster.ctl("drain", "0", "--reason", "pull the card", "--deadline", "60s")
        assert done.returncode == 0
        devices = {d.name: d for d in cluster.status().devices}
        assert next(d for n, d in devices.items() if n.endswith("/0")).state == admin.DEVICE_DRAINED
        for thread in threads:
            thread.join()
        assert all(r.error is None and len(r.ids) == 60 for r in results)
        after = cluster.generate("The other one", max_tokens=4)
        assert after.error is None
        cluster.ctl("undrain", "0")
        eventually(cluster.ready, 20, "both replicas serve again")


def test_a_drain_can_abort_at_its_deadline(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas=2, **unhurried(2)) as cluster:
        calls = [cluster.inference().Generate(cluster.request([30 + i], max_tokens=80), timeout=60) for i in range(4)]
        eventually(lambda: cluster.status().requests_running >= 2, 10, "requests run on the groups")
        cluster.ctl("drain", "0", "--reason", "now", "--deadline", "100ms", "--on-deadline", "abort")
        ends = []
        for call in calls:
            try:
                for _ in call:
                    pass
                ends.append("finished")
            except grpc.RpcError as error:
                ends.append(error.code())
        assert set(ends) == {"finished", grpc.StatusCode.UNAVAILABLE}, "who ran there is told, who ran elsewhere ran on"


def test_the_journal_replays(tmp_path):
    with Cluster(tmp_path) as cluster:
        for i in range(5):
            assert cluster.generate(f"Number {i}", max_tokens=5).error is None
        request = cluster.generate("Find me", max_tokens=5).accepted.request_id
        cluster.check_nothing_left()
        cluster.stop()
        segments = sorted((tmp_path / "state" / "journal").iterdir())
        assert segments
        replayed = cluster.ctl("replay", segments[-1]).stdout
        assert request[:16] in replayed and "assign" in replayed
        assert b"Find me" not in b"".join(s.read_bytes() for s in segments), "a journal holds no text"
