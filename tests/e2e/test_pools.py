"""Replicas follow demand: a queue brings a second one, on a device of its own, and nobody's request suffers."""

from harness import Cluster, eventually, unhurried
from test_load import run_all


def test_a_queue_brings_a_second_replica(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas="{min: 1, max: 2}", model_keys=", max_num_seqs: 1", **unhurried(2, pace=0.2)) as cluster:
        assert sum(m.replicas_wanted for m in cluster.status().models) == 1
        outcomes = []
        jobs = [lambda i=i: outcomes.append(cluster.generate([300 + i] * 8, max_tokens=100, timeout=120)) for i in range(24)]
        seen = set()

        def watch():
            def two():
                seen.update(g.name for g in cluster.status().groups)
                return len(seen) == 2
            eventually(two, 60, "a second replica")
            said = cluster.ctl("explain", "model/tiny").stdout
            assert "of 1 to 2 replicas" in said, said

        run_all(jobs + [watch])
        assert len(seen) == 2, "no second replica came"
        assert len(outcomes) == 24 and all(o.error is None and len(o.ids) == 100 for o in outcomes)
        assert len({o.accepted.group for o in outcomes}) == 2, "both served"
        cluster.check_nothing_left()


def test_a_model_that_nobody_asks_for_is_loaded_by_the_first_request(tmp_path):
    """That it leaves again after five minutes is in tests/scenarios/pool_sleeps_and_wakes.txt."""
    with Cluster(tmp_path, tensor_parallel=1, replicas="{min: 0, max: 1}") as cluster:
        assert cluster.status().ready, "who asks for it is not refused"
        assert not cluster.status().groups
        assert "sleeps" in cluster.ctl("explain", "model/tiny").stdout
        first = cluster.generate([300] * 8, max_tokens=10, timeout=60)
        assert first.error is None and len(first.ids) == 10
        assert [g.name for g in cluster.status().groups] == [first.accepted.group]
        cluster.check_nothing_left()
