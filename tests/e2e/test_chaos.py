"""Everything that can be hurt from outside is hurt while clients check every token. Nothing may be lost, come twice or
change, every request ends, and afterwards nothing is held.

Simulated cards say hash chains, so each stream is its own oracle; the CPU workers compute the model that ships, and must
say under faults what they say in calm.
"""

import random
import signal
import subprocess
import threading
import time
from concurrent import futures

import grpc
import pytest

from fault_proxy import Faults
from harness import MODEL, SLOW, eventually
from hash_chain import Vocabulary, continuation
from protos import inference, inference_rpc
from rig import Rig
from verifying_load import Load

VOCABULARY = Vocabulary.of(MODEL)
TIME_SCALE = 0.4  # suspect after 1 s, fenced after 2 s
FENCED = 2.0
# A client whose window is small and stays so, so that what it does not read stays with the scheduler.
LAZY = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.lookahead_bytes", 16384), ("grpc.http2.bdp_probe", 0)]


def start_load(rig, **keys):
    load = Load(rig.target, VOCABULARY, **{"streams": 8, "tokens": (200, 400), "patience": 30 * SLOW, **keys}).run_in_thread()
    eventually(lambda: load.outcome.tokens > 100, 10, "tokens")
    return load


def check(rig, load, replicas=2):
    """Ends the load; all of it must have come out right, and the service must be whole and empty."""
    out = load.stop()
    assert (out.lost, out.duplicated, out.corrupted, out.failures) == (0, 0, 0, [])
    assert out.finished == out.requests
    eventually(lambda: rig.replicas_ready() == replicas and rig.quiet(), 30, "the service is whole and holds nothing")
    return out


@pytest.fixture
def rig(tmp_path):
    """Two groups of two cards, and two to spare."""
    with Rig(tmp_path, ["sim:RTX3090"] * 6, tensor_parallel=2, replicas=2, speedup=2, time_scale=TIME_SCALE * SLOW) as running:
        yield running


def serving(rig, rank=0):
    """The worker of that rank of the group that is first by name."""
    return rig.worker(sorted(rig.groups().items())[0][1][rank])


def idle(rig):
    busy = {device for group in rig.groups().values() for device in group}
    return next(name for name in rig.workers if int(name.rsplit(":", 1)[1]) not in busy)


# ---- processes that die or stand still


def test_an_idle_worker_is_killed(rig):
    load = start_load(rig)
    name = idle(rig)
    rig.kill(name)
    eventually(lambda: rig.restarts[name] == 1, 5, "it is started again")
    out = check(rig, load)
    assert out.worst_gap < 3.0 * SLOW and not out.refusals  # less than a second where the machine is ours


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_is_killed_in_mid_stream(rig, rank):
    load = start_load(rig)
    before = rig.groups()
    rig.kill(serving(rig, rank))
    eventually(lambda: len(rig.groups()) == 2 and rig.groups() != before, 15, "another group serves")
    assert check(rig, load).worst_gap < 6.0 * SLOW


def test_a_worker_is_killed_while_its_group_forms(rig):
    load = start_load(rig)
    for delay in (0.0, 0.05, 0.15):
        before = rig.groups()
        victim = serving(rig)
        rig.kill(victim)
        time.sleep(delay)  # somewhere between the loss and the group that takes its place
        rig.kill(idle(rig))
        eventually(lambda: len(rig.groups()) == 2 and set(rig.groups()) != set(before), 20, "two groups again")
    check(rig, load)


def test_a_second_of_standstill_is_nothing(rig):
    load = start_load(rig)
    before = rig.groups()
    with rig.frozen(serving(rig)):
        time.sleep(0.3 * FENCED * SLOW)  # the fault itself
    out = check(rig, load)
    assert rig.groups() == before and not out.refusals


def test_a_frozen_worker_is_fenced_and_its_late_words_change_nothing(rig):
    load = start_load(rig)
    before = rig.groups()
    name = serving(rig)
    with rig.frozen(name):
        eventually(lambda: len(rig.groups()) == 2 and rig.groups() != before, 15, "another group took over")
        time.sleep(0.5)  # tokens of the new group reach the clients first
    out = check(rig, load)  # the old group's tokens, sent at SIGCONT, would show as duplicated
    assert out.worst_gap < (FENCED + 4.0) * SLOW


