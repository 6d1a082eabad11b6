"""Replicas follow demand: a queue brings a second one, on a device of its own, and nobody's request suffers."""

from harness import Cluster, eventually
from test_load import run_all


def test_a_queue_brings_a_second_replica(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas="{min: 1, max: 2}", model_keys=", max_num_seqs: 1") as cluster:
        assert sum(m.replicas_wanted for m in cluster.status().models) == 1
        outcomes = []
        jobs = [lambda i=i: outcomes.append(cluster.generate([300 + i] * 8, max_tokens=1000, timeout=120)) for i in range(24)]
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
        assert len(outcomes) == 24 and all(o.error is None and len(o.ids) == 1000 for o in outcomes)
        assert len({o.accepted.group for o in outcomes}) == 2, "both served"
        cluster.check_nothing_left()
