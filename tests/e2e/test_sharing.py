"""A small model beside one that spans both devices: they share, each under its own group, and neither changes the other."""

import os
import signal

from harness import MODEL, Cluster, eventually
from test_load import run_all

SMALL = f"  - {{name: small, path: {MODEL}, task: generate, tensor_parallel: 1, replicas: 1}}"
PROMPT = "The lighthouse keeper"


def groups_of(cluster, model):
    return [g for g in cluster.status().groups if g.model == f"models/{model}" or g.model == model]


def test_both_models_answer_as_they_do_alone(tmp_path):
    with Cluster(tmp_path / "pair", tensor_parallel=2) as alone:
        pair_alone = alone.generate(PROMPT, max_tokens=48).ids
    with Cluster(tmp_path / "single", devices=1, tensor_parallel=1) as alone:
        small_alone = alone.generate(PROMPT, max_tokens=48).ids

    with Cluster(tmp_path / "both", tensor_parallel=2, extra=SMALL) as cluster:
        assert sorted(len(g.devices) for g in cluster.status().groups) == [1, 2]
        outcomes = []
        jobs = [lambda m=m: outcomes.append((m, cluster.generate(PROMPT, model=m, max_tokens=48)))
                for m in ("tiny", "small") * 8]
        run_all(jobs)
        for model, outcome in outcomes:
            assert outcome.error is None, outcome.error
            assert outcome.ids == (pair_alone if model == "tiny" else small_alone), model
        said = cluster.ctl("explain", "model/small").stdout
        assert "beside group" in said, said
        cluster.check_nothing_left()


def test_a_worker_that_dies_takes_both_and_both_come_back(tmp_path):
    with Cluster(tmp_path, tensor_parallel=2, extra=SMALL) as cluster:
        small = next(g for g in cluster.status().groups if len(g.devices) == 1)
        device = small.devices[0].rsplit("/", 1)[1]
        before = {g.name for g in cluster.status().groups}
        os.kill(cluster.children()[f"cpu:{device}"], signal.SIGKILL)

        def again():
            groups = cluster.status().groups
            return not before & {g.name for g in groups} and sorted(len(g.devices) for g in groups) == [1, 2]
        eventually(again, 30, "both groups again")
        cluster.ctl("wait", "ready", "--timeout", "30s")
        for model in ("tiny", "small"):
            assert cluster.generate(PROMPT, model=model, max_tokens=8).error is None


def test_without_sharing_the_small_one_waits_and_says_so(tmp_path):
    extra = SMALL + "\nscheduling: {sharing: false}"
    with Cluster(tmp_path, tensor_parallel=2, extra=extra, ready=False) as cluster:
        cluster.ctl("wait", "ready", "--model", "tiny", "--timeout", "30s")
        said = cluster.ctl("explain", "model/small").stdout
        assert "busy with" in said, said
