"""Under load: everything ends exactly once, nothing stays booked, and company changes no bit of anybody's answer."""

import random
from concurrent import futures

import grpc
import pytest

from harness import Cluster, eventually, unhurried
from protos import inference


def run_all(jobs):
    """Each in a thread of its own, all at a time. What one of them raises is raised here."""
    with futures.ThreadPoolExecutor(len(jobs)) as pool:
        for running in [pool.submit(job) for job in jobs]:
            running.result()


@pytest.mark.parametrize("kv", ["", ", max_num_seqs: 8"], ids=["roomy", "eight-at-a-time"])
def test_64_streams_with_cancels_and_deadlines(tmp_path, kv):
    random.seed(20261122)
    with Cluster(tmp_path, model_keys=kv) as cluster:
        stub = cluster.inference()
        outcomes = [None] * 64

        def one(i, kind, length, when):
            def maybe_cancel(call, result):
                return not (kind == "cancel" and len(result.ids) >= when)
            outcomes[i] = (kind, length, cluster.generate(
                [(i * 7 + k) % 1500 + 10 for k in range(5 + i)], max_tokens=length, stub=stub,
                timeout=when / 100 if kind == "deadline" else 120, on_message=maybe_cancel))

        jobs = []
        for i in range(64):
            kind = random.choice(["plain", "plain", "cancel", "deadline"])
            length = random.randint(1, 120)
            jobs.append(lambda i=i, kind=kind, length=length, when=random.randint(1, 60): one(i, kind, length, when))
        run_all(jobs)
        for kind, length, result in outcomes:
            if kind == "plain":
                assert result.error is None and len(result.ids) == length and result.finished
            elif kind == "deadline":
                assert result.finished or result.error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            else:
                assert result.finished or result.error.code() == grpc.StatusCode.CANCELLED
        cluster.check_nothing_left()
        status = cluster.status()
        ended = status.requests_finished + status.requests_failed + status.requests_cancelled
        # A deadline of a few milliseconds may pass before the call arrives.
        assert sum(r.accepted is not None for _, _, r in outcomes) <= ended <= 64


def test_company_changes_no_bit(tmp_path):
    """Alone, in a full batch, and after preemption in a pool too small for all."""
    prompts = [[(i * 31 + k * 7) % 1500 + 10 for k in range(3 + 9 * i)] for i in range(12)]
    with Cluster(tmp_path / "roomy") as cluster:
        alone = [cluster.generate(p, max_tokens=80).ids for p in prompts]
        together = [None] * len(prompts)

        def ask(i):
            together[i] = cluster.generate(prompts[i], max_tokens=80).ids
        run_all([lambda i=i: ask(i) for i in range(len(prompts))])
        assert together == alone
        assert cluster.status().groups[0].preemptions == 0
    with Cluster(tmp_path / "tight", model_keys=", kv_memory: 160KiB, max_model_len: 256",
                 extra="scheduling: {overcommit: 8}") as cluster:
        squeezed = [None] * len(prompts)

        def ask(i):
            squeezed[i] = cluster.generate(prompts[i], max_tokens=80).ids
        run_all([lambda i=i: ask(i) for i in range(len(prompts))])
        assert squeezed == alone
        preemptions = eventually(lambda: cluster.status().groups[0].preemptions, 5, "a preemption is counted")
        assert preemptions > 0


def test_a_reader_that_stops_slows_nobody(cluster):
    stalled = cluster.inference().Generate(cluster.request("Once upon a time", max_tokens=500), timeout=60)
    next(stalled)
    others = cluster.generate("The river", max_tokens=100)
    assert others.error is None and len(others.ids) == 100
    ids = []
    for message in stalled:
        ids += message.chunk.token_ids
    assert len(ids) == 500


def test_cancel_in_the_waiting_room(tmp_path):
    with Cluster(tmp_path, model_keys=", max_num_seqs: 1", **unhurried(2)) as cluster:
        stub = cluster.inference()
        running = [stub.Generate(cluster.request([20 + i], max_tokens=900), timeout=60) for i in range(6)]
        eventually(lambda: cluster.status().requests_queued >= 2, 10, "requests wait")
        for call in reversed(running):
            call.cancel()
        cluster.check_nothing_left()


def test_a_deadline_in_the_waiting_room(tmp_path):
    with Cluster(tmp_path, model_keys=", max_num_seqs: 1", **unhurried(2)) as cluster:
        stub = cluster.inference()
        running = [stub.Generate(cluster.request([20 + i], max_tokens=900), timeout=60) for i in range(4)]
        eventually(lambda: cluster.status().requests_queued >= 1, 10, "requests wait")
        late = cluster.generate("Too late", timeout=0.3)
        assert late.error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        for call in running:
            call.cancel()
        cluster.check_nothing_left()


def test_an_idempotency_key_attaches(cluster):
    first = cluster.generate("The same", max_tokens=30, idempotency_key="k1")
    again = cluster.generate("The same", max_tokens=30, idempotency_key="k1")
    assert (first.ids, first.text, first.accepted.request_id) == (again.ids, again.text, again.accepted.request_id)
    assert cluster.status().requests_finished >= 1


def test_resume_from_an_index(cluster):
    whole = cluster.generate("The same again", max_tokens=30)
    ids, text = [], b""
    request = inference.ResumeRequest(request_id=whole.accepted.request_id, next_index=12)
    for message in cluster.inference().Resume(request, timeout=10):
        ids += message.chunk.token_ids
        text += message.chunk.text
    assert ids == whole.ids[12:] and whole.text.endswith(text)
