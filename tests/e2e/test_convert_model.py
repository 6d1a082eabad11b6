"""scripts/convert_model against checkpoints that torch itself wrote (scripts/goldens/make_pickle_goldens.py)."""

import json
import pathlib
import pickle
import shutil
import struct
import subprocess
import sys

import pytest

from harness import ROOT

GOLDEN = ROOT / "tests" / "golden" / "pickle"
WIDTH = {"F32": (4, "f"), "F16": (2, "e"), "I64": (8, "q")}


def read(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, data, out = json.loads(raw[8:8 + length]), raw[8 + length:], {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        piece = data[begin:end]
        if entry["dtype"] == "BF16":
            values = [struct.unpack("<f", b"\0\0" + piece[i:i + 2])[0] for i in range(0, len(piece), 2)]
        else:
            width, code = WIDTH[entry["dtype"]]
            values = list(struct.unpack(f"<{len(piece) // width}{code}", piece))
        out[name] = {"shape": entry["shape"], "values": values}
    return out


def convert(folder):
    return subprocess.run([sys.executable, ROOT / "scripts" / "convert_model", folder], capture_output=True, text=True)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_both_containers(tmp_path, kind):
    shutil.copy(GOLDEN / f"{kind}.bin", tmp_path / "pytorch_model.bin")
    done = convert(tmp_path)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "model.safetensors") == json.loads((GOLDEN / "expected.json").read_text())
    assert convert(tmp_path).returncode == 1, "a second run does not overwrite"


def test_a_pickle_that_is_a_program_is_refused_and_not_run(tmp_path):
    class Program:
        def __reduce__(self):
            return (pathlib.Path.touch, (pathlib.Path(tmp_path / "ran"),))
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Program()))
    done = convert(tmp_path)
    assert done.returncode == 1 and "pathlib" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_truncated_file_is_refused(tmp_path):
    raw = (GOLDEN / "legacy.bin").read_bytes()
    for cut in (0, 10, len(raw) // 2, len(raw) - 3):
        (tmp_path / "pytorch_model.bin").write_bytes(raw[:cut])
        done = convert(tmp_path)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert not (tmp_path / "model.safetensors").exists()
