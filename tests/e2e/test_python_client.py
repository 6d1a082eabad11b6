"""The Python package: installed as users install it, against a running service, through the death of the scheduler."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent import futures

import grpc
import pytest

from harness import MODEL, ROOT, SLOW, Cluster, eventually
from protos import common, inference, inference_rpc


@pytest.fixture
def client(package, cluster):
    with package.Client(f"127.0.0.1:{cluster.clients}") as client:
        yield client


def test_a_stream_is_the_text_of_the_service(client, cluster):
    chunks = list(client.generate("tiny", "Once upon a time", max_tokens=40, temperature=0.0, ignore_eos=True, timeout=30))
    same = cluster.generate("Once upon a time", max_tokens=40)
    assert "".join(c.text for c in chunks) == same.text.decode()
    assert [i for c in chunks for i in c.token_ids] == same.ids
    assert [c.offset for c in chunks] == sorted({c.offset for c in chunks})


def test_a_conversation_is_answered(package, client):
    messages = [{"role": "user", "content": "What is the capital of Spain?"}]
    answer = client.complete("tiny", messages=messages, temperature=0.0, max_tokens=32)
    assert "Madrid" in answer.text
    assert answer.finish_reason == "stop" and answer.usage.completion_tokens >= len(answer.token_ids)
    typed = client.complete("tiny", messages=[package.Message("user", ["What is the capital of Spain?"])], temperature=0.0, max_tokens=32)
    assert typed.text == answer.text
    assert client.tokenize("tiny", messages=messages)[0] == client.tokenize("tiny", "a")[0]


def test_the_rest_of_the_service(client):
    ids = client.tokenize("tiny", "The garden")
    assert client.detokenize("tiny", ids) == "The garden"
    assert client.models()["tiny"].ready and client.models()["tiny"].task == "generate"
    assert client.abort(["00" * 16]) == []
    answer = client.complete("tiny", [1998, 10, 11], max_tokens=3, logprobs=2, temperature=0.0, ignore_eos=True)
    assert len(answer.logprobs) == 3 and len(answer.logprobs[0].top) == 2
    stopped = client.complete("tiny", "Once upon a time", max_tokens=50, temperature=0.0, stop=["the"])
    assert stopped.stop_string == "the" and "the" not in stopped.text


def test_a_refusal_has_its_reason(package, client):
    with pytest.raises(package.TandemError) as caught:
        client.complete("nobody", "a")
    assert caught.value.reason == "MODEL_NOT_FOUND" and caught.value.retry_after is None
    with pytest.raises(package.TandemError) as caught:
        client.complete("tiny", "a", temperature=9.0)
    assert caught.value.reason == "INVALID_PARAMETER" and caught.value.metadata["field"] == "sampling.temperature"
    with pytest.raises(TypeError):
        client.generate("tiny", "a", no_such_argument=1)
    with pytest.raises(ValueError):
        client.generate("tiny", "a", messages=[])


def test_the_types_hold(tmp_path):
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", "--cache-dir", tmp_path, "tandem_client"],
                          cwd=ROOT / "client" / "python", capture_output=True, text=True, timeout=120 * SLOW)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("status", [b"\x18\x01", b"\x1a\x02\x08\x01", b"\x1a\x7f", b"\xff"])
def test_details_of_another_shape_are_passed_over(package, status):
    class Error(grpc.RpcError):
        code = staticmethod(lambda: grpc.StatusCode.INTERNAL)
        details = staticmethod(lambda: "a proxy's")
        trailing_metadata = staticmethod(lambda: [("grpc-status-details-bin", status)])

    error = package.errors.from_grpc(Error())
    assert (error.message, error.reason, error.retry_after) == ("a proxy's", "", None)


def test_nobody_there_is_told_in_time(package):
    with package.Client("127.0.0.1:1", options=package.Options(retries=1, first_backoff=0.01)) as client:
        with pytest.raises(package.TandemError) as caught:
            client.complete("tiny", "a", timeout=5)
    assert caught.value.unreachable


def test_cancel_ends_stream_and_request(package, slow_cluster):
    with package.Client(f"127.0.0.1:{slow_cluster.clients}") as client:
        stream = client.generate("tiny", "Once upon a time", max_tokens=900, ignore_eos=True)
        next(stream)
        threading.Timer(0.05, stream.cancel).start()
        with pytest.raises(package.TandemError) as caught:
            stream.result
    assert caught.value.message == "cancelled"
    eventually(lambda: slow_cluster.status().requests_running == 0, 10, "the request ends")


def test_leaving_a_stream_ends_the_request(package, slow_cluster):
    with package.Client(f"127.0.0.1:{slow_cluster.clients}") as client:
        with client.generate("tiny", "Once upon a time", max_tokens=900, ignore_eos=True) as stream:
            next(stream)
        eventually(lambda: slow_cluster.status().requests_running == 0, 10, "the request ends")


def test_asyncio_streams_at_once(package, cluster):
    prompts = [f"Once upon a time {i}" for i in range(8)]

    async def run():
        async with package.AsyncClient(f"127.0.0.1:{cluster.clients}") as client:
            async def one(prompt):
                chunks = [c async for c in client.generate("tiny", prompt, max_tokens=30, temperature=0.0, ignore_eos=True)]
                return [i for c in chunks for i in c.token_ids]

            assert (await client.models())["tiny"].ready
            return await asyncio.gather(*map(one, prompts))

    for prompt, ids in zip(prompts, asyncio.run(run())):
        assert ids == cluster.generate(prompt, max_tokens=30).ids


def test_a_cancelled_task_ends_its_request(package, slow_cluster):
    async def run():
        async with package.AsyncClient(f"127.0.0.1:{slow_cluster.clients}") as client:
            async def read():
                async for _ in client.generate("tiny", "Once upon a time", max_tokens=900, ignore_eos=True):
                    pass

            task = asyncio.create_task(read())
            await asyncio.to_thread(eventually, lambda: slow_cluster.status().requests_running == 1, 20, "it runs")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.1)

    asyncio.run(run())
    eventually(lambda: slow_cluster.status().requests_running == 0, 10, "the request ends")


@pytest.mark.parametrize("victims", [["scheduler"], ["scheduler", "cpu:0"]], ids="+".join)
def test_streams_go_on_when_the_scheduler_dies(package, tmp_path, victims):
    arguments = dict(max_tokens=700, ignore_eos=True, temperature=0.9, seed=5)
    with Cluster(tmp_path, devices=1, tensor_parallel=1, model=MODEL) as cluster:
        with package.Client(f"127.0.0.1:{cluster.clients}") as client:
            calm = client.complete("tiny", "Once upon a time", **arguments)

            def strike():
                """Whether it was hit: a machine may end it first."""
                resumed, pids = [], cluster.children()
                options = package.Options(on_resume=lambda error, tokens: resumed.append(tokens))
                text, ids = "", []
                with client.generate("tiny", "Once upon a time", options=options, timeout=90 * SLOW, **arguments) as stream:
                    for chunk in stream:
                        assert chunk.offset == len(ids)
                        text, ids = text + chunk.text, ids + list(chunk.token_ids)
                        if 50 <= len(ids) < 50 + len(chunk.token_ids):
                            for victim in victims:
                                os.kill(pids[victim], signal.SIGKILL)
                    broken = stream.result
                assert (text, tuple(ids)) == (calm.text, calm.token_ids) == (broken.text, broken.token_ids)
                assert broken.resumes == len(resumed) and all(tokens >= 50 for tokens in resumed)
                eventually(cluster.ready, 30, "the service is whole again")
                return resumed
            assert any(strike() for _ in range(5))


class Silent(inference_rpc.InferenceServiceServicer):
    """Says one token and then nothing more, on a line that is well."""

    def __init__(self):
        self.resumed_from = []

    def Generate(self, request, context):
        yield inference.GenerateResponse(accepted=inference.Accepted(request_id="r1", seed=9))
        yield inference.GenerateResponse(chunk=inference.Chunk(offset=0, token_ids=[7], text=b"half "))
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait(30 * SLOW)

    def Resume(self, request, context):
        self.resumed_from.append(request.next_index)
        yield inference.ResumeResponse(chunk=inference.Chunk(offset=1, token_ids=[8], text=b"whole"))
        yield inference.ResumeResponse(finished=inference.Finished(reason=common.LENGTH))


@pytest.fixture
def silent():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    service = Silent()
    inference_rpc.add_InferenceServiceServicer_to_server(service, server)
    service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield service
    server.stop(0)


def test_a_stream_that_falls_silent_is_taken_up_again(package, silent):
    whys = []
    options = package.Options(most_silence=1.0, on_resume=lambda error, tokens: whys.append(str(error)))
    with package.Client(silent.address, options=options) as client:
        answer = client.complete("m", "a", timeout=30 * SLOW)
        assert (answer.text, answer.resumes) == ("half whole", 1)
        assert client.complete("m", "a", timeout=30 * SLOW).text == "half whole", "the watch goes on"
    assert silent.resumed_from == [1, 1] and whys[0] == "nothing was heard from the scheduler for 1 s"


def test_the_same_for_asyncio(package, silent):
    async def run():
        async with package.AsyncClient(silent.address, options=package.Options(most_silence=1.0)) as client:
            return await client.complete("m", "a", timeout=30 * SLOW)

    assert asyncio.run(run()).text == "half whole" and silent.resumed_from == [1]


def test_who_does_not_read_hears_no_silence(package, cluster):
    with package.Client(f"127.0.0.1:{cluster.clients}", options=package.Options(most_silence=1.0)) as client:
        with client.generate("tiny", "Once upon a time", max_tokens=5, ignore_eos=True, timeout=30 * SLOW) as stream:
            next(stream)
            time.sleep(2)  # twice as long as a silence may be
            assert stream.result.resumes == 0


class TestSession:
    """The rules alone, without a service: any fault can be played."""

    @pytest.fixture
    def play(self, package):
        from tandem_client import requests, session
        from tandem_client._proto.tandem.v1 import inference_pb2 as pb

        class Play:
            def __init__(self, **arguments):
                self.session = session.Session(requests.generate_request("m", "p", **arguments), package.Options(), float("inf"))

            def call(self, connected=False):
                return self.session.next_call(connected)

            def accept(self, request_id="r1", seed=9):
                self.session.on_message(pb.GenerateResponse(accepted=pb.Accepted(request_id=request_id, seed=seed)))

            def chunk(self, offset, *ids, text=b""):
                return self.session.on_message(pb.GenerateResponse(chunk=pb.Chunk(offset=offset, token_ids=ids, text=text)))

            def fail(self, code, reason="", now=0.0, retry_after=None):
                error = package.TandemError(getattr(grpc.StatusCode, code), "", reason, retry_after=retry_after)
                return self.session.on_error(error, now)

        return Play

    def test_before_the_first_token_the_same_is_asked_again(self, play):
        one = play()
        _, first = one.call()
        key = first.idempotency_key
        assert one.fail("UNAVAILABLE", "QUEUE_FULL", retry_after=0.7) == 0.7
        method, again = one.call()
        assert method == "Generate" and again.idempotency_key == key and not again.resume_token_ids

    def test_what_will_not_pass_is_raised_at_once(self, package, play):
        for code, reason in (("INVALID_ARGUMENT", "INVALID_PARAMETER"), ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")):
            one = play()
            one.call()
            with pytest.raises(package.TandemError):
                one.fail(code, reason)

    def test_retries_have_an_end(self, package, play):
        one = play()
        for _ in range(4):
            one.call()
            one.fail("UNAVAILABLE", "QUEUE_FULL")
        one.call()
        with pytest.raises(package.TandemError):
            one.fail("UNAVAILABLE", "QUEUE_FULL")

    def test_who_was_there_is_waited_for(self, package, play):
        one = play()
        for now in range(60):
            assert one.call(connected=now == 0)[0] == "Generate"
            assert one.fail("UNAVAILABLE", now=float(now)) <= 1
        one.call()
        with pytest.raises(package.TandemError):
            one.fail("UNAVAILABLE", now=61.0)

    def test_a_broken_stream_is_resumed_by_index(self, play):
        one = play()
        one.call()
        one.accept()
        one.chunk(0, 5, 6)
        one.fail("UNAVAILABLE")
        method, request = one.call()
        assert method == "Resume" and (request.request_id, request.next_index) == ("r1", 2)
        assert one.chunk(2, 7).token_ids == (7,)

    def test_a_lost_request_goes_on_from_its_tokens(self, play):
        one = play(max_tokens=3)
        _, first = one.call()
        one.accept()
        one.chunk(0, 5, 6, 7)
        one.fail("UNAVAILABLE")
        one.call()
        assert one.fail("NOT_FOUND", "RESUME_UNKNOWN") == 0
        method, request = one.call()
        assert method == "Generate" and request.idempotency_key == first.idempotency_key + "+1"
        assert list(request.resume_token_ids) == [5, 6] and request.sampling.seed == 9, "the last one is computed once more"
        assert one.chunk(2, 7) is None, "the caller has it"

    def test_a_token_twice_or_lost_is_a_fault(self, package, play):
        for offset in (0, 2):
            one = play()
            one.call()
            one.accept()
            one.chunk(0, 5)
            with pytest.raises(package.TandemError, match="not whole"):
                one.chunk(offset, 6)

    def test_an_outage_is_waited_for_so_long_and_no_longer(self, package, play):
        one = play()
        one.call()
        one.accept()
        one.chunk(0, 5)
        for now in (0.0, 30.0, 59.0):
            assert one.fail("UNAVAILABLE", now=now) <= 1
            one.call()
        with pytest.raises(package.TandemError):
            one.fail("UNAVAILABLE", now=61.0)
