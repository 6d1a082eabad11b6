#!/usr/bin/env python3
"""What an HTTP hop costs: the gateway, nginx as a plain proxy and the LiteLLM proxy, in one run over one fake engine.

    bench/gateway_bench.py [--requests N] [--tokens N] [--clients N]

Chain: client > (LiteLLM | nginx | nothing) > tandem-gateway > scheduler > simulated card that never waits. Latency is
that of one client, alone, keeping its connection; what a hop adds is its median less that of the chain without it (the
gateway's: less gRPC straight to the scheduler). CPU is that of the hop's own processes, by /proc, under several clients;
so what the load generator, the scheduler and the card cost is in neither figure. Python's gRPC costs its client more than
HTTP does, so the gateway may seem to take less than nothing. /proc counts in steps of 10 ms. Needs .venv (scripts/test) and nginx.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))

from gateway_rig import Gateway  # noqa: E402
from harness import Cluster, eventually, free_ports  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
KEY = "sk-" + "0123456789abcdef" * 4  # LiteLLM wants one; the others read over it
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}


def cpu_seconds(pid):
    """Of the process and all below it."""
    total = 0.0
    for each in [pid, *map(int, subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split())]:
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / TICK
    return total


@contextlib.contextmanager
def program(command, port, folder, name):
    with open(folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, cwd=folder,
                                   env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY, "NO_PROXY": "127.0.0.1",
                                        "LITELLM_MODE": "PRODUCTION", "LITELLM_TELEMETRY": "False", "DO_NOT_TRACK": "1"})

    def listens():
        assert process.poll() is None, (folder / f"{name}.log").read_text()[-2000:]
        with contextlib.suppress(OSError, http.client.HTTPException):
            Http(port).get("/v1/models")
            return True

    try:
        eventually(listens, 180, f"{name} listens")
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def nginx(gateway_port, port, folder):
    config = folder / "nginx.conf"
    config.write_text(f"""
daemon off; worker_processes 1; error_log stderr; pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  upstream tandem {{ server 127.0.0.1:{gateway_port}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://tandem; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
""")
    return program([shutil.which("nginx") or "/usr/sbin/nginx", "-c", config, "-p", folder], port, folder, "nginx")


def litellm(gateway_port, port, folder):
    config = folder / "litellm.yaml"
    config.write_text(f"""
model_list:
  - model_name: tiny
    litellm_params: {{model: text-completion-openai/tiny, api_base: "http://127.0.0.1:{gateway_port}/v1", api_key: none}}
""")
    command = [pathlib.Path(sys.executable).parent / "litellm", "--config", config, "--host", "127.0.0.1", "--port", port]
    return program(command, port, folder, "litellm")


class Http:
    """One client that keeps its connection."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(self, path):
        self.connection.request("GET", path, headers=HEADERS)
        return self.connection.getresponse().read()

    def complete(self, tokens, stream):
        """Seconds to the first text and to the end."""
        body = json.dumps({"model": "tiny", "prompt": "Once upon a time", "max_tokens": tokens, "ignore_eos": True, "temperature": 0,
                           "stream": stream})
        begin = time.perf_counter()
        self.connection.request("POST", "/v1/completions", body, HEADERS)
        response = self.connection.getresponse()
        first = None
        if stream:
            for line in response:
                first = first or (time.perf_counter() - begin if b'"text"' in line else None)
        else:
            response.read()
        assert response.status == 200, response.status
        return first, time.perf_counter() - begin


class Grpc:
    def __init__(self, cluster):
        self.cluster, self.stub = cluster, cluster.inference()

    def complete(self, tokens, stream):
        begin = time.perf_counter()
        first = None
        for message in self.stub.Generate(self.cluster.request("Once upon a time", max_tokens=tokens)):
            first = first or (time.perf_counter() - begin if message.HasField("chunk") else None)
        return first, time.perf_counter() - begin


def latency(client, requests, tokens):
    """Medians in milliseconds: to the first text of a stream, to a whole answer."""
    for _ in range(20):
        client.complete(tokens, True)
    firsts = [client.complete(tokens, True)[0] for _ in range(requests)]
    wholes = [client.complete(tokens, False)[1] for _ in range(requests)]
    return statistics.median(firsts) * 1e3, statistics.median(wholes) * 1e3


def per_cpu_second(pid, port, requests, tokens, clients, stream):
    """Requests that a second of the hop's CPU carries."""
    def work():
        client = Http(port)
        for _ in range(requests // clients):
            client.complete(tokens, stream)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    begin = cpu_seconds(pid)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (requests // clients * clients) / max(cpu_seconds(pid) - begin, 1 / TICK)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    print(f"machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    print(f"command: bench/gateway_bench.py --requests {options.requests} --tokens {options.tokens} --clients {options.clients}")
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tandem-bench-")))
        cluster = stack.enter_context(Cluster(folder, devices=["sim:RTX3090"], tensor_parallel=1, device_keys=", sim_speedup: 0"))
        gateway = stack.enter_context(Gateway(folder, cluster.clients))
        ports = free_ports(2)
        hops = [("tandem-gateway", gateway.port, gateway.process.pid)]
        for name, start, port in [("nginx > gateway", nginx, ports[0]), ("LiteLLM > gateway", litellm, ports[1])]:
            own = folder / start.__name__
            own.mkdir()
            hops.append((name, port, stack.enter_context(start(gateway.port, port, own))))
        print(f"{'':22}{'first text':>12}{'whole answer':>14}{'added, first':>14}{'added, whole':>14}{'streams/CPU s':>15}{'answers/CPU s':>15}")
        direct = latency(Grpc(cluster), options.requests, options.tokens)
        print(f"{'gRPC to the scheduler':22}{direct[0]:9.2f} ms{direct[1]:11.2f} ms")
        below = direct
        for name, port, pid in hops:
            slow = name.startswith("LiteLLM")  # ten times slower than the others; as many would take minutes
            requests = options.requests // (5 if slow else 1)
            own = latency(Http(port), requests, options.tokens)
            rates = [per_cpu_second(pid, port, requests * (1 if slow else 4), options.tokens, options.clients, stream)
                     for stream in (True, False)]
            print(f"{name:22}{own[0]:9.2f} ms{own[1]:11.2f} ms{own[0] - below[0]:11.2f} ms{own[1] - below[1]:11.2f} ms"
                  f"{rates[0]:15.0f}{rates[1]:15.0f}")
            if name == "tandem-gateway":
                below = own


if __name__ == "__main__":
    main()
