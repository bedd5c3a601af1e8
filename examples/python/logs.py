"""A container's log from Python, followed until its run ends.

    python logs.py CONTAINER [ADDRESS] [CURSOR]

The last line is the cursor to go on from. README.md says how to generate the stubs.
"""

import sys

import grpc
from wharf.v1 import log_service_pb2, log_service_pb2_grpc


def main(container: str, address: str = "unix:///run/wharf/wharf.sock", cursor: str = "") -> None:
    request = log_service_pb2.StreamLogsRequest(container=container, follow=True, stop_at_exit=True)
    if cursor:
        request.cursor = cursor
    with grpc.insecure_channel(address) as channel:
        logs = log_service_pb2_grpc.LogServiceStub(channel)
        for message in logs.StreamLogs(request):
            kind = message.WhichOneof("response")
            if kind == "entries":
                for entry in message.entries.entries:
                    # Bytes, not text: nothing is altered on the way.
                    sys.stdout.write(entry.data.decode(errors="replace"))
            elif kind == "gap":
                print("-- missing:", message.gap.missed_bytes, "bytes")
            elif kind == "run_exited":
                print("-- exit code", message.run_exited.code)
            # Where to go on if the connection is lost now.
            cursor = message.cursor or cursor
    print("cursor", cursor)


if __name__ == "__main__":
    main(*sys.argv[1:])
