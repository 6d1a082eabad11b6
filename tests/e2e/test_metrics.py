"""Numbers and probes over HTTP, and logs that a machine can read, with nothing in them that a client said."""

import json
import re
import urllib.error
import urllib.request

from harness import Cluster, eventually

SECRET = "xylophone marmalade 7731"


def get(cluster, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{cluster.metrics}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def value(text, name, **labels):
    for line in text.splitlines():
        if re.match(re.escape(name) + r"[ {]", line) and all(f'{k}="{v}"' in line for k, v in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no {name} {labels} in\n{text}")


def test_numbers_follow_the_requests(tmp_path):
    with Cluster(tmp_path, devices=2, tensor_parallel=2, extra="metrics: {compat: [vllm]}") as cluster:
        done = cluster.generate("A river", max_tokens=12)
        assert done.error is None
        eventually(lambda: "tandem_generation_tokens_total" in get(cluster, "/metrics")[1], 10, "the request is counted")
        code, text = get(cluster, "/metrics")
        assert code == 200
        assert value(text, "tandem_generation_tokens_total", model="tiny") == 12
        assert value(text, "tandem_requests_total", model="tiny", outcome="length") == 1
        assert value(text, "tandem_time_to_first_token_seconds_count", model="tiny") == 1
        assert value(text, "tandem_model_replicas", model="tiny", kind="ready") == 1
        assert value(text, "tandem_groups", model="tiny", state="ready") == 1
        assert value(text, "tandem_workers", state="active") == 2
        assert value(text, "tandem_device_memory_bytes", kind="ours") > 0
        assert value(text, "vllm:generation_tokens_total", model_name="tiny") == 12
        assert value(text, "vllm:request_success_total", model_name="tiny", finished_reason="length") == 1
        # Each sample belongs to a family that says its type, and histograms rise.
        families = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
        for line in text.splitlines():
            name = re.match(r"[a-z_:0-9]+", line)
            if name and not line.startswith("#"):
                assert name[0] in families or re.sub(r"_(bucket|sum|count)$", "", name[0]) in families, line
        cluster.generate("A river", model="nobody")  # a name that a client made up becomes no label
        assert "nobody" not in get(cluster, "/metrics")[1]


def test_probes(tmp_path):
    with Cluster(tmp_path, devices=1, tensor_parallel=1) as cluster:
        assert get(cluster, "/health/live")[0] == 200
        assert get(cluster, "/health/ready")[0] == 200
        assert get(cluster, "/nothing")[0] == 404
        cluster.ctl("drain", "0", "--reason", "test", "--force")
        code, text = get(cluster, "/health/ready")
        assert code == 503 and "tiny" in text
        assert get(cluster, "/health/live")[0] == 200
        cluster.ctl("undrain", "0")


def test_json_logs_hold_no_prompt(tmp_path):
    with Cluster(tmp_path, devices=2, tensor_parallel=1, extra="log: {format: json}") as cluster:
        done = cluster.generate(SECRET, max_tokens=8)
        assert done.error is None
        cluster.generate(SECRET, max_tokens=100000)  # refused
        cluster.generate(SECRET, model="nobody")     # refused
        answer = done.text.decode(errors="replace").strip()
        cluster.ctl("drain", "0", "--reason", "look at the log")
        cluster.ctl("undrain", "0")
    log = (tmp_path / "up.log").read_text()
    for word in SECRET.split():
        assert word not in log
    assert len(answer) < 8 or answer not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {line["program"] for line in lines} >= {"tandem-scheduler", "tandem-worker"}
    assert all(set(line) == {"ts", "level", "program", "where", "msg"} for line in lines)
    assert all(line.startswith(("{", "[", "tandem is ready")) for line in log.splitlines())