def test_a_stuck_step_is_ended(rig):
    load = start_load(rig)
    before = rig.groups()
    rig.signal(serving(rig), signal.SIGUSR2)
    eventually(lambda: len(rig.groups()) == 2 and rig.groups() != before, 20, "another group took over")
    check(rig, load)


def test_a_slow_worker_is_not_taken_for_dead(rig):
    load = start_load(rig, tokens=(50, 100))
    before = rig.groups()
    name = serving(rig)
    rig.signal(name, signal.SIGUSR1)
    time.sleep(2 * FENCED * SLOW)  # longer than a dead one would have stayed
    rig.signal(name, signal.SIGUSR1)
    out = check(rig, load)
    assert set(rig.groups()) == set(before) and not out.refusals


# ---- lines


def test_a_cut_line_is_dialled_again(rig):
    load = start_load(rig)
    for rank in (0, 1):
        rig.line(serving(rig, rank)).cut()
        time.sleep(0.3)
    check(rig, load)


def test_a_stalled_line_is_a_lost_worker_and_comes_back(rig):
    load = start_load(rig)
    name = serving(rig)
    before = rig.groups()
    rig.line(name).set(up=Faults(stall=True), down=Faults(stall=True))
    eventually(lambda: len(rig.groups()) == 2 and rig.groups() != before, 20, "another group took over")
    rig.line(name).set()
    check(rig, load)


def test_a_half_open_line_is_noticed(rig):
    """The scheduler hears at once that the line is gone, the worker hears nothing."""
    load = start_load(rig)
    name = serving(rig)
    accepted = rig.line(name).accepted
    rig.line(name).half_open()
    eventually(lambda: rig.line(name).accepted > accepted, 20, "the worker dials again")
    check(rig, load)


def test_corrupt_bytes_end_that_line_and_no_other(rig):
    load = start_load(rig)
    name = serving(rig, rank=1)
    accepted = {n: rig.line(n).accepted for n in rig.workers}
    rig.line(name).set(up=Faults(corrupt=1.0))
    # A spoiled length may only make the scheduler wait for bytes; then silence ends the line.
    eventually(lambda: rig.line(name).accepted > accepted[name], 25, "the worker dials again")
    rig.line(name).set()
    check(rig, load)
    assert all(rig.line(n).accepted == accepted[n] for n in rig.workers if n != name)
    assert rig.restarts["scheduler"] == 0


def test_slow_lines_are_no_fault(rig):
    load = start_load(rig)
    before = rig.groups()
    for name in rig.workers:
        rig.line(name).set(up=Faults(delay=0.1, jitter=0.1), down=Faults(delay=0.1, jitter=0.1))
    time.sleep(1.5 * FENCED * SLOW)  # longer than a dead one would have stayed
    out = check(rig, load)
    assert set(rig.groups()) == set(before) and not out.refusals


# ---- clients


def test_clients_that_lose_their_lines_resume(rig):
    load = start_load(rig)
    for _ in range(3):
        rig.clients.cut()
        time.sleep(0.4)
    out = check(rig, load)
    assert out.resumes > 0 and out.continuations == 0


def test_a_client_that_stops_reading_costs_little_and_slows_nobody(rig):
    load = start_load(rig, streams=4)
    calm = rig.footprint()["scheduler"][0]
    lazy = []
    with grpc.insecure_channel(rig.target, options=LAZY) as channel:
        stub = inference_rpc.InferenceServiceStub(channel)
        for _ in range(16):
            request = inference.GenerateRequest(model="tiny", logprobs=20)
            request.token_ids.ids.extend([1, 2, 3])
            request.stopping.max_tokens = 1000
            request.stopping.ignore_eos = True
            call = stub.Generate(request, timeout=60)
            next(call)
            lazy.append(call)
        time.sleep(2)  # they compute, and nobody reads
        assert rig.footprint()["scheduler"][0] - calm < 64 << 20
        for call in lazy:
            call.cancel()
    assert check(rig, load).worst_gap < 3.0 * SLOW


