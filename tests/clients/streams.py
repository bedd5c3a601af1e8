"""Processes as a Python program runs them: grpcio's default options, and with nothing but unary requests.

usage: streams.py PROTO_DIR SOCKET CONTAINER
"""

import sys
import tempfile

import grpc

import stubs

# Program, input, output. Each ends only because its input does.
FED = [
    (["cat"], b"hello\n", b"hello\n"),
    (["cat"], b"", b""),
    (["wc", "-c"], b"12345", b"5\n"),
    (["sh", "-c", "cat; echo done"], b"x\n", b"x\ndone\n"),
    (["cat"], bytes(range(256)) * 4096, bytes(range(256)) * 4096),
]
CHUNK = 64 << 10


def chunks(data):
    return [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]


class Program:
    """What came of one, put together in the order in which it came."""

    def __init__(self):
        self.stdout, self.stderr, self.code = b"", b"", None

    def take(self, output):
        from wharf.v1 import stdio_pb2

        assert self.code is None, "exited is the last"
        kind = output.WhichOneof("kind")
        if kind == "exited":
            self.code = output.exited.code
        elif kind == "output":
            name = "stderr" if output.output.stream == stdio_pb2.OUTPUT_STREAM_STDERR else "stdout"
            before = getattr(self, name)
            assert output.output.offset == len(before), output
            setattr(self, name, before + output.output.data)
        else:
            assert kind == "started", output


def streamed(execs, container, args, data):
    """RunExec: the end of the requests is the end of the process's input."""
    from wharf.v1 import exec_service_pb2 as api

    def requests():
        start = api.RunExecStart(container=container)
        start.spec.process.args.extend(args)
        start.spec.stdin_open = True
        start.attach.stdin = True
        yield api.RunExecRequest(start=start)
        for chunk in chunks(data):
            yield api.RunExecRequest(input={"stdin": chunk})

    program = Program()
    for message in execs.RunExec(requests()):
        if message.WhichOneof("response") == "output":
            program.take(message.output)
    return program


def called(execs, container, args, data):
    """The same without sending a stream: CreateExec, FollowExec, StartExec, WriteStdin."""
    from wharf.v1 import exec_service_pb2 as api

    create = api.CreateExecRequest(container=container)
    create.spec.process.args.extend(args)
    create.spec.stdin_open = True
    exec_id = execs.CreateExec(create).exec.id
    following = execs.FollowExec(api.FollowExecRequest(exec_id=exec_id))
    assert next(following).WhichOneof("response") == "attached"
    assert execs.StartExec(api.StartExecRequest(exec_id=exec_id)).changed
    program = Program()
    for chunk in chunks(data):
        execs.WriteStdin(api.WriteStdinRequest(exec_id=exec_id, data=chunk))
    execs.WriteStdin(api.WriteStdinRequest(exec_id=exec_id, close=True))
    for message in following:
        program.take(message.output)
    return program


def feed_every_program(execs, container):
    for run in (streamed, called):
        for args, data, output in FED:
            program = run(execs, container, args, data)
            assert (program.stdout, program.code) == (output, 0), (run, args, program.stdout[:99])
            assert program.stderr == b"", program.stderr


def both_streams_and_the_exit(execs, container):
    script = ["sh", "-c", "cat >&2; echo out; exit 7"]
    for run in (streamed, called):
        program = run(execs, container, script, b"in")
        told = (program.stdout, program.stderr, program.code)
        assert told == (b"out\n", b"in", 7), told


def main():
    protos, socket, container = sys.argv[1:]
    with tempfile.TemporaryDirectory() as out:
        stubs.generate(protos, out)
        from wharf.v1 import exec_service_pb2_grpc

        with grpc.insecure_channel(f"unix://{socket}") as channel:
            execs = exec_service_pb2_grpc.ExecServiceStub(channel)
            feed_every_program(execs, container)
            both_streams_and_the_exit(execs, container)
    print("ok")


if __name__ == "__main__":
    main()
