"""The scheduler dies while streams run, alone or with everybody else. Clients come back and miss nothing: every token,
text and logprob is that of the calm run."""

import json
import os
import secrets
import signal
import subprocess
import time

import grpc
import pytest

from harness import BIN, SLOW, Cluster, Completion, eventually, inference, reason_of

# What a request can carry over the seam, through the C++ library.
FLAVOURS = [
    [],
    ["--logprobs", "3"],
    ["--temperature", "0.9", "--seed", "7"],
    ["--temperature", "1.1", "--seed", "8", "--top-p", "0.9", "--logprobs", "0"],
    ["--temperature", "0.7", "--seed", "9", "--top-k", "20"],
    ["--stop", "never in this text"],
    ["--temperature", "1", "--seed", "10", "--stop", "zqzq"],
    ["--priority", "5"],
]


class Streams:
    """tandemctl generate, once per flavour, all at a time."""

    def __init__(self, cluster, tokens):
        self.processes = [
            subprocess.Popen([BIN / "tandemctl", "--config", cluster.config, "generate", f"Once upon a time {i}", "--ignore-eos",
                              "--max-tokens", str(tokens), "-o", "json", *flavour],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for i, flavour in enumerate(FLAVOURS)]

    def results(self):
        found = []
        for process in self.processes:
            out, err = process.communicate(timeout=90 * SLOW)
            assert process.returncode == 0, err
            answer = json.loads(out)
            found.append((answer, err))
        return found


def essence(answer):
    return {key: answer.get(key) for key in ("token_ids", "text", "logprobs", "finish_reason")}


def check_same(calm, broken):
    """Every answer is the calm one; returns how many were taken up again."""
    for (want, _), (got, err) in zip(calm, broken):
        assert essence(got) == essence(want), err
        assert got["usage"]["completion_tokens"] == want["usage"]["completion_tokens"]
        assert (got["resumes"] > 0) == ("resuming" in err)
    print("with the fault", [round(got["timings"]["total_us"] / 1e6, 1) for got, _ in broken])
    return sum(got["resumes"] > 0 for got, _ in broken)


@pytest.mark.parametrize("victims", [["scheduler"], ["scheduler", "cpu:1"], ["scheduler", "cpu:0", "cpu:1"]], ids="+".join)
def test_streams_survive(tmp_path, victims):
    with Cluster(tmp_path) as cluster:
        calm = Streams(cluster, 800).results()

        def strike():
            """How many were hit: a machine may end some before the last has begun."""
            pids, before = cluster.children(), cluster.status().requests_finished
            streams = Streams(cluster, 800)

            def begun():
                status = cluster.status()
                return status.requests_running + status.requests_finished - before == len(FLAVOURS)
            eventually(begun, 20, "all have begun")
            for victim in victims:
                os.kill(pids[victim], signal.SIGKILL)
            hit = check_same(calm, streams.results())
            eventually(cluster.ready, 30, "the service is whole again")
            return hit
        assert any(strike() >= len(FLAVOURS) // 2 for _ in range(5))


def read(call, result, until=None):
    """Reads on; an UNAVAILABLE is the end of this call, not of the request."""
    try:
        for message in call:
            result.take(message)
            if until is not None and len(result.ids) >= until:
                return
    except grpc.RpcError as error:
        result.error = error


def resume(cluster, result, tries=200):
    """As the library does: until somebody answers."""
    request = inference.ResumeRequest(request_id=result.accepted.request_id, next_index=len(result.ids))
    for _ in range(tries):
        result.error = None
        read(cluster.inference().Resume(request, timeout=60), result)
        if result.error is None or result.error.code() != grpc.StatusCode.UNAVAILABLE:
            return
        time.sleep(0.05)


def test_penalties_and_the_gap(tmp_path):
    with Cluster(tmp_path) as cluster:
        message = cluster.request("Once upon a time", max_tokens=900)
        message.sampling.repetition_penalty = 1.3
        message.sampling.frequency_penalty = 0.4
        calm = Completion()
        read(cluster.inference().Generate(message, timeout=60), calm)
        broken = Completion()
        call = cluster.inference().Generate(message, timeout=60)  # dropped, it would be cancelled before the kill
        read(call, broken, until=100)
        os.kill(cluster.children()["scheduler"], signal.SIGKILL)
        begin = time.monotonic()
        had = len(broken.ids)
        gap = []
        take = broken.take

        def timed(message):
            if message.HasField("chunk") and not gap:
                gap.append(time.monotonic() - begin)
            take(message)
        broken.take = timed
        resume(cluster, broken)
        assert broken.error is None, broken.error
        assert (broken.ids, broken.text) == (calm.ids, calm.text)
        assert broken.accepted.request_id and had < 900
        print(f"scheduler killed: the next token came {gap[0]:.2f} s later")
        assert gap[0] < 10 * SLOW


def test_a_lost_request_goes_on_from_the_tokens_that_its_client_has(tmp_path):
    with Cluster(tmp_path) as cluster:
        calm = cluster.generate("Once upon a time", max_tokens=300)
        first = Completion()
        call = cluster.inference().Generate(cluster.request("Once upon a time", max_tokens=300), timeout=60)
        read(call, first, until=50)
        call.cancel()
        first.accepted.request_id = secrets.token_hex(16)  # as a scheduler sees it that lost the request with its workers
        resume(cluster, first)
        assert reason_of(first.error) == "RESUME_UNKNOWN"
        rest = Completion()
        rest.ids = first.ids[:]
        again = cluster.request("Once upon a time", max_tokens=300, resume_token_ids=first.ids)
        read(cluster.inference().Generate(again, timeout=60), rest)
        assert rest.error is None, rest.error
        assert (rest.ids, first.text + rest.text) == (calm.ids, calm.text)
