"""What programs take from their configuration, and what they tell those who start them."""

import contextlib
import os
import signal
import socket
import subprocess

import grpc
import pytest

from harness import BIN, MODEL, SLOW, Cluster, eventually, free_ports
from protos import admin, admin_rpc

LIST_SERVICES = b"\x3a\x00"  # ServerReflectionRequest{list_services: ""}


@contextlib.contextmanager
def program(name, tmp, *flags):
    with open(tmp / f"{name}.log", "wb") as log:
        process = subprocess.Popen([BIN / name, *map(str, flags), "--die-with-parent"], stdout=log, stderr=log)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20 * SLOW) == 0, (tmp / f"{name}.log").read_text(errors="replace")
    finally:
        process.kill()
        process.wait()


def write_config(tmp, ports, clients_host="127.0.0.1", server="", more=""):
    clients, workers, admin_port, metrics = ports
    path = tmp / "c.yaml"
    path.write_text(f"""state_dir: {tmp}/state
server: {{clients: {clients_host}:{clients}, workers: 127.0.0.1:{workers}, admin: 127.0.0.1:{admin_port}, metrics: 127.0.0.1:{metrics}{server}}}
models: [{{name: tiny, path: {MODEL}}}]
{more}""")
    return path


@pytest.mark.parametrize("host, word, answers", [
    ("127.0.0.1", None, True), ("0.0.0.0", "loopback", False), ("0.0.0.0", "always", True), ("127.0.0.1", "never", False)])
def test_reflection_is_where_it_shall_be(tmp_path, host, word, answers):
    ports = free_ports(4)
    config = write_config(tmp_path, ports, host, ", plaintext_beyond_loopback: true" + (f", reflection: {word}" if word else ""))
    with program("tandem-scheduler", tmp_path, "--config", config, "--no-journal"):
        with grpc.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
            grpc.channel_ready_future(channel).result(timeout=20 * SLOW)
            ask = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                                        request_serializer=None, response_deserializer=None)
            if answers:
                assert b"tandem.v1.InferenceService" in next(ask(iter([LIST_SERVICES]), timeout=20 * SLOW))
            else:
                with pytest.raises(grpc.RpcError) as refused:
                    next(ask(iter([LIST_SERVICES]), timeout=20 * SLOW))
                assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_worker_is_all_that_its_configuration_says(tmp_path):
    ports = free_ports(4)
    config = write_config(tmp_path, ports, more="devices: {cpu_memory: 300MiB, cpu_threads: 1, memory_utilization: 0.5}\n")
    with program("tandem-scheduler", tmp_path, "--config", config, "--no-journal"):
        with program("tandem-worker", tmp_path, "--config", config, "--device", "cpu:3"):
            with grpc.insecure_channel(f"127.0.0.1:{ports[2]}") as channel:
                stub = admin_rpc.AdminServiceStub(channel)
                devices = eventually(lambda: stub.ListDevices(admin.ListDevicesRequest(), wait_for_ready=True).devices, 20,
                                     "the worker has joined")
                assert [(d.name.rpartition("/")[2], d.memory_total_bytes, d.memory_budget_bytes) for d in devices] == [
                    ("3", 300 << 20, 150 << 20)]


@pytest.mark.parametrize("more, said", [
    ("devices: {cpu_memry: 1GiB}\n", 'devices.cpu_memry: unknown key (did you mean "cpu_memory"?)'),
    ("devices: {cpu_threads: many}\n", "devices.cpu_threads"),
    ("security: {dial: {certificate: own.crt}}\n", "security.dial: a certificate and its key belong together")])
def test_a_worker_says_in_one_line_what_its_configuration_has_wrong(tmp_path, more, said):
    config = write_config(tmp_path, free_ports(4), more=more)
    done = subprocess.run([BIN / "tandem-worker", "--config", config, "--device", "cpu:0"], capture_output=True, text=True,
                          timeout=20 * SLOW)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("tandem-worker: ") and said in done.stderr, done.stderr
    assert "c.yaml:4" in done.stderr or "security" in more


def test_up_tells_systemd_that_it_is_ready_that_it_lives_and_that_it_ends(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30 * SLOW)
        said = []

        def hear(line):
            while line not in said:
                said.extend(manager.recv(4096).decode().split("\n"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        with Cluster(tmp_path, devices=1, tensor_parallel=1) as cluster:
            hear("READY=1")
            assert "STOPPING=1" not in said
            said.clear()
            hear("WATCHDOG=1")
            os.kill(cluster.process.pid, signal.SIGTERM)
            hear("STOPPING=1")
            assert cluster.process.wait(timeout=30 * SLOW) == 0
