"""What devices say of their own health, and what becomes of it: the shipped table, real processes.

Simulated devices read what is wrong with them from a file; emulated GPUs have a fake NVML, whose words go the whole way
through the CUDA worker's watch.
"""

import signal
import subprocess

import grpc
import pytest

from harness import BIN, MODEL, eventually
from hash_chain import Vocabulary, continuation
from protos import admin, admin_rpc, inference, inference_rpc
from rig import Rig

VOCABULARY = Vocabulary.of(MODEL)
PLUGIN = BIN.parent / "lib" / "libtandem_cuda_emulated.so"
NVML = BIN.parent / "worker" / "topology" / "libfake_nvml.so"


def stream(rig, prompt, tokens, on_start=None):
    """The ids that came and the groups that sent them."""
    request = inference.GenerateRequest(model="tiny")
    request.token_ids.ids.extend(prompt)
    request.stopping.max_tokens = tokens
    request.stopping.ignore_eos = True
    ids, groups = [], []
    with grpc.insecure_channel(rig.target) as channel:
        for message in inference_rpc.InferenceServiceStub(channel).Generate(request, timeout=120):
            kind = message.WhichOneof("event")
            if kind == "accepted":
                groups.append(message.accepted.group)
            elif kind == "chunk":
                if not ids and on_start:
                    on_start(groups[-1])
                ids.extend(message.chunk.token_ids)
    return ids, groups


def test_xid_79_fences_the_device_and_the_request_goes_on_elsewhere(tmp_path):
    with Rig(tmp_path, ["sim:RTX3090"] * 3, replicas=2) as rig:
        for worker in rig.workers:
            rig.signal(worker, signal.SIGUSR1)  # slow: there is time to die in the middle
        hit = []

        def break_it(group):
            hit.append(rig.groups()[group][0])
            rig.ail(rig.worker(hit[0]), "XID 79: on 3b:00.0")

        ids, _ = stream(rig, [1, 2, 3], 200, break_it)
        assert ids == continuation([1, 2, 3], 200, VOCABULARY)
        device = rig.devices()[hit[0]]
        assert device.state == admin.DEVICE_FAILED
        assert "XID 79 (the card is no longer on the bus): on 3b:00.0" in device.reason
        assert "fenced" in device.health[0]
        eventually(lambda: rig.replicas_ready() == 2 and all(hit[0] not in g for g in rig.groups().values()), 30,
                   "another device stands in")
        shown = rig.ctl("get", "devices").stdout
        assert "XID 79" in shown and "FAILED" in shown
        # An operator has replaced it.
        rig.ail(rig.worker(hit[0]))
        assert rig.ctl("uncordon", str(hit[0])).returncode == 0
        assert rig.devices()[hit[0]].state == admin.DEVICE_ACTIVE and not rig.devices()[hit[0]].health


def test_a_hot_device_gets_no_work_while_a_cool_one_has_room(tmp_path):
    with Rig(tmp_path, ["sim:RTX3090"] * 2, replicas=2) as rig:
        _, (first,) = stream(rig, [5], 2)  # whom an idle service gives a request
        index = rig.groups()[first][0]
        rig.ail(rig.worker(index), "thermal-hardware: 95 C")
        eventually(lambda: rig.devices()[index].health, 10, "it is told")
        assert "gets less work" in rig.devices()[index].health[0]
        assert all(stream(rig, [i], 2)[1] != [first] for i in range(5))
        assert "gets less work" in rig.ctl("explain", first).stdout
        rig.ail(rig.worker(index))
        eventually(lambda: not rig.devices()[index].health, 10, "it is over")
        assert stream(rig, [9], 2)[1] == [first]


