"""Drain and migration with real processes: clients see a pause at most, and a drained worker holds nothing."""

import os
import pathlib
import re
import signal
import threading
import time

from harness import MODEL, SLOW, Cluster, eventually, unhurried
from hash_chain import Vocabulary, continuation
from protos import admin


VOCABULARY = Vocabulary.of(MODEL)


def resident_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status).group(1)) / 1024


def device_of(cluster, index):
    return next(d for d in cluster.status().devices if d.name.endswith(f"/{index}"))


def index_of(cluster, group):
    devices = next(g for g in cluster.status().groups if g.name == group).devices
    return int(devices[0].rsplit("/", 1)[1])


def on_first_token(cluster, act, prompt="Once upon a time", **fields):
    """Generates, and calls act(group) in a thread of its own once tokens come."""
    begun = []

    def watch(_, result):
        if result.ids and not begun:
            begun.append(threading.Thread(target=act, args=(result.accepted.group,)))
            begun[0].start()
    result = cluster.generate(prompt, on_message=watch, timeout=120, **fields)
    begun[0].join()
    return result


def test_a_killed_worker_changes_no_byte(tmp_path):
    """Greedy and sampled with penalties: the other replica has equal numerics and goes on with the same tokens."""
    with Cluster(tmp_path, tensor_parallel=1, replicas=2) as cluster:
        def strike(calm, **fields):
            # Known before it runs: on a busy machine it may have ended by the time that the scheduler has been asked.
            pids = {g.name: cluster.children()[f"cpu:{index_of(cluster, g.name)}"] for g in cluster.status().groups}
            struck = on_first_token(cluster, lambda group: os.kill(pids[group], signal.SIGKILL), max_tokens=900, **fields)
            assert struck.error is None
            assert (struck.ids, struck.text) == (calm.ids, calm.text)
            assert struck.finished.usage.completion_tokens == 900
            assert struck.accepted.numerics_id == calm.accepted.numerics_id
            eventually(lambda: sum(m.replicas_ready for m in cluster.status().models) == 2, 30, "both replicas serve again")
            return struck.accepted.attempt.counter == 2

        for fields in ({}, {"temperature": 0.9, "seed": 7, "top_p": 0.95}):
            calm = cluster.generate("Once upon a time", max_tokens=900, **fields)
            # A machine may end it before it is struck.
            assert any(strike(calm, **fields) for _ in range(5)), "it went on elsewhere"


def test_a_drain_at_its_deadline_moves_what_runs(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas=2, **unhurried(2)) as cluster:
        def drain(group):
            cluster.ctl("drain", index_of(cluster, group), "--reason", "now", "--deadline", "50ms")
        moved = on_first_token(cluster, drain, [1, 2, 3], max_tokens=80)
        assert moved.error is None and moved.ids == continuation([1, 2, 3], 80, VOCABULARY)
        assert moved.accepted.attempt.counter == 2, "it was drained away"
        said = cluster.ctl("explain", f"request/{moved.accepted.request_id}").stdout
        assert "to go on elsewhere" in said


def test_a_drain_under_load_fails_nobody(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas=2) as cluster:
        stop, outcomes, lock = threading.Event(), [], threading.Lock()

        def client(number):
            while not stop.is_set():
                outcome = cluster.generate([40 + number] * 6, max_tokens=60, timeout=60)
                with lock:
                    outcomes.append(outcome)
        threads = [threading.Thread(target=client, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for device in (0, 1):
            eventually(lambda: cluster.status().requests_running >= 4, 20, "requests run")
            cluster.ctl("drain", device, "--reason", "rolling", "--deadline", "200ms")
            assert device_of(cluster, device).state == admin.DEVICE_DRAINED
            cluster.ctl("undrain", device)
            eventually(lambda: sum(m.replicas_ready for m in cluster.status().models) == 2, 30, "both replicas serve again")
        stop.set()
        for thread in threads:
            thread.join()
        assert len(outcomes) > 30
        failed = [o.error for o in outcomes if o.error is not None]
        assert not failed, failed[0]
        assert all(len(o.ids) == 60 for o in outcomes)


def test_the_replacement_serves_before_the_last_replica_stops(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas=1) as cluster:
        group = cluster.generate("Hello", max_tokens=2).accepted.group
        old = index_of(cluster, group)
        said = cluster.ctl("drain", old, "--reason", "look", "--dry-run").stdout
        assert "a replacement forms first on" in said, said
        assert cluster.status().groups[0].name == group, "a dry run changes nothing"
        done = cluster.ctl("drain", old, "--reason", "new fan")
        assert "serves until replaced" in done.stdout and "replacement groups/" in done.stdout, done.stdout
        after = cluster.generate("Hello", max_tokens=2)
        assert after.error is None and index_of(cluster, after.accepted.group) == 1 - old
        # The last one, with the other device drained: refused, in the dry run as in the drain.
        for flag in ((), ("--dry-run",)):
            refused = cluster.ctl("drain", 1 - old, "--reason", "both", *flag, check=False)
            assert refused.returncode == 6 and "no room for another" in refused.stderr, refused.stderr


def test_an_idle_device_drains_at_once_and_holds_nothing(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas=1) as cluster:
        busy = index_of(cluster, cluster.generate("Hello", max_tokens=2).accepted.group)
        idle = 1 - busy
        pids = cluster.children()
        begin = time.monotonic()
        cluster.ctl("drain", idle, "--reason", "pull the card")
        assert time.monotonic() - begin < 10 * SLOW, "nothing runs there, so nothing is waited for"
        assert device_of(cluster, idle).state == admin.DEVICE_DRAINED
        # One that had a model: it is the same process by its id, and a new one by what it holds.
        loaded = resident_mib(pids[f"cpu:{busy}"])
        cluster.ctl("undrain", idle)
        cluster.ctl("drain", busy, "--reason", "the other one")
        assert cluster.children() == pids, "nobody was restarted by the supervisor"
        words = pathlib.Path(f"/proc/{pids[f'cpu:{busy}']}/cmdline").read_bytes().split(b"\0")
        assert words.count(b"--parked") == 1
        assert resident_mib(pids[f"cpu:{busy}"]) < min(loaded, 40)
        cluster.ctl("undrain", busy)
        assert device_of(cluster, busy).state == admin.DEVICE_ACTIVE
        cluster.ctl("drain", idle, "--reason", "back again")
        after = cluster.generate("Hello", max_tokens=2)
        assert after.error is None and index_of(cluster, after.accepted.group) == busy, "a parked worker serves again"


def test_undrain_before_the_end(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas=2, **unhurried(2)) as cluster:
        def drain_and_undo(group):
            index = index_of(cluster, group)
            cluster.ctl("drain", index, "--reason", "perhaps", "--deadline", "60s", "--detach")
            cluster.ctl("undrain", index)
        result = on_first_token(cluster, drain_and_undo, [1, 2, 3], max_tokens=80)
        assert result.error is None and result.ids == continuation([1, 2, 3], 80, VOCABULARY)
        assert result.accepted.attempt.counter == 1, "it never moved"
        eventually(lambda: sum(m.replicas_ready for m in cluster.status().models) == 2, 10, "both replicas serve")
