"""The scheduler is killed, and what operators were told stays true: cordons, drains, their reasons, and how they ended."""

import os
import resource
import signal
import sqlite3
import subprocess
import threading
import uuid

import grpc
import pytest

from harness import BIN, SLOW, Cluster, eventually, reason_of, unhurried
from protos import admin, inference


def kill_scheduler(cluster):
    """kill -9, and back once another one leads."""
    first = cluster.status().leader_epoch
    os.kill(cluster.children()["scheduler"], signal.SIGKILL)

    def leads():
        try:
            return cluster.status().leader_epoch > first
        except grpc.RpcError:
            return False
    eventually(leads, 20, "another scheduler leads")


def device(cluster, index):
    return next(d for d in cluster.status().devices if d.name.endswith(f"/{index}"))


def is_back(cluster, index, state):
    return eventually(lambda: device(cluster, index).state == state and device(cluster, index), 20, f"device {index} is back")


def start_ctl(cluster, *words):
    return subprocess.Popen([BIN / "tandemctl", "--config", cluster.config, *words], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def rows(cluster, table):
    """What the store holds, read from a copy: the scheduler has the file to itself."""
    copy = cluster.tmp / f"copy-{uuid.uuid4().hex}"
    copy.mkdir()
    for suffix in ("", "-wal"):
        source = cluster.tmp / "state" / f"tandem.db{suffix}"
        if source.exists():
            (copy / f"tandem.db{suffix}").write_bytes(source.read_bytes())
    with sqlite3.connect(copy / "tandem.db") as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]


def test_cordons_and_drains_survive(tmp_path):
    with Cluster(tmp_path, devices=3, tensor_parallel=1, replicas=1) as cluster:
        serving = int(cluster.status().groups[0].devices[0].rsplit("/", 1)[1])
        cordoned, drained = [i for i in range(3) if i != serving]
        cluster.ctl("cordon", cordoned, "--reason", "fan is loud")
        cluster.ctl("drain", drained, "--reason", "new card")
        for _ in range(2):
            kill_scheduler(cluster)
            known = device(cluster, cordoned)  # at once, whether its worker is back or not
            assert known.cordoned and known.reason == "fan is loud"
            known = device(cluster, drained)
            assert known.cordoned and known.reason == "new card"
            assert is_back(cluster, drained, admin.DEVICE_DRAINED).reason == "new card"
        cluster.ctl("undrain", drained)
        cluster.ctl("uncordon", cordoned)
        kill_scheduler(cluster)
        for index in (cordoned, drained):
            known = is_back(cluster, index, admin.DEVICE_ACTIVE)
            assert not known.cordoned and known.reason == ""
        eventually(cluster.ready, 20, "the model is served")


def test_a_drain_goes_on_and_its_caller_hears_the_end(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas=2, **unhurried(2)) as cluster:
        calls = [cluster.inference().Generate(cluster.request([1, 2, 3], max_tokens=120), timeout=90) for _ in range(8)]
        eventually(lambda: cluster.status().requests_running >= 4, 10, "requests run on both groups")
        follower = start_ctl(cluster, "drain", "0", "--reason", "new card", "--deadline", "60s")
        eventually(lambda: device(cluster, 0).state == admin.DEVICE_DRAINING, 10, "the drain began")
        kill_scheduler(cluster)
        out, err = follower.communicate(timeout=90 * SLOW)
        assert follower.returncode == 0, out + err
        assert "scheduler is away, dialling again" in out
        assert "done; drained" in out.splitlines()[-1]
        assert is_back(cluster, 0, admin.DEVICE_DRAINED).reason == "new card"
        for call in calls:
            call.cancel()
        (drain,) = [row for row in rows(cluster, "operations") if row["verb"] == "drain"]
        assert (drain["state"], drain["reason"]) == (2, "new card")
        cluster.ctl("undrain", "0")
        eventually(lambda: all(m.replicas_ready == 2 for m in cluster.status().models), 30, "both replicas serve again")


def test_a_request_is_found_by_its_callers_id_after_a_restart(tmp_path):
    """What its caller calls a request is with the worker that computes it, and comes back from there."""
    trace = "c" * 32
    with Cluster(tmp_path, tensor_parallel=1, replicas=1, **unhurried()) as cluster:
        metadata = (("x-request-id", "mine-7"), ("traceparent", f"00-{trace}-00f067aa0ba902b7-01"))
        call = cluster.inference().Generate(cluster.request("Once upon a time", max_tokens=900), timeout=90 * SLOW,
                                            metadata=metadata)
        request_id = next(iter(call)).accepted.request_id
        eventually(lambda: cluster.status().requests_running == 1, 10, "it runs")
        kill_scheduler(cluster)
        eventually(lambda: cluster.status().requests_running == 1, 20, "the next scheduler has found it")
        call.cancel()
        for name in ("mine-7", trace):
            explained = cluster.ctl("explain", f"request/{name}").stdout
            assert request_id in explained and "found on" in explained and "after a restart of the scheduler" in explained
            assert f"its caller knows it as mine-7, in trace {trace}" in explained
        assert cluster.inference().Abort(inference.AbortRequest(request_ids=[request_id])).aborted == [request_id]


