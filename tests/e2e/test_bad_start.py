"""What is wrong before the service runs: one line that says what was asked, what there was, what to do."""

import json
import shutil
import socket
import struct
import subprocess

import grpc
import pytest

from harness import BIN, MODEL, SLOW, Cluster, eventually, reason_of
from protos import admin


def copy_model(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    return folder


def lying_header(folder):
    path = folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[:8] = struct.pack("<Q", 1 << 40)
    path.write_bytes(raw)


def truncated_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100000])


def wrong_types(folder):
    config = json.loads((folder / "config.json").read_text())
    config["hidden_size"] = "many"
    (folder / "config.json").write_text(json.dumps(config))


def unknown_family(folder):
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["MambaForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config))


def half_tokenizer(folder):
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text[:len(text) // 2])


def pickle_only(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BROKEN = {
    "lying safetensors header": (lying_header, "model.safetensors"),
    "truncated weights": (truncated_weights, "model.safetensors"),
    "config with wrong types": (wrong_types, "hidden_size"),
    "unknown architecture": (unknown_family, "MambaForCausalLM"),
    "half a tokenizer.json": (half_tokenizer, "tokenizer.json"),
    "pickle weights": (pickle_only, "convert_model"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_refused_in_one_line(tmp_path, name):
    spoil, mention = BROKEN[name]
    folder = copy_model(tmp_path)
    spoil(folder)
    with Cluster(tmp_path / "c", model=folder, ready=False) as cluster:
        assert cluster.process.wait(timeout=30 * SLOW) != 0
        lines = [line for line in cluster.tail().splitlines() if mention in line]
        assert lines, cluster.tail()


def no_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


def no_weights(folder):
    (folder / "model.safetensors").unlink()


# What `up` would refuse, or wait for without end: what is spoilt, keys of the model and of the devices, and the words.
UNFIT = {
    "no weights": (no_weights, "", "", "model.safetensors"),
    "no tokenizer": (no_tokenizer, "", "", "no tokenizer"),
    "a family that is not served": (unknown_family, "", "", "MambaForCausalLM"),
    "a degree that does not divide the model": (None, ", tensor_parallel: 3", "", "3"),
    "a group of more devices than there are": (None, ", tensor_parallel: 4", "", "a group of 4 on this machine's 2 cpu devices"),
    "too little memory": (None, "", ", cpu_memory: 2MiB", "a cpu device has"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_validate_fails_what_could_not_be_served(tmp_path, name):
    spoil, of_model, of_devices, mention = UNFIT[name]
    folder = copy_model(tmp_path)
    if spoil is not None:
        spoil(folder)
    ports = ", ".join(f"{door}: 127.0.0.1:0" for door in ("clients", "workers", "admin", "http", "metrics"))
    config = tmp_path / "cluster.yaml"
    config.write_text(f"server: {{{ports}}}\n"
                      f"devices: {{select: [cpu:0, cpu:1]{of_devices}}}\n"
                      f"models: [{{name: tiny, path: {folder}{of_model}}}]\n")
    done = subprocess.run([BIN / "tandemctl", "--config", config, "validate"], capture_output=True, text=True, timeout=30 * SLOW)
    said = [line for line in done.stdout.splitlines() if line.startswith("FAIL  model tiny: ")]
    assert done.returncode == 1 and len(said) == 1 and mention in said[0], done.stdout + done.stderr


def test_validate_passes_what_can_be_served(tmp_path):
    config = tmp_path / "cluster.yaml"
    config.write_text(f"devices: {{select: [cpu:0, cpu:1], cpu_memory: 1GiB}}\nmodels: [{{name: tiny, path: {MODEL}, tensor_parallel: 2}}]\n")
    done = subprocess.run([BIN / "tandemctl", "--config", config, "validate"], capture_output=True, text=True, timeout=30 * SLOW)
    assert f"PASS  model tiny: {MODEL}, on 2 devices" in done.stdout.splitlines(), done.stdout + done.stderr


def test_a_missing_folder_is_named(tmp_path):
    with Cluster(tmp_path / "c", model="/no/such/model", ready=False) as cluster:
        assert cluster.process.wait(timeout=30 * SLOW) != 0
        assert "/no/such/model" in cluster.tail()


@pytest.mark.parametrize("door", ["clients", "workers", "admin_port", "http", "metrics"])
def test_a_port_in_use_is_named(tmp_path, door):
    with Cluster(tmp_path / "a") as first:
        port = getattr(first, door)
        with Cluster(tmp_path / "b", ready=False, devices=1, tensor_parallel=1) as second:
            second.kill()
            text = second.config.read_text().replace(str(getattr(second, door)), str(port))
            second.config.write_text(text)
            done = subprocess.run([BIN / "tandemctl", "--config", second.config, "up"], capture_output=True, text=True,
                                  timeout=30 * SLOW)
            assert done.returncode == 2
            assert any(f"port {port} is in use by tandem-" in line for line in done.stderr.splitlines()), done.stderr
        assert first.generate("Still here").error is None


def test_memory_too_small_names_needed_and_free(tmp_path):
    with Cluster(tmp_path / "c", cpu_memory="2MiB", ready=False) as cluster:
        def refused():
            try:
                list(cluster.inference().Generate(cluster.request("Hello"), timeout=5))
            except grpc.RpcError as error:
                return error if reason_of(error) == "NEVER_FITS" else None
        error = eventually(refused, 20, "the request is refused with NEVER_FITS")
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "MiB" in error.details()
        said = cluster.ctl("explain", "model/tiny").stdout
        assert "never" in said.lower() and "cpu" in said or "devices/0" in said, said


def test_a_second_worker_for_one_device_is_refused(tmp_path):
    with Cluster(tmp_path / "c") as cluster:
        node = cluster.status().devices[0].name.split("/")[1]
        done = subprocess.run([BIN / "tandem-worker", "--device", "cpu:0", "--node", node, "--scheduler",
                               f"127.0.0.1:{cluster.workers}"], capture_output=True, text=True, timeout=30 * SLOW)
        assert done.returncode not in (0, None)
        assert "cpu:0" in done.stderr or "devices/0" in done.stderr, done.stderr
        assert cluster.generate("Still here").error is None


def test_a_rank_with_another_revision_is_named(tmp_path):
    """Two workers resolve the same name under different roots; one folder differs by a byte."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    for root in (good, bad):
        root.mkdir()
        shutil.copytree(MODEL, root / "m")
    config = (bad / "m" / "generation_config.json")
    config.write_text(config.read_text() + "\n")
    with Cluster(tmp_path / "c", devices=2, model=good / "m", ready=False) as cluster:
        cluster.kill()
        text = cluster.config.read_text().replace(str(good / "m"), "m")
        cluster.config.write_text(text)
        scheduler = subprocess.Popen([BIN / "tandem-scheduler", "--config", cluster.config, "--model-root", good],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        workers = [subprocess.Popen([BIN / "tandem-worker", "--device", f"cpu:{i}", "--node", "box", "--cpu-memory", "1GiB",
                                     "--scheduler", f"127.0.0.1:{cluster.workers}", "--model-root", root],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                   for i, root in enumerate((good, bad))]
        try:
            def mismatch():
                try:
                    list(cluster.inference().Generate(cluster.request("Hello"), timeout=5))
                except grpc.RpcError as error:
                    return error if reason_of(error) == "MODEL_MISMATCH" else None
            error = eventually(mismatch, 30, "the request is refused with MODEL_MISMATCH")
            assert "generation_config.json" in error.details()
        finally:
            for process in (*workers, scheduler):
                process.terminate()
            for process in (*workers, scheduler):
                process.wait(timeout=20 * SLOW)


def test_an_unknown_key_is_named_with_its_line(tmp_path):
    with Cluster(tmp_path / "c", extra="modells: []", ready=False) as cluster:
        assert cluster.process.wait(timeout=10 * SLOW) in (1, 2)
        said = cluster.tail()
        assert "modells" in said and "cluster.yaml:" in said, said