def test_a_client_that_never_reads_again_loses_its_call_and_may_resume(tmp_path):
    with Rig(tmp_path, ["sim:RTX3090"], speedup=2, scheduling=", client_stall: 1s") as rig, \
            grpc.insecure_channel(rig.target, options=LAZY) as channel:
        stub = inference_rpc.InferenceServiceStub(channel)
        request = inference.GenerateRequest(model="tiny", logprobs=20, idempotency_key="lazy")
        request.token_ids.ids.extend([1, 2, 3])
        request.stopping.max_tokens = 1000
        request.stopping.ignore_eos = True
        call = stub.Generate(request, timeout=60)
        next(call)
        eventually(lambda: rig.said("scheduler", "took no message"), 20, "the scheduler lets the call go")
        got = []
        with pytest.raises(grpc.RpcError) as lost:
            for answer in call:
                got.extend(answer.chunk.token_ids)
        assert lost.value.code() == grpc.StatusCode.CANCELLED and len(got) < 1000
        for answer in stub.Resume(inference.ResumeRequest(idempotency_key="lazy", next_index=len(got)), timeout=30):
            got.extend(answer.chunk.token_ids)
        assert got == continuation([1, 2, 3], 1000, VOCABULARY)


# ---- the scheduler


def test_the_scheduler_is_killed_at_any_moment(rig):
    dice = random.Random(7)
    load = start_load(rig)
    for count in (1, 2, 3):
        time.sleep(dice.uniform(0.0, 1.5))
        rig.kill("scheduler")
        eventually(lambda: rig.restarts["scheduler"] == count and rig.alive(), 10, "it is started again")
    check(rig, load)


def test_everything_is_killed_at_once(rig):
    load = start_load(rig)
    for name in rig.commands:
        rig.kill(name)
    out = check(rig, load)
    assert out.continuations > 0  # nobody knew the requests any more: the clients brought their tokens


def own_disks_allowed():
    done = subprocess.run(["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return done.returncode == 0


@pytest.mark.skipif(not own_disks_allowed(), reason="a mount namespace of its own is not permitted here")
def test_a_full_disk_refuses_what_must_be_kept_and_serves_on(tmp_path):
    with Rig(tmp_path, ["sim:RTX3090"] * 3, replicas=2, speedup=2, state_bytes=2 << 20) as rig:
        load = start_load(rig)
        device = str(max(range(3), key=lambda i: rig.worker(i) == idle(rig)))
        filler = rig.disk() / "filler"
        with open(filler, "wb", buffering=0) as full, pytest.raises(OSError):
            while True:
                full.write(bytes(4096))
        refused = rig.ctl("cordon", device, "--reason", "the disk is full")
        assert refused.returncode != 0 and "STORE_UNAVAILABLE" in refused.stderr, refused
        filler.unlink()

        def taken():
            return rig.ctl("cordon", device, "--reason", "there is room again").returncode == 0
        eventually(taken, 10, "operators are heard again")
        out = check(rig, load)
        assert rig.restarts["scheduler"] == 0 and not out.refusals


# ---- a model that computes


def greedy(rig, prompt, begun=None, tokens=900):
    """One request that goes on however often its stream breaks; its token ids. Sets `begun` at the first."""
    ids, end = [], time.monotonic() + 60 * SLOW
    while len(ids) < tokens:
        assert time.monotonic() < end, f"{len(ids)} of {tokens} tokens"
        request = inference.GenerateRequest(model="tiny", resume_token_ids=ids)
        request.text = prompt
        request.stopping.max_tokens = tokens
        request.stopping.ignore_eos = True
        request.sampling.temperature = 0.0
        try:
            with grpc.insecure_channel(rig.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                for message in inference_rpc.InferenceServiceStub(channel).Generate(request, timeout=30):
                    if message.HasField("chunk"):
                        assert message.chunk.offset == len(ids)
                        ids.extend(message.chunk.token_ids)
                        if begun:
                            begun.set()
        except grpc.RpcError:
            time.sleep(0.1)
    return ids


def test_greedy_text_is_the_calm_one_under_faults(tmp_path):
    prompts = [b"Once upon a time", b"The little dog", b"One day"]
    with Rig(tmp_path, ["cpu:0", "cpu:1"], replicas=2, time_scale=TIME_SCALE * SLOW) as rig:
        calm = [greedy(rig, prompt) for prompt in prompts]
        for hurt in (lambda: rig.kill("cpu:0"), lambda: rig.line("cpu:1").cut(), lambda: rig.clients.cut()):
            with futures.ThreadPoolExecutor(len(prompts)) as pool:
                begun = threading.Event()
                running = [pool.submit(greedy, rig, prompt, begun) for prompt in prompts]
                assert begun.wait(30 * SLOW)
                hurt()
                assert [one.result() for one in running] == calm
            eventually(lambda: rig.replicas_ready() == 2, 20, "both replicas")
        eventually(rig.quiet, 20, "nothing is held")
