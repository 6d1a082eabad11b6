"""Simulated devices: real processes, groups and streams; tokens that anyone can check; time and memory of the chip."""

import concurrent.futures
import json
import os
import signal
import subprocess
import time

import pytest

from harness import BIN, MODEL, ROOT, SLOW, Cluster, admin, eventually
from hash_chain import HashChain, Vocabulary, continuation

VOCABULARY = Vocabulary.of(MODEL)


def test_both_sides_compute_the_same_chain():
    for case in json.loads((ROOT / "tests/golden/hash_chain.json").read_text())["cases"]:
        vocabulary = Vocabulary(case["vocabulary"], frozenset(case["eos_ids"]))
        assert f"{HashChain(case['prompt'], vocabulary).chain:016x}" == case["chain_after_prompt"]
        assert continuation(case["prompt"], len(case["continuation"]), vocabulary) == case["continuation"]


def test_the_checker_tells_what_is_wrong():
    def check(change):
        chain = HashChain([1, 2, 3], VOCABULARY)
        for offset, token in change(list(enumerate(continuation([1, 2, 3], 10, VOCABULARY)))):
            chain.take(offset, [token])
        return chain.lost, chain.duplicated, chain.corrupted

    assert check(lambda stream: stream) == (0, 0, 0)
    assert check(lambda stream: stream[:4] + stream[6:]) == (2, 0, 0)
    assert check(lambda stream: stream[:4] + stream[3:]) == (0, 1, 0)
    assert check(lambda stream: stream[:4] + [(4, 7)] + stream[5:]) == (0, 0, 1)
    assert check(lambda stream: [(i, stream[max(i - 1, 0)][1]) for i, _ in stream])[2] > 5  # shifted: all are wrong


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A group of two cards, twice."""
    with Cluster(tmp_path_factory.mktemp("sim"), devices=["sim:RTX3090"] * 4, tensor_parallel=2, replicas=2,
                 device_keys=", sim_speedup: 20") as running:
        yield running


def test_many_streams_say_their_chains(cluster):
    stub = cluster.inference()

    def one(seed):
        prompt = [(seed * 37 + i * i) % VOCABULARY.size for i in range(1 + seed % 40)]
        result = cluster.generate(prompt, max_tokens=60, stub=stub)
        assert result.error is None
        return result.ids == continuation(prompt, 60, VOCABULARY)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(64)))


def test_it_is_shown_as_what_it_is(cluster):
    devices = cluster.admin().ListDevices(admin.ListDevicesRequest(), timeout=10).devices
    assert sorted(d.name.split("/")[-1] for d in devices) == ["0", "1", "2", "3"]
    for device in devices:
        assert (device.kind, device.model) == ("sim", "RTX3090")
        assert device.memory_total_bytes == 24 << 30
        assert device.uuid.startswith("SIM-")
    accepted = cluster.generate([1, 2, 3], max_tokens=1).accepted
    assert accepted.numerics_id == "sim/RTX3090/tp2"


def test_many_devices_in_one_process(tmp_path):
    """Twenty-four engines and lines of one process, each a device of its own to the scheduler."""
    count = 24
    with Cluster(tmp_path, devices=["sim:H100:100"], tensor_parallel=1, replicas=count // 2, ready=False) as cluster:
        herd = subprocess.Popen([BIN / "tandem-worker", "--device", "sim:H100", "--devices-in-process", str(count),
                                 "--scheduler", f"127.0.0.1:{cluster.workers}", "--node", "herd", "--sim-speedup", "100"],
                                stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: cluster.ready() and cluster.status().models[0].replicas_ready == count // 2, 30, "all replicas")

            def here():
                devices = cluster.admin().ListDevices(admin.ListDevicesRequest(), timeout=10).devices
                return sum(d.name.startswith("nodes/herd/") for d in devices)
            eventually(lambda: here() == count, 10, "every device is there")
            assert cluster.generate([5, 6], max_tokens=20).ids == continuation([5, 6], 20, VOCABULARY)
        finally:
            herd.send_signal(signal.SIGTERM)
            assert herd.wait(timeout=10 * SLOW) == 0
        eventually(lambda: cluster.status().models[0].replicas_ready == 1, 30, "the one that is left serves")


def test_a_slow_device_is_slow_and_well_again(tmp_path):
    with Cluster(tmp_path, devices=["sim:L4"], tensor_parallel=1, device_keys=", sim_speedup: 1") as cluster:
        pid = cluster.children()["sim:L4:0"]

        def seconds():
            begin = time.monotonic()
            assert cluster.generate([1, 2, 3], max_tokens=30).ids == continuation([1, 2, 3], 30, VOCABULARY)
            return time.monotonic() - begin
        well = seconds()
        os.kill(pid, signal.SIGUSR1)
        eventually(lambda: cluster.said("are slow"), 5, "the worker says that it is slow")
        assert seconds() > 30 * 0.010
        os.kill(pid, signal.SIGUSR1)
        eventually(lambda: cluster.said("no longer slow"), 5, "the worker says that it is well")
        eventually(lambda: seconds() < max(3 * well, 0.3 * SLOW), 10, "it is as quick as before")


@pytest.mark.parametrize("flags, words", [
    (["--device", "sim:RTX9999"], ["no chip \"RTX9999\"", "RTX3090", "H100"]),
    (["--device", "cpu:0", "--sim-speedup", "2"], ["--sim-speedup is for simulated devices"]),
    (["--device", "cpu:0", "--devices-in-process", "2"], ["--devices-in-process is for simulated devices"]),
    (["--device", "sim:H100", "--devices-in-process", "0"], ["--devices-in-process"]),
])
def test_wrong_flags_are_refused_in_one_line(flags, words):
    done = subprocess.run([BIN / "tandem-worker", *flags], capture_output=True, text=True, timeout=10)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr
