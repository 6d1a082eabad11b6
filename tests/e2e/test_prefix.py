"""A prompt goes where its beginning is in the cache: two engines of one model, of which one knows the conversation.

Ties go to the lower group, so a conversation that began on the higher one shows whether the cache decided.
"""

import re
import threading

from harness import Cluster, eventually, unhurried
from test_metrics import get, value
from test_restart import kill_scheduler

TALK = [7 + i % 200 for i in range(400)]  # 25 blocks of the cache


def groups_by_use(cluster):
    """Begins the conversation on the higher group, the lower being busy; its name and the other's."""
    running, release = threading.Event(), threading.Event()

    def occupy(call, result):
        running.set()
        return not release.is_set()

    busy = threading.Thread(target=lambda: cluster.generate([3] * 40, max_tokens=900, on_message=occupy))
    busy.start()
    assert running.wait(30)
    first = cluster.generate(TALK, max_tokens=4)
    release.set()
    busy.join()
    assert first.error is None and first.finished.usage.cached_tokens == 0
    eventually(lambda: all(g.kv_booked_tokens == 0 for g in cluster.status().groups), 10, "both are idle")
    return first.accepted.group


def beginnings_known(cluster):
    return value(get(cluster, "/metrics")[1], "tandem_prefix_index_entries", model="tiny")


def test_a_conversation_goes_on_where_it_is_cached(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas=2, **unhurried(2, pace=0.1)) as cluster:
        home = groups_by_use(cluster)
        other = cluster.generate([5] * 100, max_tokens=4)
        assert other.accepted.group != home, "nothing of it is cached: the lower of two idle groups"
        for turn in range(3):
            again = cluster.generate(TALK + [11 + turn] * 40, max_tokens=4)
            assert again.error is None
            assert again.accepted.group == home
            assert again.finished.usage.cached_tokens >= 384, "16 tokens short of 400 at most"
        said = cluster.ctl("explain", f"request/{again.accepted.request_id}").stdout
        assert re.search(r"the first 384 prompt tokens are in the cache on groups/", said), said

        # A restarted scheduler is told what the caches hold, soon after their groups are adopted.
        known = beginnings_known(cluster)
        assert known > 0
        kill_scheduler(cluster)
        eventually(lambda: cluster.ready() and len(cluster.status().groups) == 2, 30, "both groups are adopted")
        eventually(lambda: beginnings_known(cluster) >= known, 10, "the caches are known again")
        again = cluster.generate(TALK + [31] * 40, max_tokens=4)
        assert again.error is None
        assert again.accepted.group == home and again.finished.usage.cached_tokens >= 384
        cluster.check_nothing_left()


def test_without_the_cache_load_alone_decides(tmp_path):
    with Cluster(tmp_path, tensor_parallel=1, replicas=2, extra="scheduling: {prefix_cache: false}", **unhurried(2, pace=0.1)) as cluster:
        home = groups_by_use(cluster)
        again = cluster.generate(TALK, max_tokens=4)
        assert again.accepted.group != home and again.finished.usage.cached_tokens == 0
