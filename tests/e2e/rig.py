"""A service whose every line and process can be hurt: scheduler and workers started one by one, a fault proxy in each
worker's line and one in the clients', and a keeper that starts again what died, as `tandemctl up` does.

    with Rig(tmp, ["sim:RTX3090"] * 4, tensor_parallel=2, replicas=2) as rig:
        rig.kill("sim:RTX3090:1")
        rig.line("sim:RTX3090:0").cut()
        rig.clients.set(down=Faults(delay=0.1))

Leaving it ends everything, whatever state it is in. The keeper is one thread; all methods are for the test's thread.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import threading
import time

import grpc

from fault_proxy import FaultProxy
from harness import BIN, MODEL, SLOW, eventually, free_ports
from protos import admin, admin_rpc

RESTART_AFTER = 0.5


class Rig:
    def __init__(self, tmp, devices, tensor_parallel=1, replicas=1, speedup=20, time_scale=1.0, model_keys="", extra="",
                 max_sequences=64, ready=True, state_bytes=0, scheduling="", restart_after=RESTART_AFTER, model=MODEL):
        """`state_bytes`: the scheduler's state lies on a disk of its own of that size, empty at every start; see disk()."""
        self.tmp = pathlib.Path(tmp)
        self.tmp.mkdir(parents=True, exist_ok=True)
        clients, workers, admin_port, http, metrics = free_ports(5)
        self.admin_port = admin_port
        names = [f"{device}:{index}" if device.count(":") == 1 and device.startswith("sim:") else device
                 for index, device in enumerate(devices)]
        self.config = self.tmp / "cluster.yaml"
        self.config.write_text(f"""
server: {{clients: 127.0.0.1:{clients}, workers: 127.0.0.1:{workers}, admin: 127.0.0.1:{admin_port},
         http: 127.0.0.1:{http}, metrics: 127.0.0.1:{metrics}}}
state_dir: {self.tmp}/state
time_scale: {time_scale}
devices: {{select: [{", ".join(names)}]}}
scheduling: {{quarantine_after: 0{scheduling}}}  # who breaks them is known, and it is not the devices
models:
  - {{name: tiny, path: {model}, task: generate, tensor_parallel: {tensor_parallel}, replicas: {replicas}, max_num_seqs: {max_sequences}{model_keys}}}
{extra}
""")
        self.clients = FaultProxy(clients)
        self.lines = {name: FaultProxy(workers) for name in names}
        scheduler = [BIN / "tandem-scheduler", "--config", self.config]
        if state_bytes:
            (self.tmp / "state").mkdir()
            mount = f'mount -t tmpfs -o size={state_bytes} tmpfs "{self.tmp}/state" && exec "$@"'
            scheduler = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", *scheduler]
        self.commands = {"scheduler": scheduler}
        cpus = sum(name.startswith("cpu:") for name in names)
        for name in names:
            own = (["--cpu-devices", cpus, "--cpu-memory", "1GiB", "--cpu-threads", "1"] if name.startswith("cpu:") else
                   ["--sim-speedup", speedup, "--sim-health", self.health_file(name)] if name.startswith("sim:") else [])
            self.commands[name] = [BIN / "tandem-worker", "--device", name, "--scheduler", f"127.0.0.1:{self.lines[name].port}",
                                   "--node", "rig", *own]
        self.workers = list(self.lines)
        self.processes = {}
        self.restarts = {name: 0 for name in self.commands}
        self.exits = {name: [] for name in self.commands}  # how those that were started again had ended
        self.restart_after = restart_after
        self.held_down = set()  # not started again
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        try:
            for name in self.commands:
                self._start(name)
            self._keeper.start()
            if ready:
                eventually(lambda: self.replicas_ready() >= replicas, 30, "all replicas")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close()
        if kind is not None:
            for name in self.commands:
                print(f"---- {name}\n{self.tail(name, 25)}")

    def close(self):
        self._closing.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for process in self.processes.values():
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        for proxy in [self.clients, *self.lines.values()]:
            proxy.close()

    # ---- processes

    def _start(self, name):
        log = open(self.tmp / f"{name.replace(':', '_')}.log", "ab")
        with log:
            self.processes[name] = subprocess.Popen(list(map(str, self.commands[name])), stdout=log, stderr=log)

    def _keep(self):
        while not self._closing.wait(0.1):
            for name, process in list(self.processes.items()):
                if process.poll() is None or name in self.held_down or self._closing.wait(self.restart_after):
                    continue
                with self._lock:
                    if name not in self.held_down:
                        self.exits[name].append(process.returncode)
                        self.restarts[name] += 1
                        self._start(name)

    def worker(self, index):
        """The worker of the device that the scheduler calls nodes/rig/devices/INDEX."""
        return next(name for name in self.workers if int(name.rsplit(":", 1)[1]) == index)

    def pid(self, name):
        return self.processes[name].pid

    def signal(self, name, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid(name), number)

    def kill(self, name, restart=True):
        if not restart:
            self.held_down.add(name)
        self.signal(name, signal.SIGKILL)

    def health_file(self, name):
        """Where a simulated device reads what is wrong with it: a line each."""
        return self.tmp / f"{name.replace(':', '_')}.health"

    def ail(self, name, *conditions):
        """From now on this is wrong with the device, and nothing else."""
        file = self.health_file(name)
        file.with_suffix(".new").write_text("".join(f"{line}\n" for line in conditions))
        file.with_suffix(".new").rename(file)

    def devices(self):
        """By index, as the scheduler shows them."""
        return {int(d.name.rsplit("/", 1)[1]): d for d in self.status().devices}

    def revive(self, name):
        self.held_down.discard(name)

    @contextlib.contextmanager
    def frozen(self, name):
        self.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(name, signal.SIGCONT)

    def line(self, name):
        return self.lines[name]

    def tail(self, name, lines=40):
        log = self.tmp / f"{name.replace(':', '_')}.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    def said(self, name, words):
        return words in (self.tmp / f"{name.replace(':', '_')}.log").read_text(errors="replace")

    def ctl(self, *words, timeout=60):
        return subprocess.run([BIN / "tandemctl", "--config", self.config, *map(str, words)], capture_output=True, text=True,
                              timeout=timeout * SLOW)

    def disk(self):
        """The scheduler's state folder as it sees it itself."""
        return pathlib.Path(f"/proc/{self.pid('scheduler')}/root{self.tmp}/state")

    def footprint(self):
        """Anonymous memory in bytes and open descriptors, by process."""
        found = {}
        for name in self.commands:
            with contextlib.suppress(OSError):
                status = pathlib.Path(f"/proc/{self.pid(name)}/status").read_text()
                kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
                found[name] = (kib << 10, len(os.listdir(f"/proc/{self.pid(name)}/fd")))
        return found

    # ---- calls; admin calls go past the proxies

    @property
    def target(self):
        return f"127.0.0.1:{self.clients.port}"

    def status(self):
        with grpc.insecure_channel(f"127.0.0.1:{self.admin_port}") as channel:
            return admin_rpc.AdminServiceStub(channel).GetStatus(admin.GetStatusRequest(), timeout=5)

    def alive(self):
        with contextlib.suppress(grpc.RpcError):
            self.status()
            return True
        return False

    def groups(self):
        """READY groups: name by the devices' indices, in rank order. None while there is no scheduler."""
        with contextlib.suppress(grpc.RpcError):
            return {g.name: [int(d.rsplit("/", 1)[1]) for d in g.devices] for g in self.status().groups
                    if g.state == admin.GROUP_READY}
        return {}

    def replicas_ready(self):
        try:
            return sum(m.replicas_ready for m in self.status().models)
        except grpc.RpcError:
            return 0

    def quiet(self):
        """No request, no booking, no block in use."""
        try:
            status = self.status()
        except grpc.RpcError:
            return False
        ready = [g for g in status.groups if g.state == admin.GROUP_READY]
        return (ready and status.requests_queued == 0 and status.requests_running == 0 and
                all(g.kv_booked_tokens == 0 and g.running == 0 and g.kv_blocks_free == g.kv_blocks for g in ready))
