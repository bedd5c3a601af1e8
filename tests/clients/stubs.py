"""The stubs that the clients here use, made from proto/ at their start."""

import pathlib
import sys

import grpc_tools.protoc


def generate(protos, out):
    """Makes the stubs, as the README tells a user to."""
    files = sorted(str(path) for path in pathlib.Path(protos).glob("wharf/v1/*.proto"))
    arguments = ["protoc", f"-I{protos}", f"--python_out={out}", f"--grpc_python_out={out}"]
    if grpc_tools.protoc.main(arguments + [f"-I{well_known_types()}"] + files) != 0:
        sys.exit("the stubs cannot be made")
    sys.path.insert(0, out)


def well_known_types():
    return pathlib.Path(grpc_tools.protoc.__file__).parent / "_proto"
