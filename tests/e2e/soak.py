"""Breaks a running service on purpose and at random while clients check every token: scripts/soak.

Two groups of two simulated cards and two standby cards serve a steady load through fault proxies. One seed draws the
faults, their victims, times and lengths; the list is printed. At the end there is one table, and the exit status is 0
only if nothing was lost, duplicated, corrupted or left unfinished, and memory and descriptors stayed within bounds.
"""

import argparse
import collections
import contextlib
import random
import signal
import sys
import tempfile
import time

from fault_proxy import Faults
from harness import MODEL, eventually
from hash_chain import Vocabulary
from rig import Rig
from verifying_load import Load

DEVICES = 6
WARM_UP = 4.0  # seconds of load before the first footprint, so that pools and caches are there
# What a process may hold more at the end than after the warm-up. Allocators keep some of a peak.
MOST_GROWTH_BYTES = 24 << 20
# The scheduler keeps each ended request for its retention, so that a client may still come back: tokens, text and facts.
RETENTION_S = 60
BYTES_OF_AN_ENDED_REQUEST = 8 << 10
MOST_GROWTH_DESCRIPTORS = 16
WAKE = 0.3  # seconds after a fault in which what was under way may still arrive
LONG_GAP = 0.2  # seconds without a token; shorter ones are not kept


class Breaker:
    """The faults by name. Each lasts a bounded time and is over when it returns."""

    def __init__(self, rig, dice):
        self.rig, self.dice = rig, dice

    def victim(self):
        """Mostly a card that serves. Waits for a scheduler that can tell which."""
        with contextlib.suppress(AssertionError):
            eventually(self.rig.alive, 10, "a scheduler")
        groups = list(self.rig.groups().values())
        busy = sorted(device for group in groups for device in group)
        indices = busy if busy and self.dice.random() < 0.85 else range(DEVICES)
        return self.rig.worker(self.dice.choice(list(indices)))

    def kill_worker(self, name):
        self.rig.kill(name)

    def kill_group(self, name):
        index = int(name.rsplit(":", 1)[1])
        group = next((g for g in self.rig.groups().values() if index in g), [index])
        for name in [n for n in self.rig.workers if int(n.rsplit(":", 1)[1]) in group]:
            self.rig.kill(name)

    def freeze_short(self, name):
        with self.rig.frozen(name):
            time.sleep(self.dice.uniform(0.3, 1.0))

    def freeze_long(self, name):
        with self.rig.frozen(name):
            time.sleep(self.dice.uniform(6, 9))

    def slow(self, name):
        self.rig.signal(name, signal.SIGUSR1)
        time.sleep(self.dice.uniform(2, 4))
        self.rig.signal(name, signal.SIGUSR1)

    def stuck(self, name):
        self.rig.signal(name, signal.SIGUSR2)
        time.sleep(self.dice.uniform(1, 3))
        self.rig.signal(name, signal.SIGUSR2)

    def cut_line(self, name):
        self.rig.line(name).cut()

    def half_open_line(self, name):
        self.rig.line(name).half_open()

    def stall_line(self, name):
        self._line(name, Faults(stall=True), self.dice.uniform(0.5, 8))

    def slow_line(self, name):
        self._line(name, Faults(delay=0.1, jitter=0.1), self.dice.uniform(1, 3))

    def cut_clients(self, _):
        self.rig.clients.cut()

    def stall_clients(self, _):
        self.rig.clients.set(down=Faults(stall=True))
        time.sleep(self.dice.uniform(0.3, 2))
        self.rig.clients.set()

    def kill_scheduler(self, _):
        self.rig.kill("scheduler")

    def freeze_scheduler(self, _):
        with self.rig.frozen("scheduler"):
            time.sleep(self.dice.uniform(0.5, 4))

    def _line(self, name, faults, seconds):
        self.rig.line(name).set(up=faults, down=faults)
        time.sleep(seconds)
        self.rig.line(name).set()


KINDS = {  # by weight
    "kill_worker": 4, "kill_group": 2, "freeze_short": 2, "freeze_long": 1, "slow": 1, "stuck": 1, "cut_line": 3, "half_open_line": 1,
    "stall_line": 2, "slow_line": 1, "cut_clients": 2, "stall_clients": 1, "kill_scheduler": 2,
    "freeze_scheduler": 1,
}


