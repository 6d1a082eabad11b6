#!/usr/bin/env python3
"""Routing rules against each other on real traces, in virtual time: tandemctl simulate --policy all.

    python3 bench/simulate_bench.py [TRACES]         default: ../shared/traces

Eight H100 serve Llama-3.1-8B. Goodput is the share of all offered requests with a first token within 2 s and 100 ms a token.
`default` is Tandem's own core; target: no rule is better by more than 0.02. The weights of its rule were chosen on the first
part of each trace; `later` is what comes after that part, and was not looked at for them. The times of decisions are of this
machine.
"""

import csv
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("TANDEM_BUILD_DIR", ROOT / "build"))
CLUSTER = ROOT / "simulate" / "traces" / "h100.yaml"
AGENTS, MOONCAKE = "agentic_fleet_30min.csv.gz", "mooncake_conversation.jsonl.gz"
# Load factors at which some of the requests miss: below, every rule does well; far above, none does.
RUNS = [(AGENTS, "first", 1500, 1), (AGENTS, "first", 1500, 2), (AGENTS, "later", 1500, 1), (AGENTS, "later", 1500, 2),
        (MOONCAKE, "first", 2000, 2), (MOONCAKE, "first", 2000, 3), (MOONCAKE, "later", 2000, 3), (MOONCAKE, "later", 2000, 4),
        ("azure2023_conv.csv.gz", "first", 4000, 8), ("azure2023_code.csv.gz", "first", 4000, 2)]
MARGIN = 0.02


def later_requests(path, skip, out):
    """What follows the first `skip` requests, as a trace that begins at once; of sessions, those that begin later."""
    with gzip.open(path, "rt") as file:
        if path.suffixes[0] == ".jsonl":
            rows = [json.loads(line) for line in file][skip:]
            for row in rows:
                out.write(json.dumps({**row, "arrival_ms": row["arrival_ms"] - rows[0]["arrival_ms"]}) + "\n")
            return
        table = csv.DictReader(file)
        rows = list(table)
    seen = {row["session"] for row in rows[:skip]}
    rows = [row for row in rows[skip:] if row["session"] not in seen]
    begin = int(rows[0]["arrival_ms"])
    writer = csv.DictWriter(out, table.fieldnames)
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "arrival_ms": int(row["arrival_ms"]) - begin})


def results(trace, requests, factor):
    command = [BUILD / "bin" / "tandemctl", "simulate", "--trace", trace, "--cluster", CLUSTER, "--requests", requests,
               "--load-factor", factor, "--policy", "all", "-o", "json"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"simulate_bench: {done.stderr.strip()}")
    return {one["policy"]: one for one in json.loads(done.stdout)["results"]}


def compare(name, part, requests, factor, trace):
    """Prints a row for each rule. By how much the best other one is better."""
    found = results(trace, requests, factor)
    print(f"{name}, {part} {found['default']['offered']} requests, {factor} times as fast")
    print(f"  {'policy':<20} goodput  rejected  TTFT p50   p99 ms  prefix hits  decision p50   p99 us")
    for policy, one in found.items():
        print(f"  {policy:<20} {one['goodput']['share']:7.3f} {one['rejected']:9} {one['ttft_ms']['p50']:9.0f} {one['ttft_ms']['p99']:8.0f}"
              f" {one['prefix_hit_share']:12.3f} {one['decision_us']['p50']:13.1f} {one['decision_us']['p99']:8.1f}", flush=True)
    return max(one["goodput"]["share"] for policy, one in found.items() if policy != "default") - found["default"]["goodput"]["share"]


def main():
    traces = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT.parent / "shared" / "traces")
    if not traces.is_dir():
        print(f"skipped: there are no traces in {traces}; give their folder: python3 bench/simulate_bench.py TRACES")
        return
    print(f"machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} before the start")
    print("command: simulate_bench.py; tandemctl simulate --policy all, 8 x H100, llama-3.1-8b, 2,000 ms and 100 ms")
    worst = 0.0
    for name, part, requests, factor in RUNS:
        with tempfile.NamedTemporaryFile("w", suffix="".join(pathlib.Path(name).suffixes[:1])) as cut:
            trace = traces / name
            if part == "later":
                later_requests(trace, requests, cut)
                cut.flush()
                trace = pathlib.Path(cut.name)
            worst = max(worst, compare(name, part, requests, factor, trace))
    print(f"the most that another rule is better by: {worst:.3f} (target <= {MARGIN})")


if __name__ == "__main__":
    main()
