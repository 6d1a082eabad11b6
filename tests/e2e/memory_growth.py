"""What each rank of a model is planned with, measures and really takes: real workers, loaded, after one full batch.

Growth is Private_Clean + Private_Dirty of smaps_rollup from before the scheduler's first word to after the batch: all
resident pages that are the process's alone, packed copies included. Pages of the weight files are mapped shared and let go
after packing; the group's rendezvous memory is shared by its ranks; neither is a device's. The KV pool is resident from the
load on, so it is part of the growth.
"""

import contextlib
import dataclasses
import os
import pathlib
import signal
import time

from harness import SLOW, Cluster, eventually
from protos import admin

DEVICE = 4 << 30
BATCH = 512  # tokens of a full step


@dataclasses.dataclass
class Rank:
    degree: int
    rank: int
    estimated: int  # by the formula, KV included
    measured: int   # by the worker itself, likewise
    growth: int     # by the kernel
    foreign: int    # of its device, in other processes

    @property
    def off_growth(self):
        return (self.estimated - self.growth) / self.growth

    @property
    def off_device(self):
        return (self.estimated - self.growth) / DEVICE

    def __str__(self):
        sizes = " ".join(f"{n / 2**20:8.1f} MiB" for n in (self.estimated, self.measured, self.growth))
        return f"{self.degree:2} {self.rank:4} {sizes} {100 * self.off_growth:+8.2f} % {100 * self.off_device:+8.2f} %"


HEADER = "tp rank    estimated     measured       growth   of growth  of device"


def private(pid):
    words = [line.split() for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(w[1]) << 10 for w in words if w[0] in ("Private_Clean:", "Private_Dirty:"))


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def loaded(folder, model, degree):
    """The cluster with the model loaded and one batch run, and a Rank for each."""
    # A step of a full batch takes seconds where four ranks share a busy core, and must not look like one that stands still.
    with Cluster(folder, devices=degree, tensor_parallel=degree, model=model, cpu_memory=f"{DEVICE >> 30}GiB", ready=False,
                 extra=f"time_scale: {3 * SLOW}", model_keys=", max_num_seqs: 8, max_model_len: 1024") as cluster:
        # Before the scheduler can order anything: the workers wait for its word, as they were born.
        scheduler = eventually(lambda: cluster.children().get("scheduler"), 10, "a scheduler")
        with stopped(scheduler):
            # A process counts from its fork; a starved one stands still before its libraries are linked. Having dialled, it is whole.
            eventually(lambda: cluster.log_path.read_text(errors="replace").count(" dials ") == degree, 10 * SLOW, "all workers")
            workers = {name: pid for name, pid in cluster.children().items() if name != "scheduler"}
            before = {}

            def settled():
                last = dict(before)
                before.update({name: private(pid) for name, pid in workers.items()})
                time.sleep(0.1)
                return before == last
            eventually(settled, 10 * SLOW, "the workers are idle")
        cluster.ctl("wait", "ready", "--timeout", f"{int(120 * SLOW)}s", timeout=130)
        done = cluster.generate(list(range(5, 5 + BATCH)), max_tokens=2, timeout=120 * SLOW)
        assert done.finished is not None, done.error

        devices = {d.name: d for d in cluster.admin().ListDevices(admin.ListDevicesRequest(), timeout=10).devices}
        ranks = []
        for rank, shard in enumerate(cluster.status().groups[0].memory):
            name = f"cpu:{shard.device.split('/')[-1]}"
            ranks.append(Rank(degree, rank, shard.estimated_bytes + shard.kv_bytes, shard.measured_bytes + shard.kv_bytes,
                              private(workers[name]) - before[name], devices[shard.device].memory_foreign_bytes))
        yield cluster, ranks
