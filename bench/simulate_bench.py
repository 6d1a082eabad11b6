#!/usr/bin/env python3
"""Routing rules against each other on real traces, in virtual time: tandemctl simulate --policy all.

    python3 bench/simulate_bench.py [TRACES]         default: ../shared/traces

Eight H100 serve Llama-3.1-8B. Goodput is the share of all offered requests with a first token within 2 s and 100 ms a token.
`default` is Tandem's own core; target: no rule is better by more than 0.02. The times of decisions are of this machine.
"""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("TANDEM_BUILD_DIR", ROOT / "build"))
CLUSTER = ROOT / "simulate" / "traces" / "h100.yaml"
# Load factors at which some of the requests miss: below, every rule does well; far above, none does.
RUNS = [("agentic_fleet_30min.csv.gz", 1500, 1), ("agentic_fleet_30min.csv.gz", 1500, 2), ("mooncake_conversation.jsonl.gz", 2000, 2),
        ("mooncake_conversation.jsonl.gz", 2000, 3), ("azure2023_conv.csv.gz", 4000, 8), ("azure2023_code.csv.gz", 4000, 2)]
MARGIN = 0.02


def main():
    traces = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT.parent / "shared" / "traces")
    if not traces.is_dir():
        print(f"skipped: there are no traces in {traces}; give their folder: python3 bench/simulate_bench.py TRACES")
        return
    print(f"machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} before the start")
    print("command: simulate_bench.py; tandemctl simulate --policy all, 8 x H100, llama-3.1-8b, 2,000 ms and 100 ms")
    worst = 0.0
    for name, requests, factor in RUNS:
        command = [BUILD / "bin" / "tandemctl", "simulate", "--trace", traces / name, "--cluster", CLUSTER, "--requests", requests,
                   "--load-factor", factor, "--policy", "all", "-o", "json"]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"simulate_bench: {done.stderr.strip()}")
        print(f"{name}, {requests} requests, {factor} times as fast\n  {'policy':<20} goodput  rejected  TTFT p50   p99 ms  prefix hits  decision p50   p99 us")
        results = {one["policy"]: one for one in json.loads(done.stdout)["results"]}
        for policy, one in results.items():
            print(f"  {policy:<20} {one['goodput']['share']:7.3f} {one['rejected']:9} {one['ttft_ms']['p50']:9.0f} {one['ttft_ms']['p99']:8.0f}"
                  f" {one['prefix_hit_share']:12.3f} {one['decision_us']['p50']:13.1f} {one['decision_us']['p99']:8.1f}", flush=True)
        best = max(one["goodput"]["share"] for policy, one in results.items() if policy != "default")
        worst = max(worst, best - results["default"]["goodput"]["share"])
    print(f"the most that another rule is better by: {worst:.3f} (target <= {MARGIN})")


if __name__ == "__main__":
    main()
