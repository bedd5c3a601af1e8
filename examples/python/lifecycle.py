"""One container's life from Python, over the Unix socket, with grpcio's default options.

    python lifecycle.py IMAGE [ADDRESS]

The image must be there and have /bin/sh. README.md says how to generate the stubs.
"""

import sys
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from wharf.v1 import (
    container_pb2,
    container_service_pb2,
    container_service_pb2_grpc,
    event_service_pb2,
    event_service_pb2_grpc,
)


def error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    """The reason and metadata of an error: what a program decides by."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        if detail.Unpack(info):
            break
    return info


def main(image: str, address: str = "unix:///run/wharf/wharf.sock") -> None:
    request_id = str(uuid.uuid4())
    metadata = [("x-request-id", request_id)]
    with grpc.insecure_channel(address) as channel:
        containers = container_service_pb2_grpc.ContainerServiceStub(channel)
        events = event_service_pb2_grpc.EventServiceStub(channel)

        spec = container_pb2.ContainerSpec(image=image)
        spec.process.entrypoint.extend(["/bin/sh", "-c", "exit 7"])
        created = containers.CreateContainer(
            container_service_pb2.CreateContainerRequest(spec=spec, start=True),
            metadata=metadata,
        ).container
        print("created", created.name)

        wait = container_service_pb2.WaitContainerRequest(container=created.id, run=created.run)
        for message in containers.WaitContainer(wait, metadata=metadata):
            if message.HasField("result"):
                print("exit code", message.result.exit_status.code)

        delete = container_service_pb2.DeleteContainerRequest(container=created.id)
        containers.DeleteContainer(delete, metadata=metadata)

        try:
            get = container_service_pb2.GetContainerRequest(container=created.id)
            containers.GetContainer(get, metadata=metadata)
        except grpc.RpcError as error:
            info = error_info(error)
            print(error.code().name, info.reason, dict(info.metadata))

        mine = event_service_pb2.EventFilter(request_ids=[request_id])
        listed = events.ListEvents(event_service_pb2.ListEventsRequest(filter=mine))
        for event in listed.events:
            print(event.sequence, event_service_pb2.Event.Type.Name(event.type))


if __name__ == "__main__":
    main(*sys.argv[1:])
