"""The memory ledger against the kernel's own account: what a rank is planned with is what its process grows by.

memory_growth.py says what is measured; bench/memory_bench.py prints it for more shapes.
"""

import shutil

import pytest

from memory_growth import HEADER, loaded
from random_models import GPT2, LLAMA, write_model


@pytest.fixture(scope="module", params=[LLAMA, GPT2], ids=["llama", "gpt2"])
def model(request, tmp_path_factory):
    """A little over 1 GiB of random bf16 weights, written on the spot and removed afterwards."""
    folder = tmp_path_factory.mktemp("random-model")
    assert write_model(folder, request.param) >= 1 << 30
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("degree", [1, 2, 4])
def test_estimate_is_what_the_process_grows_by(tmp_path, model, degree):
    with loaded(tmp_path, model, degree) as (cluster, ranks):
        assert len(ranks) == degree
        print("\n".join(["", f"  {HEADER}", *(f"  {rank}  {rank.foreign / 2**20:6.1f} MiB of others" for rank in ranks)]))
        for rank in ranks:
            assert abs(rank.off_growth) <= 0.05
            assert abs(rank.off_device) <= 0.03
            assert abs(rank.measured - rank.growth) <= 0.02 * rank.growth, "the worker's own measurement"
        group = cluster.status().groups[0]
        for shard in group.memory:
            assert shard.difference_bytes == shard.measured_bytes - shard.estimated_bytes
            assert shard.planned_bytes == shard.estimated_bytes, "nothing was learned before the first load"
        said = cluster.ctl("explain", f"model/{cluster.name}").stdout
        assert "planned with" in said and " measured " in said
        assert "difference_bytes" in cluster.ctl("describe", "group", group.name.split("/")[-1]).stdout
