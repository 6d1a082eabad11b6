"""The line between a client and the scheduler dies without a word, as when a host vanishes. Whoever only reads would wait for
ever; the shipped clients, as they are shipped, notice it within 15 s and miss nothing."""

import asyncio
import json
import queue
import subprocess
import threading
import time

import pytest

from fault_proxy import FaultProxy, Faults
from gateway_rig import Gateway
from harness import BIN, SLOW, Cluster

PROMPT = "Once upon a time"
TOKENS = 200
NOTICED = 40 * SLOW  # 15 s, and what a loaded machine takes


class Reading(threading.Thread):
    """One client in a thread; `begun` when it has its first text."""

    def __init__(self, read):
        super().__init__(daemon=True)
        self.begun, self.answer = threading.Event(), queue.Queue()
        self._read = read
        self.start()

    def run(self):
        try:
            self.answer.put(self._read(self.begun))
        except BaseException as error:  # noqa: reported by the test's thread
            self.answer.put(repr(error))


def by_tandemctl(port):
    def read(begun):
        command = [BIN / "tandemctl", "--server", f"127.0.0.1:{port}", "generate", PROMPT, "--ignore-eos", "--max-tokens", str(TOKENS), "--temperature", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            text = process.stdout.read1()
            begun.set()
            return (text + process.stdout.read()).decode().rstrip("\n")
    return read


def by_gateway(gateway):
    def read(begun):
        text = ""
        for event in gateway.events("/v1/completions", {"model": "tiny", "prompt": PROMPT, "max_tokens": TOKENS, "ignore_eos": True, "temperature": 0}):
            if event != "[DONE]":
                text += json.loads(event)["choices"][0]["text"]
                if text:
                    begun.set()
        return text
    return read


def by_python(package, port):
    def read(begun):
        with package.Client(f"127.0.0.1:{port}") as client, client.generate("tiny", PROMPT, max_tokens=TOKENS, ignore_eos=True, temperature=0.0) as stream:
            text = ""
            for chunk in stream:
                text += chunk.text
                begun.set()
            assert stream.result.resumes == 1
            return text
    return read


def by_asyncio(package, port):
    async def read(begun):
        async with package.AsyncClient(f"127.0.0.1:{port}") as client:
            stream = client.generate("tiny", PROMPT, max_tokens=TOKENS, ignore_eos=True, temperature=0.0)
            text = ""
            async for chunk in stream:
                text += chunk.text
                begun.set()
            assert (await stream.result()).resumes == 1
            return text
    return lambda begun: asyncio.run(read(begun))


def test_every_shipped_client_notices_a_dead_line(package, tmp_path):
    """On a simulated device at a thirtieth of its speed, so that all of them are within their streams when it happens."""
    with Cluster(tmp_path, devices=["sim:RTX3090"], tensor_parallel=1, device_keys=", sim_speedup: 0.03") as cluster, FaultProxy(cluster.clients) as proxy, \
            Gateway(tmp_path, proxy.port) as gateway:
        calm = cluster.generate(PROMPT, max_tokens=TOKENS).text.decode()
        proxy.set(down=Faults(delay=0.3))  # what is on the way when the line dies is lost
        clients = {"tandemctl": by_tandemctl(proxy.port), "gateway": by_gateway(gateway), "python": by_python(package, proxy.port),
                   "asyncio": by_asyncio(package, proxy.port)}
        readings = {name: Reading(read) for name, read in clients.items()}
        for name, reading in readings.items():
            assert reading.begun.wait(30 * SLOW), name
        proxy.half_open()
        proxy.set()
        end = time.monotonic() + NOTICED
        for name, reading in readings.items():
            try:
                text = reading.answer.get(timeout=max(0.1, end - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"{name} still waits after {NOTICED:.0f} s")
            assert text == calm, name
