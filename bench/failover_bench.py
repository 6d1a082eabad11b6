#!/usr/bin/env python3
"""How long a client waits when something fails: the time from the fault to the next token, on real processes.

    bench/failover_bench.py [--rounds N]

One scheduler, simulated cards (their tokens are checked), eight streams. Each figure is the worst over the streams and
the median and worst over the rounds. Programs of build/, or TANDEM_BUILD_DIR; needs .venv (scripts/test makes it).
"""

import argparse
import contextlib
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))

from harness import MODEL, eventually  # noqa: E402
from hash_chain import Vocabulary  # noqa: E402
from rig import Rig  # noqa: E402
from verifying_load import Load  # noqa: E402

STREAMS = 8
SETTLE = 1.0  # seconds of calm load before a fault
WAKE = 0.3  # seconds after it in which what was under way may still arrive
SHORTEST = 0.02  # seconds; shorter gaps are not told from none
VOCABULARY = Vocabulary.of(MODEL)


@contextlib.contextmanager
def service(devices, **keys):
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as tmp, Rig(tmp, ["sim:RTX3090"] * devices, **keys) as rig:
        yield rig


def measure(rig, hurt, heal=lambda: None, after=6.0):
    """Seconds from the fault to the next token of the stream that waited longest. The load must come out whole."""
    load = Load(rig.target, VOCABULARY, streams=STREAMS, tokens=(700, 900), prompt=(4, 8), long_gap=SHORTEST).run_in_thread()
    eventually(lambda: load.outcome.tokens > 200, 10, "tokens")
    time.sleep(SETTLE)
    begin = time.monotonic()
    hurt()
    time.sleep(after)
    heal()
    out = load.stop()
    assert out.wrong == 0, f"lost {out.lost}, duplicated {out.duplicated}, corrupted {out.corrupted}, {out.failures}"
    gaps = [gap for gap in out.gaps if gap.begin <= begin + WAKE and begin <= gap.end]
    worst = max(gaps, key=lambda gap: gap.seconds, default=None)
    return worst.end - begin if worst else SHORTEST


def of_group(rig):
    """A worker that serves, not always rank 0."""
    group = sorted(rig.groups().items())[0][1]
    return rig.worker(group[0])


def killed(replicas, devices):
    def run(_):
        with service(devices, replicas=replicas, tensor_parallel=2, speedup=1) as rig:
            return measure(rig, lambda: rig.kill(of_group(rig)), after=4.0)
    return run


def frozen(_):
    with service(4, replicas=2, tensor_parallel=2, speedup=1) as rig:
        name = of_group(rig)
        return measure(rig, lambda: rig.signal(name, 19), lambda: rig.signal(name, 18), after=8.0)


def scheduler_killed(_):
    with service(4, replicas=2, tensor_parallel=2, speedup=1) as rig:
        return measure(rig, lambda: rig.kill("scheduler"), after=6.0)


def idle_drain(_):
    with service(4, replicas=2, tensor_parallel=1) as rig:
        busy = {device for group in rig.groups().values() for device in group}
        idle = next(index for index in range(4) if index not in busy)
        begin = time.monotonic()
        done = rig.ctl("drain", str(idle), "--reason", "bench")
        assert done.returncode == 0, done.stderr
        return time.monotonic() - begin


def drain_under_load(_):
    """Requests of 1,000 that failed while the device of one of two replicas was drained and came back."""
    with service(3, replicas=2, tensor_parallel=1, speedup=10) as rig:
        load = Load(rig.target, VOCABULARY, streams=32, requests=1000, tokens=(20, 120)).run_in_thread()
        eventually(lambda: load.outcome.finished > 100, 30, "a tenth of the requests")
        index = sorted(rig.groups().values())[0][0]
        done = rig.ctl("drain", str(index), "--reason", "bench", "--deadline", "2s")
        assert done.returncode == 0, done.stderr
        out = load.join()
        assert out.requests == 1000 and out.lost + out.duplicated + out.corrupted == 0
        return out.unfinished + sum(out.refusals.values())


CASES = [  # what, target, unit, how, rounds at most
    ("worker killed > next token, standby replica", 1.0, "s", killed(2, 4), None),
    ("worker killed > next token, group forms again", 2.0, "s", killed(1, 3), None),  # cards to spare; the load itself takes 0.0 s
    ("worker frozen > next token, standby replica", 6.0, "s", frozen, None),
    ("scheduler killed > next token at the client", 5.0, "s", scheduler_killed, None),
    ("drain of an idle device, tandemctl to its end", 1.0, "s", idle_drain, None),
    ("drain under load: failed of 1,000 requests", 0, "", drain_under_load, 1),
]


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    flags = parser.parse_args()
    print(f"machine: {machine()}")
    print(f"command: bench/failover_bench.py --rounds {flags.rounds}")
    print(f"{'':50} {'median':>8} {'worst':>8} {'target':>8}")
    missed = False
    for what, target, unit, run, most in CASES:
        if flags.only not in what:
            continue
        figures = [run(i) for i in range(min(flags.rounds, most or flags.rounds))]
        worst = max(figures)
        missed |= worst > target
        shown = (lambda x: f"{x:.2f} {unit}") if unit else (lambda x: f"{x:g}")
        print(f"{what:50} {shown(statistics.median(figures)):>8} {shown(worst):>8} {'<= ' + shown(target):>8}"
              f"{'' if worst <= target else '   MISSED'}", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
