"""Models come, go and change their shape while they are served, and a restart knows what was asked for."""

import contextlib
import os
import signal
import socket
import subprocess
import threading

import grpc
import pytest

from harness import BIN, MODEL, Cluster, eventually, reason_of
from protos import admin


class Load:
    """Requests, one after the other in each of some threads, until it is left; what went wrong is in `failures`."""

    def __init__(self, cluster, threads=2):
        self.cluster, self.failures, self.finished = cluster, [], 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self):
        stub = self.cluster.inference()
        while not self._stop.is_set():
            done = self.cluster.generate("A river", stub=stub, max_tokens=24)
            if done.error is not None or len(done.ids) != 24:
                self.failures.append(f"{len(done.ids)} tokens, {done.error}")
            self.finished += 1

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        eventually(lambda: self.finished > 0, 30, "the first request")
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def write(cluster, name, text):
    path = cluster.tmp / name
    path.write_text(text)
    return path


def shape(cluster, tensor_parallel, replicas=1, **more):
    keys = "".join(f", {key}: {value}" for key, value in more.items())
    return write(cluster, "shape.yaml", f"models:\n  - {{name: tiny, aliases: [default], path: {MODEL}, "
                 f"tensor_parallel: {tensor_parallel}, replicas: {replicas}{keys}}}\n")


