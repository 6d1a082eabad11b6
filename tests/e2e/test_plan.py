"""tandemctl plan as a script would call it: worked answers, equal output for equal input, one line for bad input."""

import json
import os
import pathlib
import subprocess

import pytest

from harness import BIN

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"
EXPECTED = SHARED / "topologies" / "expected.json"
BRIDGES = (
    "\tGPU0\tGPU1\tGPU2\tGPU3\tCPU Affinity\tNUMA Affinity\n"
    "GPU0\t X \tNV4\tPHB\tPHB\t0-15\t0\n"
    "GPU1\tNV4\t X \tPHB\tPHB\t0-15\t0\n"
    "GPU2\tPHB\tPHB\t X \tNV4\t0-15\t0\n"
    "GPU3\tPHB\tPHB\tNV4\t X \t0-15\t0\n"
)


def plan(*arguments):
    return subprocess.run([BIN / "tandemctl", "plan", *map(str, arguments)], capture_output=True, text=True, timeout=60)


def planned(*arguments):
    result = plan(*arguments, "-o", "json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def cases():
    return json.loads(EXPECTED.read_text())["cases"] if EXPECTED.exists() else []


def index(name):
    host, device = name.split("/")
    return int(device) if host == "host0" else f"{host}/{device}"


def arguments_of(case, folder):
    arguments = []
    for i, topology in enumerate(case["topology"]):
        path = SHARED / topology["file"] if "file" in topology else folder / f"host{i}.txt"
        if "inline" in topology:
            path.write_text(topology["inline"])
        arguments += ["--topology", path]
    if "gpu" in case:
        arguments += ["--gpu", case["gpu"]]
    for key in ("memory", "used", "drained"):
        if key in case:
            values = case[key] if isinstance(case[key], list) else [case[key]]
            arguments += [f"--{key}", ",".join(map(str, values))]
    for model in case["models"]:
        arguments += ["--model", ",".join(f"{key}={value}" for key, value in model.items())]
    return arguments


@pytest.mark.skipif(not EXPECTED.exists(), reason="../shared/topologies/expected.json is not there")
@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_worked_answers(case, tmp_path):
    answer = planned(*arguments_of(case, tmp_path))
    mine = {}
    for group in answer["groups"]:
        mine.setdefault(group["model"], []).append(sorted(index(name) for name in group["devices"]))
    accept = case["accept"]
    if "partitions" in accept:
        wanted = [{model: sorted(map(sorted, sets)) for model, sets in p.items()} for p in accept["partitions"]]
        assert {model: sorted(sets) for model, sets in mine.items()} in wanted
    for model, gbps in accept.get("ring_bandwidth_gbps", {}).items():
        for group in answer["groups"]:
            if group["model"] == model:
                assert group["ring_bandwidth_gbps"] == pytest.approx(gbps, rel=0.03)
    if "unplaced" not in accept:
        assert answer["unplaced"] == []


def matrix(size, links, rest="SYS", near="NODE", node=None):
    """As nvidia-smi prints it: `links` are NVLinks by pair; devices of one NUMA node have `near` between them, others `rest`."""
    node = node or (lambda device: 0)
    rows = ["\t" + "\t".join(f"GPU{i}" for i in range(size)) + "\tCPU Affinity\tNUMA Affinity"]
    for i in range(size):
        cells = ["X" if i == j else f"NV{links[min(i, j), max(i, j)]}" if (min(i, j), max(i, j)) in links else
                 near if node(i) == node(j) else rest for j in range(size)]
        rows.append("\t".join([f"GPU{i}", *cells, f"{16 * node(i)}-{16 * node(i) + 15}", str(node(i))]))
    return "\n".join(rows) + "\n"


# The hybrid cube mesh of a DGX-1: two squares with doubled diagonals or sides, and a way across for each corner.
CUBE = {(0, 1): 1, (0, 2): 1, (0, 3): 2, (1, 2): 2, (1, 3): 1, (2, 3): 2, (4, 5): 1, (4, 6): 1, (4, 7): 2, (5, 6): 2, (5, 7): 1,
        (6, 7): 2, (0, 4): 2, (1, 5): 2, (2, 6): 1, (3, 7): 1}
HALVES = dict(node=lambda device: device // 4)
BRIDGED = matrix(8, {(i, i + 1): 12 for i in range(0, 8, 2)}, **HALVES)
ACROSS = matrix(4, {(0, 2): 4, (1, 3): 4}, near="PHB")
MESH = matrix(4, {(i, j): 4 for i in range(4) for j in range(i + 1, 4)})
SWITCH = matrix(8, {(i, j): 18 for i in range(8) for j in range(i + 1, 8)}, **HALVES)
OVER_NODES = matrix(4, {(0, 2): 12, (1, 3): 12}, node=lambda device: device // 2)
MIXED = "24GiB,24GiB,48GiB,48GiB"
SMALL_AND_LARGE = ("name=A,tp=2,bytes=32GiB", "name=B,tp=2,bytes=68GiB")


@pytest.mark.parametrize("text, gpu, memory, models, groups, gbps", [
    pytest.param(matrix(8, CUBE, **HALVES), "V100", "16GiB", ["name=A,tp=2,replicas=4,bytes=2GiB"],
                 {"A": [[0, 3], [1, 2], [4, 7], [5, 6]]}, 40, id="cube: the doubled links make the pairs"),
    pytest.param(matrix(8, CUBE, **HALVES), "V100", "16GiB", ["name=A,tp=4,replicas=2,bytes=2GiB"],
                 {"A": [[0, 1, 2, 3], [4, 5, 6, 7]]}, 80, id="cube: the squares make the quads"),
    pytest.param(matrix(8, CUBE, **HALVES), "V100", "16GiB", ["name=A,tp=8,bytes=2GiB"], {"A": [list(range(8))]}, 120,
                 id="cube: three rings each way through all"),
    pytest.param(BRIDGED, "A100", "80GiB", ["name=A,tp=2,replicas=4,bytes=2GiB"], {"A": [[0, 1], [2, 3], [4, 5], [6, 7]]}, 240,
                 id="bridges make the pairs"),
    pytest.param(BRIDGED, "A100", "80GiB", ["name=A,tp=4,replicas=2,bytes=2GiB"], {"A": [[0, 1, 2, 3], [4, 5, 6, 7]]}, 24,
                 id="quads over PCIe stay in their socket"),
    pytest.param(matrix(8, {}, **HALVES), "A100", "80GiB", ["name=A,tp=4,replicas=2,bytes=2GiB"],
                 {"A": [[0, 1, 2, 3], [4, 5, 6, 7]]}, 24, id="without NVLink groups stay in their socket"),
    pytest.param(OVER_NODES, "A100", "80GiB", ["name=A,tp=2,replicas=2,bytes=2GiB"], {"A": [[0, 2], [1, 3]]}, 240,
                 id="NUMA does not veto NVLink"),
    pytest.param(MESH, "A100", "80GiB", ["name=A,tp=4,bytes=2GiB"], {"A": [[0, 1, 2, 3]]}, 240, id="a mesh of four"),
    pytest.param(MESH, "A100", "80GiB", ["name=A,tp=2,replicas=2,bytes=2GiB"], None, 80, id="a smaller set of a mesh has less"),
    pytest.param(SWITCH, "H100", "80GiB", ["name=A,tp=2,replicas=4,bytes=2GiB"], None, 370.8, id="a pair behind a switch has all"),
    pytest.param(BRIDGES, "RTX3090", MIXED, SMALL_AND_LARGE, {"A": [[0, 1]], "B": [[2, 3]]}, None, id="the small one on the small cards"),
    pytest.param(ACROSS, "RTX3090", MIXED, SMALL_AND_LARGE, {"A": [[0, 1]], "B": [[2, 3]]}, None, id="memory before bridges"),
    pytest.param(BRIDGES, "RTX3090", MIXED, ["name=A,tp=auto,bytes=70GiB"], {"A": [[2, 3]]}, None, id="auto: two large, not all four"),
])
def test_worked_answers_of_our_own(tmp_path, text, gpu, memory, models, groups, gbps):
    (tmp_path / "box.txt").write_text(text)
    answer = planned("--topology", tmp_path / "box.txt", "--gpu", gpu, "--memory", memory,
                     *[word for model in models for word in ("--model", model)])
    mine = {}
    for group in answer["groups"]:
        mine.setdefault(group["model"], []).append(sorted(index(name) for name in group["devices"]))
        assert gbps is None or group["ring_bandwidth_gbps"] == pytest.approx(gbps, rel=0.03)
    assert answer["unplaced"] == []
    assert groups is None or {model: sorted(sets) for model, sets in mine.items()} == groups


def test_equal_input_gives_equal_output(tmp_path):
    (tmp_path / "a.txt").write_text(BRIDGES)
    outputs = set()
    for _ in range(3):
        answer = planned("--topology", tmp_path / "a.txt", "--gpu", "RTX3090", "--memory", "24GiB", "--explain",
                         "--model", "name=A,tp=2,replicas=1,bytes=20GiB", "--model", "name=B,tp=1,replicas=3,bytes=2GiB")
        answer.pop("elapsed_us")
        outputs.add(json.dumps(answer))
    assert len(outputs) == 1


def test_several_files_are_several_hosts(tmp_path):
    (tmp_path / "a.txt").write_text(BRIDGES)
    answer = planned("--topology", tmp_path / "a.txt", tmp_path / "a.txt", "--gpu", "RTX3090", "--memory", "24GiB",
                     "--drained", "host0/1,host1/2", "--model", "name=A,tp=2,replicas=3,bytes=20GiB")
    groups = [sorted(group["devices"]) for group in answer["groups"]]
    assert ["host0/2", "host0/3"] in groups and ["host1/0", "host1/1"] in groups
    assert [replica["verdict"] for replica in answer["unplaced"]] == ["later"]
    assert "DRAINING" in answer["unplaced"][0]["reason"]


def test_the_table_and_what_explain_adds(tmp_path):
    (tmp_path / "a.txt").write_text(BRIDGES)
    arguments = ("--topology", tmp_path / "a.txt", "--gpu", "RTX3090", "--memory", "24GiB",
                 "--model", "name=A,tp=2,replicas=2,bytes=20GiB", "--model", "name=B,tp=8,bytes=20GiB")
    short, long = plan(*arguments), plan(*arguments, "--explain")
    assert short.returncode == long.returncode == 0
    assert "host0/0,host0/1" in short.stdout and "never" in short.stdout and "4 devices" in short.stdout
    assert "NV4 between 0 and 1" in long.stdout and len(long.stdout) > len(short.stdout)


@pytest.mark.parametrize("model, word", [
    ("name=A,tp=2", "bytes="), ("tp=2,bytes=1GiB", "name="), ("name=A,bytes=1GiB,tp=0", "tp"),
    ("name=A,bytes=1GiB,tp=x", "tp"), ("name=A,bytes=-1", "bytes"), ("name=A,bytes=1GiB,replicas=0", "replicas"),
    ("name=A,bytes=1GiB,color=red", "color"), ("name=A,bytes=1GiB,bytes=2GiB", "twice"), ("name=A,bytes=0", "bytes"),
])
def test_a_bad_model_is_one_line(tmp_path, model, word):
    (tmp_path / "a.txt").write_text(BRIDGES)
    result = plan("--topology", tmp_path / "a.txt", "--gpu", "RTX3090", "--memory", "24GiB", "--model", model)
    assert result.returncode == 2 and result.stdout == ""
    assert word in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("extra, word", [
    (["--gpu", "GTX480"], "GTX480"), (["--memory", "24GiB,24GiB"], "--memory"), (["--drained", "9"], "--drained"),
    (["--used", "25GiB"], "--used"), (["--utilization", "1.5"], "utilization"),
])
def test_a_bad_flag_is_one_line(tmp_path, extra, word):
    (tmp_path / "a.txt").write_text(BRIDGES)
    flags = {"--gpu": "RTX3090", "--memory": "24GiB", **dict(zip(extra[::2], extra[1::2]))}
    result = plan("--topology", tmp_path / "a.txt", "--model", "name=A,bytes=1GiB",
                  *[word for flag in flags.items() for word in flag])
    assert result.returncode == 2 and result.stdout == ""
    assert word in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("text, word", [
    (BRIDGES.replace("NV4", "NV5", 1), "GPU0"), (BRIDGES.replace("PHB", "FOO", 1), "FOO"),
    (BRIDGES.rsplit("GPU3", 1)[0], "GPU3"), ("", ":1: no matrix"), ("<system version='1'><cpu>", ""),
    ('<!DOCTYPE a [<!ENTITY b "c">]><system version="1"/>', ""), ("hosts: [{name: a, gpus: 3}]\n", "gpus"),
])
def test_a_bad_topology_names_the_file(tmp_path, text, word):
    (tmp_path / "bad.txt").write_text(text)
    result = plan("--topology", tmp_path / "bad.txt", "--gpu", "RTX3090", "--memory", "24GiB", "--model", "name=A,bytes=1GiB")
    assert result.returncode == 2 and result.stdout == "", result.stdout
    assert "bad.txt" in result.stderr and word in result.stderr and result.stderr.count("\n") == 1, result.stderr


def test_a_missing_file(tmp_path):
    result = plan("--topology", tmp_path / "none", "--model", "name=A,bytes=1GiB")
    assert result.returncode == 2 and "none" in result.stderr
