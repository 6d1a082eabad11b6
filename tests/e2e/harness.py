"""Real processes for whole-process tests: a cluster on free ports, its state in a temporary folder.

A test asks for what it needs (`Cluster(devices=2, tensor_parallel=2)`), talks gRPC to it, breaks it, and leaves; leaving
checks what must hold after every test: no booking and no block is left, and every process ends in bounded time.
"""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import time

import grpc

from protos import admin, admin_rpc, common, error_details, inference, inference_rpc, rpc_status

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("TANDEM_BUILD_DIR", ROOT / "build")) / "bin"
MODEL = ROOT / "models" / "tandem-tiny"
# Sanitizer builds are slow; one knob stretches every wait.
SLOW = float(os.environ.get("TANDEM_TEST_SLOW", "1"))


def free_ports(count):
    """Ports that nobody has, and that no connection that dials out is given before they are used: those come from a range."""
    dialling = 32768
    with contextlib.suppress(OSError):
        dialling = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    with contextlib.ExitStack() as stack:
        ports = []
        while len(ports) < count:
            port = random.randrange(10240, dialling) if dialling > 12000 else 0
            listener = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                ports.append(listener.getsockname()[1])
        return ports


def eventually(check, seconds=10.0, what="condition"):
    """Polls `check` until it returns something true, and returns that."""
    end = time.monotonic() + seconds * SLOW
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not come true within {seconds * SLOW:.0f} s"
        time.sleep(0.02)


def reason_of(error):
    """The stable reason of a failed call (google.rpc.ErrorInfo), or None."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = rpc_status.Status.FromString(value)
            for detail in status.details:
                info = error_details.ErrorInfo()
                if detail.Unpack(info):
                    assert info.domain == "tandem"
                    return info.reason
    return None


class Completion:
    """What one Generate stream brought, checked as it came: offsets without gaps, Accepted before text."""

    def __init__(self):
        self.text = b""
        self.ids = []
        self.accepted = None
        self.finished = None
        self.error = None
        self.logprobs = []

    def take(self, message):
        kind = message.WhichOneof("event")
        assert self.finished is None, "a message came after Finished"
        if kind == "accepted":
            self.accepted = message.accepted
        elif kind == "chunk":
            assert self.accepted is not None, "a chunk came before Accepted"
            assert message.chunk.offset == len(self.ids), f"offset {message.chunk.offset}, have {len(self.ids)} tokens"
            self.ids.extend(message.chunk.token_ids)
            self.text += message.chunk.text
            self.logprobs.extend(message.chunk.logprobs)
        elif kind == "finished":
            self.finished = message.finished


def unhurried(devices=1, pace=0.02):
    """Arguments of a Cluster whose devices are simulated cards that say some 1000 * pace tokens a second each: what a test
    does while a request runs has its time on any machine. What they say is known: hash_chain.continuation."""
    return {"devices": ["sim:RTX3090"] * devices, "device_keys": f", sim_speedup: {pace}"}


class Cluster:
    def __init__(self, tmp, devices=2, tensor_parallel=2, replicas=1, model=MODEL, name="tiny", model_keys="", cpu_memory="1GiB",
                 extra="", ready=True, device_keys="", server_keys=""):
        """`devices`: how many CPU devices, or a list as in devices.select. `device_keys`: more of `devices`, after a comma;
        `server_keys`: of `server`."""
        self.tmp = pathlib.Path(tmp)
        self.tmp.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.clients, self.workers, self.admin_port, self.http, self.metrics = free_ports(5)
        self.config = self.tmp / "cluster.yaml"
        selected = ", ".join(f"cpu:{i}" for i in range(devices)) if isinstance(devices, int) else ", ".join(devices)
        self.config.write_text(f"""
server: {{clients: 127.0.0.1:{self.clients}, workers: 127.0.0.1:{self.workers}, admin: 127.0.0.1:{self.admin_port},
         http: 127.0.0.1:{self.http}, metrics: 127.0.0.1:{self.metrics}{server_keys}}}