def drain_request(index, key, reason="new card", deadline_ms=60000):
    return admin.DrainDeviceRequest(name=str(index), deadline_ms=deadline_ms, on_deadline=admin.WAIT,
                                    mutation=admin.Mutation(reason=reason, idempotency_key=key))


def test_a_repeated_call_is_the_same_call(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas=2) as cluster:
        stub = cluster.admin()
        cordon = admin.CordonDeviceRequest(name="0", mutation=admin.Mutation(reason="fan is loud", idempotency_key="a"))
        assert stub.CordonDevice(cordon, timeout=10).device.cordoned
        stub.UncordonDevice(admin.UncordonDeviceRequest(name="0"), timeout=10)
        assert not stub.CordonDevice(cordon, timeout=10).device.cordoned, "it was done once, before it was taken back"
        cordon.mutation.reason = "another"
        with pytest.raises(grpc.RpcError) as refused:
            stub.CordonDevice(cordon, timeout=10)
        assert reason_of(refused.value) == "INVALID_PARAMETER"

        first = list(stub.DrainDevice(drain_request(0, "b"), timeout=60))
        assert first[-1].progress.done
        kill_scheduler(cluster)
        stub = cluster.admin()
        again = list(stub.DrainDevice(drain_request(0, "b"), timeout=60))
        assert len(again) == 1 and again[0].progress.done and again[0].progress.message == first[-1].progress.message
        stub.UndrainDevice(admin.UndrainDeviceRequest(name="0"), timeout=10)
        assert list(stub.DrainDevice(drain_request(0, "b"), timeout=60))[-1].progress.done
        assert not device(cluster, 0).cordoned, "a repeated call drains nothing again"
        with pytest.raises(grpc.RpcError) as refused:
            list(stub.DrainDevice(drain_request(0, "b", deadline_ms=1), timeout=60))
        assert reason_of(refused.value) == "INVALID_PARAMETER"
        eventually(cluster.ready, 30, "the model is served")


def test_a_refusal_is_the_same_refusal(tmp_path):
    with Cluster(tmp_path, devices=1, tensor_parallel=1, replicas=1) as cluster:
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as refused:
                list(cluster.admin().DrainDevice(drain_request(0, "c"), timeout=60))
            assert reason_of(refused.value) == "WOULD_LOSE_LAST_REPLICA"
            kill_scheduler(cluster)
        eventually(cluster.ready, 30, "the model is served")


def test_whoever_asks_while_the_scheduler_dies_gets_a_drained_device(tmp_path):
    """Kills at many moments around the commit; whichever side of it they fall on, the drain ends once and is kept."""
    with Cluster(tmp_path, devices=2, tensor_parallel=1, replicas=1) as cluster:
        spare = 1 - int(cluster.status().groups[0].devices[0].rsplit("/", 1)[1])
        for delay in (0.0, 0.02, 0.05):
            follower = start_ctl(cluster, "drain", str(spare), "--reason", f"after {delay}")
            threading.Event().wait(delay)  # the moment of the fault, not a wait for anything
            kill_scheduler(cluster)
            out, err = follower.communicate(timeout=60 * SLOW)
            assert follower.returncode in (0, 5), out + err  # 5: it had not reached the scheduler before the kill
            if follower.returncode == 0:
                assert is_back(cluster, spare, admin.DEVICE_DRAINED).reason == f"after {delay}"
            cluster.ctl("undrain", spare)
            is_back(cluster, spare, admin.DEVICE_ACTIVE)
        eventually(cluster.ready, 30, "the model is served")


def test_a_full_disk_refuses_operators_and_serves_on(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas=1) as cluster:
        cluster.ctl("cordon", "0", "--reason", "before")
        pid = cluster.children()["scheduler"]
        limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, limits[1]))  # no file may grow, nor be written beyond its first byte
        try:
            for words in (("cordon", "1", "--reason", "x"), ("uncordon", "0"), ("drain", "1", "--reason", "x", "--force")):
                refused = cluster.ctl(*words, check=False)
                assert refused.returncode != 0 and "STORE_UNAVAILABLE" in refused.stderr, (words, refused)
                assert "nothing was changed" in refused.stderr
            assert device(cluster, 0).reason == "before" and not device(cluster, 1).cordoned
            assert cluster.generate("Still serving", max_tokens=8).error is None
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        cluster.ctl("cordon", "1", "--reason", "after")
        kill_scheduler(cluster)
        assert [device(cluster, i).reason for i in (0, 1)] == ["before", "after"]
        for index in (0, 1):
            cluster.ctl("uncordon", index)
        eventually(cluster.ready, 20, "the model is served")


def test_a_damaged_store_is_refused_with_what_to_do(tmp_path):
    with Cluster(tmp_path) as cluster:
        cluster.stop()
    state = tmp_path / "state"
    whole = (state / "tandem.db").read_bytes()
    (state / "tandem.db").write_bytes(b"\0" * 100 + whole[100:])
    said = subprocess.run([BIN / "tandem-scheduler", "--config", cluster.config], capture_output=True, text=True, timeout=30)
    assert said.returncode != 0 and "tandem.db is damaged" in said.stderr and "restore the file from a backup" in said.stderr
