"""The memory ledger against the kernel's own account: what a rank is planned with is what its process grows by.

Growth is Private_Clean + Private_Dirty of smaps_rollup: all pages that are this process's alone. Pages of the weight files
are mapped shared and let go after packing; the group's rendezvous memory is shared by its ranks; neither is a device's.
The KV pool is resident from the load on, so it is part of the growth, and a full batch may add nothing.
"""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import time

import pytest

from harness import MODEL, Cluster, eventually
from protos import admin

SHAPE = dict(hidden_size=2048, intermediate_size=5632, num_hidden_layers=4, num_attention_heads=32, num_key_value_heads=4,
             vocab_size=96000, max_position_embeddings=1024)
DEVICE = 4 << 30
BATCH = 512  # tokens of a full step


def tensors():
    hidden, wide, kv = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["hidden_size"] // 32 * 4
    yield "model.embed_tokens.weight", [SHAPE["vocab_size"], hidden]
    for i in range(SHAPE["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, shape in (("input_layernorm", [hidden]), ("post_attention_layernorm", [hidden]),
                            ("self_attn.q_proj", [hidden, hidden]), ("self_attn.k_proj", [kv, hidden]),
                            ("self_attn.v_proj", [kv, hidden]), ("self_attn.o_proj", [hidden, hidden]),
                            ("mlp.gate_proj", [wide, hidden]), ("mlp.up_proj", [wide, hidden]), ("mlp.down_proj", [hidden, wide])):
            yield layer + name + ".weight", shape
    yield "model.norm.weight", [hidden]
    yield "lm_head.weight", [SHAPE["vocab_size"], hidden]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A Llama of a little over 1 GiB with random bf16 weights, written on the spot and removed afterwards."""
    folder = tmp_path_factory.mktemp("random-llama")
    config = json.loads((MODEL / "config.json").read_text()) | SHAPE
    config.pop("head_dim")
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False, "torch_dtype": "bfloat16"}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / name, folder / name)
    header, end = {}, 0
    for name, shape in tensors():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # Each weight's high byte is a sign and an exponent of about 1/64; its low byte is random.
    noise = random.Random(1).randbytes(1 << 20)
    tile = bytearray(noise)
    tile[1::2] = bytes(0x3C | (byte & 0x80) for byte in noise[1::2])
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        left = end
        while left > 0:
            left -= file.write(tile[:left])
    assert end >= 1 << 30
    yield folder
    shutil.rmtree(folder)


def private(pid):
    words = [line.split() for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(w[1]) << 10 for w in words if w[0] in ("Private_Clean:", "Private_Dirty:"))


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("degree", [1, 2, 4])
def test_estimate_is_what_the_process_grows_by(tmp_path, model, degree):
    with Cluster(tmp_path, devices=degree, tensor_parallel=degree, model=model, cpu_memory="4GiB", ready=False,
                 model_keys=", max_num_seqs: 8, max_model_len: 1024") as cluster:
        # Before the scheduler can order anything: the workers wait for its word, as they were born.
        scheduler = eventually(lambda: cluster.children().get("scheduler"), 10, "a scheduler")
        with stopped(scheduler):
            eventually(lambda: len(cluster.children()) == degree + 1, 10, "all workers")
            workers = {name: pid for name, pid in cluster.children().items() if name != "scheduler"}
            before = {}

            def settled():
                last = dict(before)
                before.update({name: private(pid) for name, pid in workers.items()})
                time.sleep(0.1)
                return before == last
            eventually(settled, 10, "the workers are idle")
        cluster.ctl("wait", "ready", "--timeout", "120s", timeout=130)
        done = cluster.generate(list(range(5, 5 + BATCH)), max_tokens=2, timeout=120)
        assert done.finished is not None, done.error

        group = cluster.status().groups[0]
        devices = {d.name: d for d in cluster.admin().ListDevices(admin.ListDevicesRequest(), timeout=10).devices}
        print("\n  tp rank  estimated   measured     growth   of growth  of device   others")
        for rank, shard in enumerate(group.memory):
            name = f"cpu:{shard.device.split('/')[-1]}"
            growth = private(workers[name]) - before[name]
            estimate = shard.estimated_bytes + shard.kv_bytes
            measured = shard.measured_bytes + shard.kv_bytes
            foreign = devices[shard.device].memory_foreign_bytes
            print(f"  {degree:2} {rank:4} " + " ".join(f"{n / 2**20:6.1f} MiB" for n in (estimate, measured, growth)) +
                  f"  {100 * (estimate - growth) / growth:+8.2f} % {100 * (estimate - growth) / DEVICE:+8.2f} %"
                  f" {foreign / 2**20:6.1f} MiB")
            assert abs(estimate - growth) <= 0.05 * growth
            assert abs(estimate - growth) <= 0.03 * DEVICE
            assert abs(measured - growth) <= 0.02 * growth, "the worker's own measurement"
            assert shard.difference_bytes == shard.measured_bytes - shard.estimated_bytes
            assert shard.planned_bytes == shard.estimated_bytes, "nothing was learned before the first load"
        said = cluster.ctl("explain", f"model/{cluster.name}").stdout
        assert "planned with" in said and " measured " in said
        assert "difference_bytes" in cluster.ctl("describe", "group", group.name.split("/")[-1]).stdout
