"""The CUDA worker as processes: the plugin's sources compiled for the host (tests/emulation), a fake NCCL between the ranks.

Everything is tested but the device itself: how a GPU is found and locked, loading, the group and its data plane, the
kernels' logic, and what happens when a rank dies.
"""

import contextlib
import json
import subprocess

import grpc
import pytest

from harness import BIN, eventually
from protos import inference, inference_rpc
from rig import Rig

PLUGIN = BIN.parent / "lib" / "libtandem_cuda_emulated.so"
GPUS = ["cuda:0", "cuda:1"]

pytestmark = pytest.mark.skipif(not PLUGIN.exists(), reason=f"{PLUGIN} is not built")


@pytest.fixture(autouse=True)
def emulated(monkeypatch):
    monkeypatch.setenv("TANDEM_CUDA_PLUGIN", str(PLUGIN))
    monkeypatch.setenv("TANDEM_EMULATION_DEVICES", "2")
    monkeypatch.setenv("TANDEM_NVML_LIBRARY", "/nowhere/libnvidia-ml.so.1")  # whatever this machine has is not meant


def generate(rig, prompt, tokens):
    """The ids that came, with the whole stream read to its end."""
    request = inference.GenerateRequest(model="tiny", text=prompt.encode())
    request.stopping.max_tokens = tokens
    request.stopping.ignore_eos = True
    request.sampling.temperature = 0
    ids = []
    with grpc.insecure_channel(rig.target) as channel:
        for message in inference_rpc.InferenceServiceStub(channel).Generate(request, timeout=120):
            if message.WhichOneof("event") == "chunk":
                ids.extend(message.chunk.token_ids)
    return ids


@contextlib.contextmanager
def service(tmp_path, gpus, **keys):
    # An emulated device computes thread by thread: steps are kept small, and one that takes seconds must not look frozen.
    with Rig(tmp_path, gpus, tensor_parallel=len(gpus), time_scale=4, max_sequences=2, ready=False,
             model_keys=", max_model_len: 256", **keys) as rig:
        eventually(lambda: rig.replicas_ready() == 1, 120, "the model is served")
        yield rig


def worker(*arguments, **env):
    return subprocess.run([BIN / "tandem-worker", *arguments], capture_output=True, text=True, timeout=60, env=env or None)


def test_two_gpus_answer_as_one_group_and_form_again_after_a_kill(tmp_path):
    with service(tmp_path, GPUS) as rig:
        assert sorted(next(iter(rig.groups().values()))) == [0, 1]
        first = generate(rig, "A tensor-parallel group", 8)
        assert len(first) == 8
        assert generate(rig, "A tensor-parallel group", 8) == first
        before = rig.groups()
        rig.kill("cuda:1")
        eventually(lambda: rig.replicas_ready() == 1 and rig.groups().keys() - before.keys(), 120, "the group forms again")
        assert generate(rig, "A tensor-parallel group", 8) == first
        assert any(rig.said(device, "NCCL 2.30.0, 2 ranks") for device in ("cuda:0", "cuda:1")), "rank 0 says so"


def test_an_error_that_stays_ends_the_worker_with_its_reason_and_the_request_goes_on(tmp_path, monkeypatch):
    with service(tmp_path / "well", GPUS[:1]) as rig:
        expected = generate(rig, "An illegal access", 10)
    # A kernel of the fifth graph that is launched touches what is not its own: from then on every call fails.
    monkeypatch.setenv("TANDEM_EMULATION_FAIL", "cudaGraphLaunch:5:700")
    with service(tmp_path / "ill", GPUS[:1]) as rig:
        monkeypatch.delenv("TANDEM_EMULATION_FAIL")  # the next process is well
        assert generate(rig, "An illegal access", 10) == expected
        assert rig.exits["cuda:0"] == [5]
        assert "cudaErrorIllegalAddress" in rig.tail("cuda:0", 1000)
        assert rig.said("scheduler", "cudaErrorIllegalAddress"), "the scheduler says why"
        assert rig.replicas_ready() == 1


