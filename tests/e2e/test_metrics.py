"""Numbers and probes over HTTP, and logs that a machine can read, with nothing in them that a client said."""

import json
import os
import re
import signal
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


def value(text, name, without=None, /, **labels):
    """The first sample of that name and with those labels; where there is none, `without`, and an error without that."""
    for line in text.splitlines():
        if re.match(re.escape(name) + r"[ {]", line) and all(f'{k}="{v}"' in line for k, v in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    if without is not None:
        return without
    raise AssertionError(f"no {name} {labels} in\n{text}")


def test_numbers_follow_the_requests(tmp_path):
    with Cluster(tmp_path, devices=2, tensor_parallel=2, extra="metrics: {compat: [vllm]}") as cluster:
        done = cluster.generate("A river", max_tokens=12)
        assert done.error is None
        # Each counts at its own end: the tokens as they come, the request after its client was told, the call after its status.
        ended = [("tandem_requests_total", {"model": "tiny", "outcome": "length"}),
                 ("tandem_grpc_server_handled_total", {"method": "/tandem.v1.InferenceService/Generate", "code": "OK"})]
        eventually(lambda: all(value(get(cluster, "/metrics")[1], name, 0, **labels) == 1 for name, labels in ended), 10, "all is counted")
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
        # The list of SURFACE.md, one by one; those that need an event are in the tests below.
        for name in ("requests_running", "requests_waiting", "requests_total", "prompt_tokens_total",
                     "generation_tokens_total", "cached_prompt_tokens_total", "inter_token_latency_seconds_count",
                     "request_duration_seconds_count", "queue_time_seconds_count", "prefill_time_seconds_count",
                     "decode_time_seconds_count", "batch_size", "kv_cache_usage_ratio", "preemptions_total",
                     "device_state", "device_cordoned", "drain_inflight_requests", "worker_heartbeat_age_seconds",
                     "build_info", "leader", "leader_epoch", "group_epoch"):
            value(text, f"tandem_{name}")
        assert value(text, "tandem_schedule_decision_seconds_count") > 10
        assert value(text, "tandem_schedule_decision_seconds_bucket", le="1") > 10
        assert value(text, "tandem_kv_cache_blocks", state="free") > 0
        assert value(text, "tandem_kv_cache_blocks", state="used") >= 0  # by the last heartbeat
        assert value(text, "tandem_nccl_errors_total") == 0
        for cause in ("left", "stream", "frozen", "replaced", "disobeyed"):
            assert value(text, "tandem_worker_lost_total", cause=cause) == 0
        for cause in ("not_begun", "migrated"):
            assert value(text, "tandem_requeues_total", cause=cause) == 0
        for cause in ("client_left", "client_asked", "admin"):
            assert value(text, "tandem_aborts_total", cause=cause) == 0
        generate = "/tandem.v1.InferenceService/Generate"
        assert value(text, "tandem_grpc_server_handled_total", method=generate, code="OK") == 1
        for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prompt_tokens_total",
                     "prefix_cache_queries_total", "prefix_cache_hits_total", "num_preemptions_total",
                     "time_to_first_token_seconds_count", "inter_token_latency_seconds_count",
                     "e2e_request_latency_seconds_count", "request_queue_time_seconds_count",
                     "request_prefill_time_seconds_count", "request_decode_time_seconds_count",
                     "request_inference_time_seconds_count", "request_prompt_tokens_count",
                     "request_generation_tokens_count", "cache_config_info"):
            value(text, f"vllm:{name}", model_name="tiny", engine="0")
        value(text, "vllm:admission_rejections_total")
        assert 'block_size="16"' in next(l for l in text.splitlines() if l.startswith("vllm:cache_config_info"))
        # The gateway shows vLLM's names where vLLM did.
        with urllib.request.urlopen(f"http://127.0.0.1:{cluster.http}/metrics", timeout=10) as answer:
            at_gateway = answer.read().decode()
        assert value(at_gateway, "vllm:generation_tokens_total", model_name="tiny") == 12
        assert "tandem_http_requests_total" in at_gateway
        cluster.generate("A river", model="nobody")  # a name that a client made up becomes no label
        text = get(cluster, "/metrics")[1]
        assert "nobody" not in text
        assert value(text, "tandem_request_rejections_total", reason="MODEL_NOT_FOUND") == 1
        assert cluster.generate("A river", max_tokens=4, tenant="blue").error is None
        eventually(lambda: value(get(cluster, "/metrics")[1], "tandem_requests_total", 0, tenant="blue", outcome="length") == 1,
                   10, "the tenant's request is counted")
        assert value(get(cluster, "/metrics")[1], "tandem_generation_tokens_total", model="tiny", tenant="blue") == 4


def test_what_happens_is_counted(tmp_path):
    with Cluster(tmp_path, devices=["sim:RTX3090", "sim:RTX3090"], tensor_parallel=1, device_keys=", sim_speedup: 1") as cluster:
        text = get(cluster, "/metrics")[1]
        assert "tandem_drains_total" not in text and value(text, "tandem_drain_duration_seconds_count") == 0
        cluster.generate([1, 2], max_tokens=10**6)  # beyond the context
        assert cluster.generate([1, 2], max_tokens=400, on_message=lambda call, result: not result.ids).error is not None
        eventually(lambda: value(get(cluster, "/metrics")[1], "tandem_aborts_total", cause="client_left") == 1, 10, "counted")
        index = next(d for d in cluster.status().devices if d.groups).name.rsplit("/", 1)[1]
        cluster.ctl("drain", index, "--reason", "test")
        cluster.ctl("undrain", index)
        os.kill(cluster.children()[f"sim:RTX3090:{1 - int(index)}"], signal.SIGKILL)
        eventually(lambda: sum(value(get(cluster, "/metrics")[1], "tandem_worker_lost_total", cause=c)
                               for c in ("stream", "replaced")) >= 1, 20, "the worker is missed")
        text = get(cluster, "/metrics")[1]
        assert value(text, "tandem_drains_total", result="done") == 1
        assert value(text, "tandem_drain_duration_seconds_count") == 1
        generate = "/tandem.v1.InferenceService/Generate"
        assert value(text, "tandem_grpc_server_handled_total", method=generate, code="CANCELLED") == 1
        eventually(lambda: cluster.ready(), 30, "it serves again")


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
    said = [line["msg"] for line in lines]
    for reason in ("INVALID_PARAMETER", "MODEL_NOT_FOUND"):
        assert any(msg.startswith(f"a call was refused: {reason}: ") for msg in said), reason
    assert {line["program"] for line in lines} >= {"tandem-scheduler", "tandem-worker"}
    assert all(set(line) == {"ts", "level", "program", "where", "msg"} for line in lines)
    assert all(line.startswith(("{", "[", "tandem is ready")) for line in log.splitlines())