@contextlib.contextmanager
def second_worker(cluster):
    log = open(cluster.tmp / "second.log", "wb")
    process = subprocess.Popen([BIN / "tandem-worker", "--device", "cpu:1", "--scheduler", f"127.0.0.1:{cluster.workers}",
                                "--node", socket.gethostname(), "--cpu-devices", "2", "--cpu-memory", "1GiB",
                                "--cpu-threads", "1"], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        log.close()


def ready_groups(cluster):
    return [list(g.devices) for g in cluster.status().groups if g.state == admin.GROUP_READY]


def test_from_one_device_to_two_and_back_while_requests_run(tmp_path):
    with Cluster(tmp_path, devices=1, tensor_parallel=1) as cluster, second_worker(cluster):
        eventually(lambda: len(cluster.status().devices) == 2, 20, "the second worker")
        with Load(cluster) as load:
            said = cluster.ctl("deploy", "-f", shape(cluster, 2), "--reason", "two devices now").stdout
            assert "tiny is served" in said
            groups = ready_groups(cluster)
            assert len(groups) == 1 and len(groups[0]) == 2, groups
            before = load.finished
            eventually(lambda: load.finished > before + 2, 30, "requests on two devices")

            cluster.ctl("deploy", "-f", shape(cluster, 1))
            groups = ready_groups(cluster)
            assert len(groups) == 1 and len(groups[0]) == 1, groups
            cluster.ctl("drain", "1", "--reason", "back to one")
            assert ready_groups(cluster) == [[f"nodes/{socket.gethostname()}/devices/0"]]
            before = load.finished
            eventually(lambda: load.finished > before + 2, 30, "requests on one device")
        assert load.failures == []


def test_scale_and_undeploy(tmp_path):
    with Cluster(tmp_path, devices=2, tensor_parallel=1) as cluster:
        assert "has the replicas that it wants" in cluster.ctl("scale", "tiny", "--replicas", "2").stdout
        assert len(ready_groups(cluster)) == 2
        cluster.ctl("scale", "tiny", "--replicas", "1")
        eventually(lambda: len(ready_groups(cluster)) == 1, 10, "one replica")
        refused = cluster.ctl("scale", "tiny", "--replicas", "0", check=False)
        assert refused.returncode == 2 and "undeploy" in refused.stderr

        assert "tiny is gone" in cluster.ctl("undeploy", "tiny", "--reason", "not needed").stdout
        gone = cluster.generate("A river", model="default")
        assert reason_of(gone.error) == "MODEL_NOT_FOUND"
        assert cluster.ctl("undeploy", "tiny", check=False).returncode == 4
        cluster.ctl("deploy", "-f", shape(cluster, 1))
        assert cluster.generate("A river", model="default").error is None


def test_a_model_that_is_called_by_its_path_is_found_by_that_name(tmp_path):
    with Cluster(tmp_path, devices=2, tensor_parallel=1, name="models/tiny") as cluster:
        assert "models/tiny has the replicas that it wants" in cluster.ctl("scale", "models/tiny", "--replicas", "2").stdout
        assert len(ready_groups(cluster)) == 2
        assert cluster.ctl("scale", "tiny", "--replicas", "1", "--dry-run").returncode == 0
        assert "models/tiny is gone" in cluster.ctl("undeploy", "models/tiny").stdout
        assert cluster.ctl("undeploy", "models/tiny", check=False).returncode == 4
        cluster.ctl("deploy", "-f", shape(cluster, 1))
        assert cluster.generate("A river", model="default").error is None


def test_a_new_model_beside_the_old_one_survives_kill_9(tmp_path):
    with Cluster(tmp_path, devices=2, tensor_parallel=1) as cluster:
        second = write(cluster, "second.yaml",
                       f"models:\n  - {{name: second, path: {MODEL}, tensor_parallel: 1, max_num_seqs: 4}}\n")
        cluster.ctl("deploy", "-f", second)
        cluster.ctl("scale", "tiny", "--replicas", "1..2")
        cluster.ctl("deploy", "-f", write(cluster, "third.yaml", f"models:\n  - {{name: third, path: {MODEL}}}\n"))
        cluster.ctl("undeploy", "third")
        os.kill(cluster.children()["scheduler"], signal.SIGKILL)
        cluster.ctl("wait", "ready", "--model", "second", "--timeout", "30s")
        models = {m.name: m for m in cluster.status().models}
        assert sorted(models) == ["second", "tiny"]
        assert models["second"].max_sequences == 4
        assert (models["tiny"].replicas_min, models["tiny"].replicas_max) == (1, 2)
        eventually(lambda: cluster.ready(), 20, "both models")
        assert cluster.generate("A river", model="second").error is None


def test_a_deployment_is_checked_before_anything_changes(tmp_path):
    with Cluster(tmp_path, devices=1, tensor_parallel=1, model_keys=", max_model_len: 512") as cluster:
        before = cluster.status().models[0]
        said = cluster.ctl("deploy", "--dry-run", "-f", shape(cluster, 1, max_num_seqs=2)).stdout
        assert "nothing was changed" in said and cluster.status().models[0] == before

        too_wide = cluster.ctl("deploy", "-f", shape(cluster, 2), check=False)
        assert too_wide.returncode == 6 and "NEVER_FITS" in too_wide.stderr

        stale = cluster.ctl("scale", "tiny", "--replicas", "1", "--etag", "0123", check=False)
        assert stale.returncode == 6 and before.etag in stale.stderr

        taken = write(cluster, "taken.yaml", f"models:\n  - {{name: other, aliases: [default], path: {MODEL}}}\n")
        assert "taken by models/tiny" in cluster.ctl("deploy", "-f", taken, check=False).stderr

        call = cluster.admin().ScaleModel
        request = admin.ScaleModelRequest(name="tiny", replicas=1, replicas_max=2,
                                          mutation=admin.Mutation(idempotency_key="once", reason="a test"))
        assert call(request).model.replicas_max == 2
        assert call(request).model.replicas_max == 2
        request.replicas_max = 1
        with pytest.raises(grpc.RpcError) as refused:
            call(request)
        assert "was used for another request" in refused.value.details()


def test_the_file_counts_again_when_its_entry_changes(tmp_path):
    def most(**keys):
        with Cluster(tmp_path, devices=1, tensor_parallel=1, **keys) as cluster:
            if not keys:
                yield cluster
            model = cluster.status().models[0]
            assert model.max_sequences == (4 if keys else 64)
            yield model.replicas_max

    first = most()
    next(first).ctl("scale", "tiny", "--replicas", "1..2", "--detach")
    assert list(first) == [2]
    assert list(most())[1:] == [2], "what was scaled is kept"
    assert list(most(model_keys=", max_num_seqs: 4")) == [1], "the entry in the file is the later word"