def soak(minutes, fault_every, seed, kinds, streams, speedup=2.0, say=print):
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="tandem-soak-") as tmp, \
            Rig(tmp, ["sim:RTX3090"] * DEVICES, tensor_parallel=2, replicas=2, speedup=speedup) as rig:
        breaker = Breaker(rig, dice)
        load = Load(rig.target, Vocabulary.of(MODEL), streams=streams, seed=seed, long_gap=LONG_GAP).run_in_thread()
        time.sleep(WARM_UP)
        before = rig.footprint()
        begin = time.monotonic()
        end = begin + 60 * minutes
        faults = []
        next_at = begin + dice.expovariate(1 / fault_every)
        while next_at < end:
            time.sleep(max(0.0, next_at - time.monotonic()))
            kind = dice.choices(list(kinds), weights=list(kinds.values()))[0]
            name = breaker.victim()
            at = time.monotonic()
            getattr(breaker, kind)(name)
            faults.append((kind, name, at, time.monotonic()))
            say(f"{at - begin:7.1f} s  {kind:14}  {'' if 'clients' in kind or 'scheduler' in kind else name:15}  {time.monotonic() - at:4.1f} s")
            next_at = max(next_at + dice.expovariate(1 / fault_every), time.monotonic())
        time.sleep(max(0.0, end - time.monotonic()))
        out = load.stop()
        settled = True
        try:
            eventually(lambda: rig.quiet() and rig.replicas_ready() == 2, 30, "the service is whole and idle")
        except AssertionError:
            settled = False
        after = rig.footprint()
        return report(out, faults, before, after, settled, minutes, fault_every, seed, say)


def report(out, faults, before, after, settled, minutes, fault_every, seed, say):
    by_kind = collections.Counter(kind for kind, *_ in faults)
    worst = collections.defaultdict(float)
    for gap in out.gaps:
        for kind, _, begin, end in faults:
            if gap.begin <= end + WAKE and begin <= gap.end:
                worst[kind] = max(worst[kind], gap.seconds)
    growth = {name: (after[name][0] - before[name][0], after[name][1] - before[name][1]) for name in before if name in after}
    kept = round(out.requests / (60 * minutes) * min(RETENTION_S, 60 * minutes) * BYTES_OF_AN_ENDED_REQUEST)
    flat = all(memory <= MOST_GROWTH_BYTES + (kept if name == "scheduler" else 0) and fds <= MOST_GROWTH_DESCRIPTORS for name, (memory, fds) in growth.items())
    say("")
    say(f"soak of {minutes:g} min, a fault every {fault_every:g} s on average, seed {seed}")
    rows = [("requests", out.requests), ("finished", out.finished), ("tokens", out.tokens), ("lost", out.lost),
            ("duplicated", out.duplicated), ("corrupted", out.corrupted), ("unfinished", out.unfinished),
            ("streams resumed", out.resumes), ("continued from tokens", out.continuations), ("faults", len(faults)),
            ("worst gap", f"{out.worst_gap:.2f} s"), ("whole and idle at the end", "yes" if settled else "NO")]
    for name, value in rows:
        say(f"  {name:26} {value:>12}")
    say("  fault              count   worst gap about it")
    for kind in sorted(by_kind):
        shown = f"{worst[kind]:.2f} s" if worst[kind] else f"< {LONG_GAP:.2f} s"
        say(f"    {kind:16} {by_kind[kind]:5}   {shown:>10}")
    say("  process            memory MiB          descriptors     (after warm-up > at the end)")
    for name in before:
        if name in after:
            say(f"    {name:16} {before[name][0] / 2**20:7.1f} > {after[name][0] / 2**20:<7.1f}   {before[name][1]:4} > {after[name][1]:<4}")
    say(f"  memory and descriptors are {'flat' if flat else 'NOT FLAT'} (bounds: {MOST_GROWTH_BYTES >> 20} MiB, the scheduler "
        f"{kept >> 20} MiB more for the requests that it keeps, "
        f"{MOST_GROWTH_DESCRIPTORS} descriptors more)")
    for reason, count in sorted(out.refusals.items()):
        say(f"  answered {reason} and tried again: {count}")
    for failure in out.failures[:10]:
        say(f"  unfinished: {failure}")
    return out.wrong == 0 and flat and settled


def main():
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--fault-every", type=float, default=10.0, metavar="SECONDS", help="on average")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--streams", type=int, default=12)
    parser.add_argument("--speedup", type=float, default=2.0, help="of the simulated cards; a small one leaves the machine to others")
    parser.add_argument("--only", help="these kinds of faults, by comma: " + ", ".join(KINDS))
    flags = parser.parse_args()
    kinds = KINDS
    if flags.only:
        wanted = flags.only.split(",")
        if unknown := [k for k in wanted if k not in KINDS]:
            parser.error(f"--only {','.join(unknown)}: known are {', '.join(KINDS)}")
        kinds = {kind: KINDS[kind] for kind in wanted}
    sys.exit(0 if soak(flags.minutes, flags.fault_every, flags.seed, kinds, flags.streams, flags.speedup) else 1)


if __name__ == "__main__":
    main()
