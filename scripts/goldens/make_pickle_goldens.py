"""Writes tests/golden/pickle/: small checkpoints in both of torch's container formats, and what they hold. Needs torch."""

import json
import pathlib
import sys

import torch

out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/pickle")
torch.manual_seed(1)
base = torch.randn(6, 4)
tensors = {
    "transformer.h.0.w": base.to(torch.bfloat16), "half": torch.randn(3).half(), "turned": base.t(), "part": base[2:4, 1:3],
    "scalar": torch.tensor(2.5), "ints": torch.arange(5), "transformer.h.0.attn.bias": torch.ones(2, 2), "empty": torch.empty(0, 4),
}
tensors["shared"] = tensors["half"]
out.mkdir(parents=True, exist_ok=True)
torch.save(tensors, out / "zip.bin")
torch.save(tensors, out / "legacy.bin", _use_new_zipfile_serialization=False)
expected = {name: {"shape": list(t.shape), "values": t.double().flatten().tolist()} for name, t in tensors.items()
            if not name.endswith(".attn.bias")}
(out / "expected.json").write_text(json.dumps(expected))