state_dir: {self.tmp}/state
devices: {{select: [{selected}], cpu_memory: {cpu_memory}, cpu_threads: 1{device_keys}}}
models:
  - {{name: {name}, aliases: [default], path: {model}, task: generate, tensor_parallel: {tensor_parallel}, replicas: {replicas}{model_keys}}}
{extra}
""")
        self.log_path = self.tmp / "up.log"
        self.log = open(self.log_path, "wb")
        self.process = subprocess.Popen([BIN / "tandemctl", "--config", self.config, "up"], stdout=self.log, stderr=self.log)
        if ready:
            try:
                done = self.ctl("wait", "ready", "--timeout", f"{int(30 * SLOW)}s", check=False)
                assert done.returncode == 0, f"not ready: {done.stderr}\n{self.tail()}"
                # The supervisor looks for itself; until it has seen it, a scheduler that ends is one that cannot start.
                eventually(lambda: "tandem is ready" in self.log_path.read_text(errors="replace"), 10, "up says so too")
                if isinstance(replicas, int):  # ready means one of each model
                    eventually(lambda: all(m.replicas_ready >= replicas for m in self.status().models), 30, "all replicas")
            except BaseException:
                self.kill()
                raise

    # ---- processes

    def tail(self, lines=40):
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def said(self, words):
        return words in self.log_path.read_text(errors="replace")

    def children(self):
        """pid by what it is: 'scheduler', 'cpu:0', 'cpu:1', ..."""
        found = {}
        for pid in subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split():
            with contextlib.suppress(OSError):
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                if words[0].endswith("tandem-scheduler"):
                    found["scheduler"] = int(pid)
                elif words[0].endswith("tandem-worker"):
                    device = next((w.split("=", 1)[1] for w in words if w.startswith("--device=")), None)
                    found[device or words[words.index("--device") + 1]] = int(pid)
        return found

    def ctl(self, *words, check=True, timeout=90, **kwargs):
        done = subprocess.run([BIN / "tandemctl", "--config", self.config, *map(str, words)], capture_output=True, text=True,
                              timeout=timeout * SLOW, **kwargs)
        assert not check or done.returncode == 0, f"tandemctl {words}: {done.returncode} {done.stderr}\n{self.tail()}"
        return done

    def stop(self):
        """Asks everything to end and returns how long that took."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30 * SLOW)
        assert code == 0, f"tandemctl up ended with {code}\n{self.tail()}"
        return time.monotonic() - begin

    def kill(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=15 * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None and self.process.poll() is None:
                self.check_nothing_left()
                self.stop()
        finally:
            self.kill()
            if kind is not None:
                print(self.tail(80))

    # ---- calls

    def channel(self, port=None):
        return grpc.insecure_channel(f"127.0.0.1:{port or self.clients}", options=[
            ("grpc.max_send_message_length", 32 << 20), ("grpc.max_receive_message_length", 32 << 20)])

    def inference(self):
        return inference_rpc.InferenceServiceStub(self.channel())

    def admin(self):
        return admin_rpc.AdminServiceStub(self.channel(self.admin_port))

    def request(self, prompt, max_tokens=16, stub_text=None, **fields):
        message = inference.GenerateRequest(model=fields.pop("model", self.name))
        if isinstance(prompt, (list, tuple)):
            message.token_ids.ids.extend(prompt)
        else:
            message.text = prompt if isinstance(prompt, bytes) else prompt.encode()
        if max_tokens is not None:
            message.stopping.max_tokens = max_tokens
        message.stopping.ignore_eos = fields.pop("ignore_eos", True)
        message.stopping.stop.extend(fields.pop("stop", []))
        message.sampling.temperature = fields.pop("temperature", 0.0)
        for key in ("seed", "top_p", "top_k"):
            if key in fields:
                setattr(message.sampling, key, fields.pop(key))
        for key, value in fields.items():
            if key == "resume_token_ids":
                message.resume_token_ids.extend(value)
            else:
                setattr(message, key, value)
        return message

    def generate(self, prompt, timeout=60, on_message=None, stub=None, **fields):
        """Runs one request to its end; never raises: the outcome is in the Completion."""
        result = Completion()
        call = (stub or self.inference()).Generate(self.request(prompt, **fields), timeout=timeout)
        try:
            for message in call:
                result.take(message)
                if on_message and on_message(call, result) is False:
                    call.cancel()
        except grpc.RpcError as error:
            result.error = error
        return result

    def status(self):
        return self.admin().GetStatus(admin.GetStatusRequest(), timeout=10)

    def ready(self):
        with contextlib.suppress(grpc.RpcError):
            return self.status().ready
        return False

    def check_nothing_left(self):
        """Every booking released, every block free, no request alive."""
        def quiet():
            try:
                status = self.status()
            except grpc.RpcError:
                return False
            groups = [g for g in status.groups if g.state == admin.GROUP_READY]
            return (status.requests_queued == 0 and status.requests_running == 0 and
                    all(g.kv_booked_tokens == 0 and g.running == 0 and g.kv_blocks_free == g.kv_blocks for g in groups))
        try:
            eventually(quiet, 10, "all bookings and blocks are free")
        except AssertionError:
            print(self.status())
            raise
