"""What clients send and get stays between them and the engine: no log, no metric, no error and no file of state has it."""

import os
import signal
import urllib.request

from harness import Cluster, eventually

SECRET = "xylophone-quartz-7741"


def test_no_prompt_and_no_answer_in_logs_metrics_and_state(tmp_path):
    with Cluster(tmp_path) as cluster:
        answer = cluster.generate(f"Once upon a {SECRET} time", max_tokens=64)
        assert answer.error is None
        stopped = cluster.generate(f"{SECRET} and", max_tokens=64, stop=[SECRET], idempotency_key="k1")
        assert stopped.error is None
        refused = cluster.generate(f"{SECRET} " * 2000, max_tokens=4)
        assert refused.error is not None and SECRET not in refused.error.details()
        spoiled = cluster.generate(SECRET.encode() + b"\xff\xfe", max_tokens=4)
        assert spoiled.error is not None and SECRET not in spoiled.error.details()
        # A worker and the scheduler die with a request in them: what they say about it then names no word of it.
        call = cluster.inference().Generate(cluster.request(f"{SECRET} once", max_tokens=400), timeout=60)
        assert any(m.HasField("chunk") for m in call)
        os.kill(cluster.children()["cpu:0"], signal.SIGKILL)
        for _ in call:
            pass
        os.kill(cluster.children()["scheduler"], signal.SIGKILL)
        eventually(cluster.ready, 30, "the service is back")
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{cluster.metrics}/metrics", timeout=10).read()
        assert SECRET.encode() not in metrics
        # Of the answer a row of words that no message of ours has.
        words = answer.text.split()
        telling = b" ".join(words[4:12])
        assert len(telling) > 10
        cluster.log.flush()
        for path in [cluster.log_path, *(tmp_path / "state").rglob("*")]:
            if not path.is_file():
                continue
            content = path.read_bytes()
            assert SECRET.encode() not in content, path
            assert telling not in content, path
