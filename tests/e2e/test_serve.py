"""`tandemctl serve` takes what a compose file gives to vLLM."""

import json
import os
import signal
import subprocess
import urllib.request

import pytest

from harness import BIN, MODEL, eventually, free_ports

USERS_LINE = "--host 0.0.0.0 --port {port} --gpu-memory-utilization 0.8 --max-model-len 1024 --dtype auto"


def serve(*words, env=None, **kwargs):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("VLLM_", "TANDEM_S", "CUDA_"))}
    return subprocess.run([BIN / "tandemctl", "serve", *map(str, words)], capture_output=True, text=True, timeout=60,
                          env={**clean, **(env or {})}, **kwargs)


def test_the_users_line_means_this_configuration(tmp_path):
    done = serve("--print", "--model", MODEL, *USERS_LINE.format(port=8000).split())
    assert done.returncode == 0, done.stderr
    for line in ['http: "0.0.0.0:8000"', "plaintext_beyond_loopback: true", "memory_utilization: 0.8",
                 "max_model_len: 1024", "dtype: auto", 'aliases: ["*"]', f'path: "{MODEL}"']:
        assert line in done.stdout
    assert "answers to any other name too" in done.stderr


def test_variables_stand_behind_flags(tmp_path):
    env = {"VLLM_MODEL": "microsoft/DialoGPT-medium", "VLLM_TENSOR_PARALLEL_SIZE": "2", "VLLM_GPU_MEMORY_UTILIZATION": "0.0"}
    done = serve("--print", "--served-model-name", "local-model", "gpt-3.5-turbo", "--max-num-seqs", 8, env=env)
    assert 'path: "microsoft/DialoGPT-medium"' in done.stdout and 'name: "local-model"' in done.stdout
    assert 'aliases: ["gpt-3.5-turbo"]' in done.stdout and "tensor_parallel: 2" in done.stdout
    assert "memory_utilization" not in done.stdout


@pytest.mark.parametrize("words, said", [
    ([], "which model"),
    (["--model", "m", "--pipeline-parallel-size", "2"], "is not served"),
    (["--model", "m", "--quantization", "awq"], "--quantization is not served"),
    (["--model", "m", "--wrong-flag", "1"], "neither ours nor a flag of vLLM"),
    (["--model", "m", "--port", "high"], "is not a port"),
    (["--model", "m", "--gpu-memory-utilization", "1.5"], "not in (0, 1]"),
])
def test_what_is_refused_says_why(words, said):
    done = serve("--print", *words)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") <= 2


def test_flags_without_effect_are_said():
    done = serve("--print", "--model", "m", "--swap-space", "4", "--enforce-eager", "--trust-remote-code", "--enable-auto-tool-choice",
                 "--tool-call-parser", "hermes")
    assert done.returncode == 0
    for flag in ["--swap-space", "--enforce-eager", "--trust-remote-code", "--enable-auto-tool-choice", "--tool-call-parser"]:
        assert f"{flag} has no effect" in done.stderr


@pytest.mark.skipif(not (BIN / "tandem-gateway").exists(), reason="tandem-gateway is not built")
def test_the_users_stack_finds_its_server(tmp_path):
    http, clients, workers, admin, metrics = free_ports(5)
    env = {**os.environ, "TANDEM_SERVER_CLIENTS": f"127.0.0.1:{clients}", "TANDEM_SERVER_WORKERS": f"127.0.0.1:{workers}",
           "TANDEM_SERVER_ADMIN": f"127.0.0.1:{admin}", "TANDEM_SERVER_METRICS": f"127.0.0.1:{metrics}"}
    log = open(tmp_path / "serve.log", "wb")
    process = subprocess.Popen([BIN / "tandemctl", "serve", "--model", MODEL, *USERS_LINE.format(port=http).split(),
                                "--devices", "cpu:0", "--state-dir", tmp_path / "state"], stdout=log, stderr=log, env=env)
    base = f"http://127.0.0.1:{http}"

    def models():
        try:
            with urllib.request.urlopen(f"{base}/v1/models", timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def chat(name):
        body = json.dumps({"model": name, "prompt": "A river", "max_tokens": 4}).encode()
        ask = urllib.request.Request(f"{base}/v1/completions", body, {"Content-Type": "application/json",
                                                                      "Authorization": "Bearer vllm-key"})
        try:
            with urllib.request.urlopen(ask, timeout=30) as answer:
                return json.load(answer)["choices"][0]
        except OSError:
            return None

    try:
        eventually(models, 40, "/v1/models without a key")
        for name in ["gpt-3.5-turbo", "local-model"]:
            assert eventually(lambda: chat(name), 40, f"an answer for {name}")["finish_reason"] == "length"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        log.close()
