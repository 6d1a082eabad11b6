"""Generates the messages and stubs of proto/ into the package while it is built.

Generated code belongs to the protobuf version that made it, so none is kept in the repository. The sources are the
repository's proto/ folder, or the copy that a source distribution carries.
"""

import pathlib
import re
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = pathlib.Path(__file__).resolve().parent
FILES = ("tandem/v1/common.proto", "tandem/v1/inference.proto")


def proto_folder():
    for folder in (HERE / "proto", HERE.parents[1] / "proto"):
        if (folder / FILES[0]).exists():
            return folder
    raise FileNotFoundError("proto/tandem/v1 is neither beside setup.py nor at the root of the repository")


def generate(out):
    """`out` becomes the package tandem_client._proto, importable without touching sys.path."""
    from grpc_tools import protoc

    source = proto_folder()
    out.mkdir(parents=True, exist_ok=True)
    arguments = ["protoc", f"-I{source}", f"--python_out={out}", f"--grpc_python_out={out}", *FILES]
    if protoc.main(arguments):
        raise RuntimeError("protoc failed over proto/")
    for folder in (out, out / "tandem", out / "tandem" / "v1"):
        (folder / "__init__.py").touch()
    for path in (out / "tandem" / "v1").glob("*_pb2*.py"):
        text = path.read_text()
        path.write_text(re.sub(r"^from tandem\.v1 import", "from tandem_client._proto.tandem.v1 import", text, flags=re.M))


class BuildPy(build_py):
    def run(self):
        generate(HERE / "tandem_client" / "_proto")
        super().run()


class Sdist(sdist):
    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        for name in FILES:
            target = pathlib.Path(base_dir) / "proto" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(proto_folder() / name, target)


generate(HERE / "tandem_client" / "_proto")  # setuptools looks for packages before any command runs
setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
