"""A process in a running container from Python: input, its end, output and exit status on one stream.

    python exec.py CONTAINER [ADDRESS]

The container must run and have /bin/sh. README.md says how to generate the stubs.
"""

import sys
import uuid

import grpc
from wharf.v1 import exec_service_pb2, exec_service_pb2_grpc, stdio_pb2


def requests(container: str):
    """start, input, and then nothing more: the half-close is the end of the process's input."""
    start = exec_service_pb2.RunExecStart(
        container=container,
        # Makes the call safe to repeat: a repeat attaches to the same exec.
        idempotency_key=str(uuid.uuid4()),
    )
    start.spec.process.args.extend(["/bin/sh", "-c", "wc -l; echo done >&2; exit 7"])
    start.spec.stdin_open = True
    start.attach.stdin = True
    yield exec_service_pb2.RunExecRequest(start=start)
    for line in range(1, 1001):
        data = f"line {line}\n".encode()
        yield exec_service_pb2.RunExecRequest(input=stdio_pb2.ProcessInput(stdin=data))


def main(container: str, address: str = "unix:///run/wharf/wharf.sock") -> None:
    with grpc.insecure_channel(address) as channel:
        execs = exec_service_pb2_grpc.ExecServiceStub(channel)
        for message in execs.RunExec(requests(container)):
            kind = message.output.WhichOneof("kind")
            if kind == "output":
                chunk = message.output.output
                name = stdio_pb2.OutputStream.Name(chunk.stream)
                print(name, chunk.offset, chunk.data.decode().strip())
            elif kind == "gap":
                print("gap", message.output.gap.dropped_bytes)
            elif kind == "exited":
                print("exit code", message.output.exited.code)


if __name__ == "__main__":
    main(*sys.argv[1:])
