"""A group that runs moves to a better device that has come free, for a stated gain; no request notices."""

import concurrent.futures
import time

import grpc
import pytest

from harness import SLOW, eventually
from hash_chain import Vocabulary, continuation
from protos import inference, inference_rpc
from random_models import LLAMA, write_model
from rig import Rig

# 5.9 GiB, of which nothing is on the disk: simulated devices read config.json. Steps take the time of the weights.
SHAPE = LLAMA | dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=16, vocab_size=2048)


@pytest.fixture
def rig(tmp_path):
    write_model(tmp_path / "model", SHAPE, sparse=True)
    # A calm minute is 24 s here. Less, and a busy machine is never calm: each heartbeat that is late begins it anew.
    with Rig(tmp_path / "rig", ["sim:L4", "sim:H100"], model=tmp_path / "model", time_scale=0.4 * SLOW, speedup=5,
             model_keys=", max_model_len: 1024") as running:
        yield running


def generate(rig, prompt, tokens):
    request = inference.GenerateRequest(model="tiny")
    request.token_ids.ids.extend(prompt)
    request.stopping.max_tokens = tokens
    request.stopping.ignore_eos = True
    ids = []
    with grpc.insecure_channel(rig.target) as channel:
        for message in inference_rpc.InferenceServiceStub(channel).Generate(request, timeout=120 * SLOW):
            if message.WhichOneof("event") == "chunk":
                assert message.chunk.offset == len(ids)
                ids.extend(message.chunk.token_ids)
    return ids


def test_a_group_moves_to_a_faster_card_under_load(rig):
    vocabulary = Vocabulary.of(rig.tmp.parent / "model")
    if list(rig.groups().values()) != [[0]]:
        done = rig.ctl("drain", "1", "--reason", "the test wants it on the slow one", "--deadline", "5s")
        assert done.returncode == 0, done.stderr
        eventually(lambda: list(rig.groups().values()) == [[0]], 30, "it serves on the slow card")
        assert rig.ctl("undrain", "1").returncode == 0
    stop = time.monotonic() + 150 * SLOW

    def client(seed):
        """Streams one after the other until the group has moved and some more have come."""
        count = 0
        while time.monotonic() < stop and (list(rig.groups().values()) != [[1]] or count < 3):
            prompt = [(seed * 37 + count * 11 + i) % vocabulary.size for i in range(10 + seed)]
            assert generate(rig, prompt, 40) == continuation(prompt, 40, vocabulary)
            count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        served = list(pool.map(client, range(3)))
    assert list(rig.groups().values()) == [[1]], rig.ctl("explain", "model/tiny").stdout
    assert min(served) >= 3
    said = rig.ctl("explain", "model/tiny").stdout
    assert "moved to groups/" in said and " ms, " in said and "(limit 15 %)" in said, said
    group = next(iter(rig.groups()))
    assert "to take the place of groups/" in rig.ctl("explain", group.replace("groups", "group")).stdout
    eventually(lambda: len(rig.status().groups) == 1, 30, "the old group is gone")
    eventually(rig.quiet, 10, "nothing is left")