def test_a_gpu_is_taken_once(tmp_path):
    with service(tmp_path, GPUS[:1]) as rig:
        second = worker("--device", "cuda:0")
        assert second.returncode == 3, second.stderr
        assert f"process {rig.pid('cuda:0')} (tandem-worker) has it" in second.stderr


def test_what_can_not_be_is_said_with_what_there_is():
    assert "cuda:0 " in worker("--list-devices").stdout
    missing = worker("--device", "cuda:7")
    assert missing.returncode == 2
    assert "no such device; CUDA shows cuda:0 " in missing.stderr and "; cuda:1 " in missing.stderr


def test_without_a_plugin_the_worker_starts_and_says_so(monkeypatch):
    monkeypatch.setenv("TANDEM_CUDA_PLUGIN", "/nowhere/libtandem_cuda.so")
    assert worker("--version").returncode == 0
    listed = worker("--list-devices")
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "there is no CUDA plugin at /nowhere/libtandem_cuda.so" in listed.stderr
    refused = worker("--device", "cuda:0")
    assert refused.returncode == 2 and "there is no CUDA plugin" in refused.stderr


def test_an_abort_that_hangs_ends_the_worker_and_the_group_forms_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TANDEM_FAKE_NCCL", "*:abort-blocks")
    with service(tmp_path, GPUS) as rig:
        rig.kill("cuda:1")
        eventually(lambda: rig.said("cuda:0", "an abort of NCCL did not end within 10s"), 60, "the worker gives up")
        eventually(lambda: rig.restarts["cuda:0"] > 0 and rig.replicas_ready() == 1, 120, "the group forms again")


# ---- links: two GPUs of this machine, and a model that needs four, so that nothing but links is there to be done


@contextlib.contextmanager
def idle_pair(tmp_path, probing):
    with Rig(tmp_path, GPUS, tensor_parallel=4, time_scale=4, max_sequences=2, ready=False, scheduling=f", link_probe: {probing}") as rig:
        eventually(lambda: len(topology(rig)["devices"]) == 2, 60, "both GPUs are there")
        yield rig


def topology(rig):
    return json.loads(rig.ctl("topology", "-o", "json").stdout or '{"devices": []}')


def link(rig):
    return topology(rig)["links"][0]


def test_two_gpus_measure_their_pair_over_nccl(tmp_path):
    with idle_pair(tmp_path, "once") as rig:
        measured = eventually(lambda: link(rig)["source"] == "measured" and link(rig), 120, "the pair is measured")
        assert int(measured["bandwidth_bytes_per_s"]) > 0 and int(measured["small_message_ns"]) > 0
        assert any(rig.said(device, "NCCL 2.30.0, 2 ranks") for device in ("cuda:0", "cuda:1")), "it went over NCCL"
        assert "GB/s" in rig.ctl("topology").stdout
        assert sum(rig.restarts.values()) == 0


def test_a_loaded_group_serves_on_after_its_pair_was_measured(tmp_path):
    with service(tmp_path, GPUS) as rig:
        first = generate(rig, "A tensor-parallel group", 8)
        eventually(lambda: link(rig)["source"] == "measured", 120, "the pair is measured")
        assert generate(rig, "A tensor-parallel group", 8) == first


def test_a_peer_that_hangs_in_a_probe_is_left_and_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TANDEM_FAKE_NCCL", "1:hang@5")  # the third message after the self-test
    with idle_pair(tmp_path, "once") as rig:
        why = eventually(lambda: link(rig).get("not_measured"), 120, "the probe is given up")
        assert "link probe" in why, why
        assert sum(rig.restarts.values()) == 0, "the workers live on"
        assert link(rig)["source"] != "measured"


def test_without_nvml_the_links_are_as_cuda_says_and_off_is_off(tmp_path, monkeypatch):
    monkeypatch.setenv("TANDEM_EMULATION_BRIDGES", "1")
    with idle_pair(tmp_path, "off") as rig:
        assert (link(rig)["label"], link(rig)["source"]) == ("NV1", "CUDA")
        assert not rig.said("cuda:0", "NCCL"), "nothing was measured"
