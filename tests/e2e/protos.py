"""The generated Python messages of proto/, made once per test run in a temporary folder."""

import importlib
import pathlib
import sys
import tempfile

from grpc_tools import protoc

_SOURCE = pathlib.Path(__file__).resolve().parents[2] / "proto"
_OUT = tempfile.TemporaryDirectory(prefix="tandem-protos-")

_files = [str(p.relative_to(_SOURCE)) for p in sorted(_SOURCE.rglob("*.proto"))]
_well_known = pathlib.Path(protoc.__file__).parent / "_proto"
if protoc.main(["protoc", f"-I{_SOURCE}", f"-I{_well_known}", f"--python_out={_OUT.name}", f"--grpc_python_out={_OUT.name}", *_files]):
    raise RuntimeError("protoc failed over proto/")
sys.path.insert(0, _OUT.name)

# `google` is a package of protobuf already; ours live beside it.
import google  # noqa: E402

google.__path__.append(f"{_OUT.name}/google")

common = importlib.import_module("tandem.v1.common_pb2")
inference = importlib.import_module("tandem.v1.inference_pb2")
inference_rpc = importlib.import_module("tandem.v1.inference_pb2_grpc")
admin = importlib.import_module("tandem.v1.admin_pb2")
admin_rpc = importlib.import_module("tandem.v1.admin_pb2_grpc")
worker = importlib.import_module("tandem.v1.worker_pb2")
rpc_status = importlib.import_module("google.rpc.status_pb2")
error_details = importlib.import_module("google.rpc.error_details_pb2")
