"""tandemctl bench against a running service: what it says is what the service did."""

import json
import signal
import subprocess
import time

from harness import BIN, ROOT, Cluster, eventually


def bench(cluster, *words, check=True):
    done = cluster.ctl("bench", "-o", "json", *words, check=check)
    return json.loads(done.stdout)


def test_open_loop_offers_what_it_was_told(cluster):
    report = bench(cluster, "--rate", "40", "--requests", "60", "--input-tokens", "8-24", "--output-tokens", "6", "--slo", "e2e=60s")
    assert report["offered"] == report["completed"] == report["within_slo"] == 60
    assert report["output_tokens"] == 60 * 6
    assert report["ttft_ms"]["count"] == report["tpot_ms"]["count"] == 60
    assert 60 <= report["itl_ms"]["count"] <= 60 * 5
    assert report["e2e_ms"]["p50"] >= report["ttft_ms"]["p50"] > 0
    assert 20 < report["offered_per_s"] < 80


def test_equal_seeds_send_equal_requests(cluster):
    words = ("--concurrency", "4", "--requests", "12", "--input-tokens", "8-64", "--output-tokens", "2-9", "--seed", "5")
    one, other = bench(cluster, *words), bench(cluster, *words)
    assert (one["prompt_tokens"], one["output_tokens"]) == (other["prompt_tokens"], other["output_tokens"])
    assert other["cached_tokens"] > one["cached_tokens"], "the second time prompts are known"


def test_a_trace_is_replayed(cluster):
    report = bench(cluster, "--trace", ROOT / "client" / "examples" / "trace.csv", "--time-scale", "0.3")
    assert report["offered"] == report["completed"] == 60


def test_what_is_too_long_is_left_out_and_counted(cluster, tmp_path):
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"arrival_ms":0,"input_tokens":5000,"output_tokens":5}\n{"arrival_ms":1,"input_tokens":20,"output_tokens":5,"hash_ids":[1]}\n')
    report = bench(cluster, "--trace", trace)
    assert (report["left_out_too_long"], report["completed"]) == (1, 1)


def test_rejections_are_misses(tmp_path):
    limits = "scheduling: {waiting_room_requests: 2}"
    with Cluster(tmp_path, devices=1, tensor_parallel=1, model_keys=", max_num_seqs: 1", extra=limits) as cluster:
        report = bench(cluster, "--rate", "2000", "--requests", "40", "--output-tokens", "40", "--slo", "e2e=100s")
        assert report["rejected"] > 0 and report["completed"] > 0
        assert report["offered"] == 40 == report["rejected"] + report["completed"] + report["failed"]
        assert report["within_slo"] == report["completed"]
        assert abs(report["slo_attainment"] - report["completed"] / 40) < 1e-9
        assert sum(report["reasons"].values()) == report["rejected"] + report["failed"]
        assert set(report["reasons"]) <= {"QUEUE_FULL", "TENANT_LIMIT"}


def test_an_interrupted_run_reports_what_it_has(cluster):
    process = subprocess.Popen([BIN / "tandemctl", "--config", cluster.config, "bench", "--rate", "20", "--requests", "100000",
                                "--output-tokens", "4", "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: cluster.status().requests_running > 0, 20, "the load runs")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    report = json.loads(out)
    assert 0 < report["offered"] < 100000 and report["completed"] > 0


def test_bad_arguments_are_refused(cluster):
    for words, text in [((), "--rate, --concurrency or --trace"), (("--rate", "1", "--concurrency", "1"), "--rate, --concurrency or --trace"),
                        (("--rate", "1", "--slo", "x=1"), "--slo x=1"), (("--rate", "1", "--input-tokens", "0"), "'0'"),
                        (("--trace", "/nowhere.csv"), "/nowhere.csv"), (("--rate", "1", "--model", "nobody"), "nobody")]:
        done = cluster.ctl("bench", *words, check=False)
        assert done.returncode not in (0, 1), words
        assert text in done.stderr and done.stderr.count("\n") == 1, (words, done.stderr)