def test_a_failed_row_remap_drains_the_device_and_its_model_moves_first(tmp_path):
    with Rig(tmp_path, ["sim:RTX3090"] * 3, replicas=1) as rig:
        (index,) = next(iter(rig.groups().values()))
        rig.ail(rig.worker(index), "row-remap-failed: 1 row")
        eventually(lambda: rig.devices()[index].state == admin.DEVICE_DRAINED, 30, "it is drained")
        assert rig.devices()[index].reason.startswith("health: row-remap-failed")
        assert rig.replicas_ready() == 1 and all(index not in group for group in rig.groups().values())
        # The wish outlives the scheduler, as an operator's does.
        rig.kill("scheduler")
        eventually(lambda: rig.alive() and rig.devices().get(index) is not None and
                   rig.devices()[index].state == admin.DEVICE_DRAINED, 30, "it is still drained")
        rig.ail(rig.worker(index))
        assert rig.ctl("undrain", str(index)).returncode == 0
        eventually(lambda: rig.devices()[index].state == admin.DEVICE_ACTIVE, 30, "it is back")


def test_a_table_of_ones_own_and_what_is_wrong_with_it(tmp_path):
    table = tmp_path / "table.yaml"
    table.write_text("rules:\n  - {on: XID 79, do: log, because: we know}\n")
    with Rig(tmp_path / "good", ["sim:RTX3090"] * 2, scheduling=f", device_health: {table}") as rig:
        rig.ail(rig.worker(0), "XID 79: again")
        eventually(lambda: rig.devices()[0].health, 10, "it is told")
        assert "XID 79 (we know): again; told" in rig.devices()[0].health[0]
        assert rig.devices()[0].state == admin.DEVICE_ACTIVE
    table.write_text("rules:\n  - {on: XID 79, do: explode}\n")
    bad = subprocess.run([BIN / "tandem-scheduler", "--config", rig.config], capture_output=True, text=True, timeout=60)
    assert bad.returncode == 1
    assert f'{table}:2: do: "explode" is none of none, log, slow' in bad.stderr


@pytest.mark.skipif(not PLUGIN.exists(), reason=f"{PLUGIN} is not built")
def test_nvml_of_a_gpu_is_heard_as_far_as_the_planner(tmp_path, monkeypatch):
    ills = tmp_path / "nvml"
    ills.write_text("")
    monkeypatch.setenv("TANDEM_CUDA_PLUGIN", str(PLUGIN))
    monkeypatch.setenv("TANDEM_EMULATION_DEVICES", "2")
    monkeypatch.setenv("TANDEM_NVML_LIBRARY", str(NVML))
    monkeypatch.setenv("TANDEM_FAKE_NVML", "emulated")
    monkeypatch.setenv("TANDEM_FAKE_NVML_HEALTH", str(ills))

    def links(rig):
        with grpc.insecure_channel(f"127.0.0.1:{rig.admin_port}") as channel:
            return admin_rpc.AdminServiceStub(channel).GetTopology(admin.GetTopologyRequest(), timeout=5).links

    with Rig(tmp_path, ["cuda:0", "cuda:1"], time_scale=4, max_sequences=2, ready=False,
             model_keys=", max_model_len: 256") as rig:
        eventually(lambda: rig.replicas_ready() == 1 and len(rig.devices()) == 2, 120, "the model is served")
        assert [(link.label, link.source) for link in links(rig)] == [("NV4", "NVML")]
        ills.write_text("1 down 2\n")
        eventually(lambda: rig.devices()[1].health, 30, "the link is seen to be down")
        assert "nvlink-down (an NVLink that was up is down): of 4 NVLinks: 2" in rig.devices()[1].health[0]
        assert [(link.label, link.source) for link in links(rig)] == [("NV4", "NVML, not trusted")]
        ills.write_text("")
        eventually(lambda: not rig.devices()[1].health, 30, "the link is back")

        (index,) = next(iter(rig.groups().values()))
        ills.write_text(f"{index} xid 79\n")
        eventually(lambda: rig.devices()[index].state == admin.DEVICE_FAILED, 30, "the card is fenced")
        assert rig.said("scheduler", "XID 79: by the driver's event")
        eventually(lambda: list(rig.groups().values()) == [[1 - index]], 120, "the other card serves")
