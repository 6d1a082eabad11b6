"""tandemctl simulate as a script would call it: what must hold of every policy."""

import copy
import json
import subprocess

import pytest

from harness import BIN, ROOT

TRACES = ROOT / "simulate" / "traces"
CLUSTER = TRACES / "h100.yaml"
POLICIES = ["default", "round_robin", "least_requests", "power_of_two", "sglang_cache_aware", "dynamo_kv"]
SMALL = ["mooncake_250.jsonl", "azure_conv_400.csv", "agentic_300.csv"]


def simulate(*arguments, timeout=300):
    return subprocess.run([BIN / "tandemctl", "simulate", *map(str, arguments)], capture_output=True, text=True, timeout=timeout)


def simulated(trace, *arguments, cluster=CLUSTER):
    result = simulate("--trace", trace, "--cluster", cluster, *arguments, "-o", "json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def of_all(trace, *arguments, **more):
    return {one["policy"]: one for one in simulated(trace, "--policy", "all", *arguments, **more)["results"]}


def without_real_time(report):
    report = copy.deepcopy(report)
    del report["decision_us"]
    return report


@pytest.fixture(scope="module")
def small():
    return {name: of_all(TRACES / name) for name in SMALL}


@pytest.mark.parametrize("name", SMALL)
def test_every_request_ends_once_with_all_its_tokens(small, name):
    lines = (TRACES / name).read_text().splitlines()
    rows = [json.loads(line) for line in lines] if name.endswith("jsonl") else [
        dict(zip(lines[0].split(","), line.split(","))) for line in lines[1:]]
    assert list(small[name]) == POLICIES
    for report in small[name].values():
        assert report["offered"] == len(rows) == report["completed"] + report["rejected"]
        if report["rejected"] == 0:
            assert report["output_tokens"] == sum(max(1, int(row["output_tokens"])) for row in rows)
            assert report["prompt_tokens"] == sum(int(row["input_tokens"]) for row in rows)
        for times in (report["ttft_ms"], report["tpot_ms"], report["e2e_ms"]):
            assert 0 < times["p50"] <= times["p90"] <= times["p99"]
        assert report["goodput"]["slo"] == "ttft=2000ms,tpot=100ms"
        assert report["goodput"]["share"] * report["offered"] == pytest.approx(report["goodput"]["requests"])
        assert 0 < report["decision_us"]["p50"] <= report["decision_us"]["p99"]


def test_prefixes_are_found_where_the_trace_has_them(small):
    for report in small["azure_conv_400.csv"].values():
        assert report["prefix_hit_share"] == 0
    for name in ("mooncake_250.jsonl", "agentic_300.csv"):
        for report in small[name].values():
            assert report["prefix_hit_share"] > 0.01, (name, report["policy"])
    agents = small["agentic_300.csv"]
    for follows in ("default", "sglang_cache_aware", "dynamo_kv"):
        assert agents[follows]["prefix_hit_share"] > agents["round_robin"]["prefix_hit_share"]


@pytest.mark.parametrize("policy", ["default", "power_of_two"])
def test_equal_seeds_give_equal_reports(policy):
    one, two = (simulated(TRACES / "mooncake_250.jsonl", "--policy", policy, "--seed", 7) for _ in range(2))
    assert without_real_time(one) == without_real_time(two)
    assert one["seed"] == 7


def test_with_one_group_all_policies_are_one():
    reports = of_all(TRACES / "azure_conv_400.csv", "--replicas", 1)
    for report in reports.values():
        assert report["groups"] == 1
        for key in ("completed", "ttft_ms", "tpot_ms", "e2e_ms", "goodput", "prefix_hit_tokens", "preemptions"):
            assert report[key] == reports["default"][key], (report["policy"], key)


def test_whatever_completes_is_good_where_anything_is():
    report = simulated(TRACES / "mooncake_250.jsonl", "--load-factor", 4, "--slo-ttft-ms", 10**9, "--slo-tpot-ms", 10**9)
    assert report["goodput"]["requests"] == report["completed"]
    nothing = simulated(TRACES / "mooncake_250.jsonl", "--slo-ttft-ms", 1, "--slo-tpot-ms", 1)
    assert nothing["goodput"]["requests"] == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_more_load_never_raises_the_share_that_is_good(policy):
    shares = [simulated(TRACES / "mooncake_250.jsonl", "--policy", policy, "--load-factor", factor)["goodput"]["share"]
              for factor in (1, 4, 16)]
    assert shares[1] <= shares[0] + 0.02 and shares[2] <= shares[1] + 0.02, shares
    assert shares[2] < shares[0], "sixteen times the load must show"


def test_a_table_for_people():
    one = simulate("--trace", TRACES / "azure_conv_400.csv", "--cluster", CLUSTER)
    assert one.returncode == 0, one.stderr
    for word in ("TTFT", "TPOT", "E2E", "goodput", "prefix", "preempted", "decision", "8 groups of TP=1"):
        assert word in one.stdout
    every = simulate("--trace", TRACES / "azure_conv_400.csv", "--cluster", CLUSTER, "--policy", "all")
    assert [line.split()[0] for line in every.stdout.splitlines()[2:]] == POLICIES


def test_what_is_wrong_is_said_in_one_line_with_file_and_line(tmp_path):
    header = "arrival_ms,input_tokens,output_tokens\n"
    files = {
        "cells.csv": header + "1,2\n", "words.csv": header + "1,2,3\n1,many,3\n", "empty.csv": header,
        "broken.jsonl": '{"arrival_ms":1,', "packed.csv.gz": b"\x1f\x8bnot really",
        "orphan.csv": "arrival_ms,session,req,parent,shared_blocks,blocks,input_tokens,output_tokens\n1,1,1,0,1,1,100,1\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "cluster.yaml").write_text("hosts:\n  - {name: box, gpu: H100, devices: 0}\n")
    (tmp_path / "sizes.yaml").write_text("hosts:\n  - {name: box, gpu: A100, devices: 2}\n")
    good = TRACES / "azure_conv_400.csv"
    cases = [
        (("--trace", tmp_path / "cells.csv", "--cluster", CLUSTER), "cells.csv:2: 2 cells under 3 names"),
        (("--trace", tmp_path / "words.csv", "--cluster", CLUSTER), "words.csv:3: input_tokens is no number"),
        (("--trace", tmp_path / "empty.csv", "--cluster", CLUSTER), "holds no request"),
        (("--trace", tmp_path / "broken.jsonl", "--cluster", CLUSTER), "broken.jsonl:1: is no JSON object"),
        (("--trace", tmp_path / "packed.csv.gz", "--cluster", CLUSTER), "packed.csv.gz"),
        (("--trace", tmp_path / "orphan.csv", "--cluster", CLUSTER), "orphan.csv:2: parent 0 of session 1"),
        (("--trace", tmp_path / "nowhere.csv", "--cluster", CLUSTER), "nowhere.csv: cannot be read"),
        (("--trace", good, "--cluster", tmp_path / "nowhere.yaml"), "nowhere.yaml"),
        (("--trace", good, "--cluster", tmp_path / "cluster.yaml"), "cluster.yaml:2"),
        (("--trace", good, "--cluster", tmp_path / "sizes.yaml"), "memory"),
        (("--trace", good, "--cluster", CLUSTER, "--policy", "best"), "round_robin"),
        (("--trace", good, "--cluster", CLUSTER, "--load-factor", "0"), "--load-factor"),
        (("--trace", good, "--cluster", CLUSTER, "--model", "nobody"), "llama-3.1-8b"),
        (("--trace", good, "--cluster", CLUSTER, "--model", "llama-3.1-70b", "--tensor-parallel", "1"), "replicas have room"),
        (("--trace", good, "--cluster", CLUSTER, "--model", "llama-2-7b", "--max-model-len", "9000"), "4096 positions"),
        (("--cluster", CLUSTER), "--trace"),
    ]
    for arguments, said in cases:
        result = simulate(*arguments)
        assert result.returncode == 2 and said in result.stderr, (arguments, result)
        assert len(result.stderr.strip().splitlines()) == 1 and result.stdout == "", result
