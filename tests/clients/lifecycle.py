"""A full lifecycle as a Python program lives it: stubs made from proto/, grpcio's default options.

usage: lifecycle.py PROTO_DIR SOCKET IMAGE_ARCHIVE
"""

import hashlib
import pathlib
import sys
import tempfile
import time
import uuid

import grpc
from google.rpc import error_details_pb2, status_pb2

import stubs

CHUNK = 256 << 10
CALLS_ON_ONE_CONNECTION = 10_000


def import_messages(image_pb2, archive):
    """The archive in chunks, between its start and its end."""
    data = pathlib.Path(archive).read_bytes()
    message = image_pb2.ImportImageRequest
    yield message(start=image_pb2.ImportImageStart())
    for at in range(0, len(data), CHUNK):
        yield message(data=data[at : at + CHUNK])
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    yield message(end={"size_bytes": len(data), "digest": digest})


def details_of(error):
    """The typed details of an error, by their names."""
    trailers = {key: value for key, value in error.trailing_metadata()}
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    known = {}
    for packed in status.details:
        name = packed.type_url.rsplit(".", 1)[1]
        detail = getattr(error_details_pb2, name)()
        packed.Unpack(detail)
        known[name] = detail
    return known


def must_fail(call, code, reason):
    """Makes a call that must be refused, and returns the details."""
    try:
        call()
    except grpc.RpcError as error:
        details = details_of(error)
        assert error.code() == code, error
        info = details["ErrorInfo"]
        assert (info.reason, info.domain) == (reason, "wharf"), info
        return details
    raise AssertionError(f"no {reason}")


def until_shell(processes):
    """A process that has just started may still be the one that was to become it."""
    deadline = time.monotonic() + 10
    while not any(process.args[:1] == ["sh"] for process in processes()):
        assert time.monotonic() < deadline, processes()
        time.sleep(0.05)


def lifecycle(channel, archive):
    from wharf.v1 import (
        container_pb2,
        container_service_pb2,
        container_service_pb2_grpc,
        event_service_pb2,
        event_service_pb2_grpc,
        image_service_pb2,
        image_service_pb2_grpc,
    )

    images = image_service_pb2_grpc.ImageServiceStub(channel)
    imported = images.ImportImage(import_messages(image_service_pb2, archive)).images
    reference = imported[0].references[0]

    containers = container_service_pb2_grpc.ContainerServiceStub(channel)
    events = event_service_pb2_grpc.EventServiceStub(channel)
    request = container_service_pb2
    state = container_pb2.Container.State

    def by(step):
        return (("x-request-id", f"python-{step}"),)

    spec = container_pb2.ContainerSpec(image=reference)
    spec.process.args[:] = ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 1; done"]
    spec.network.none.SetInParent()
    create = request.CreateContainerRequest(name="snake", spec=spec, labels={"app": "python"})
    created = containers.CreateContainer(create, metadata=by("create")).container
    assert created.state == state.STATE_CREATED, created

    named = {"container": "snake"}
    wait = containers.WaitContainer(request.WaitContainerRequest(**named))
    assert next(wait).WhichOneof("response") == "registered"
    started = containers.StartContainer(request.StartContainerRequest(**named), metadata=by("start"))
    assert started.changed and started.container.run == 1
    listed = containers.ListContainers(request.ListContainersRequest()).containers
    assert [container.name for container in listed] == ["snake"]
    top = request.ListContainerProcessesRequest(**named)
    until_shell(lambda: containers.ListContainerProcesses(top).processes)
    assert containers.PauseContainer(request.PauseContainerRequest(**named)).changed
    assert containers.ResumeContainer(request.ResumeContainerRequest(**named)).changed

    details = must_fail(
        lambda: containers.DeleteContainer(
            request.DeleteContainerRequest(**named), metadata=by("too-early")
        ),
        grpc.StatusCode.FAILED_PRECONDITION,
        "CONTAINER_RUNNING",
    )
    assert details["ErrorInfo"].metadata["state"], details
    assert details["PreconditionFailure"].violations, details
    assert details["RequestInfo"].request_id == "python-too-early"

    stopped = containers.StopContainer(request.StopContainerRequest(**named), metadata=by("stop"))
    assert stopped.changed and stopped.exit_status.code == 3, stopped
    result = next(wait).result
    assert result.exit_status.code == 3 and result.exit_status.cause.request_id == "python-stop"
    assert containers.DeleteContainer(request.DeleteContainerRequest(**named)).changed
    must_fail(
        lambda: containers.GetContainer(request.GetContainerRequest(**named)),
        grpc.StatusCode.NOT_FOUND,
        "CONTAINER_NOT_FOUND",
    )

    watch = event_service_pb2.WatchEventsRequest(since_time={})
    watch.filter.container_ids.append(created.id)
    types = []
    for message in events.WatchEvents(watch):
        if message.WhichOneof("response") == "event":
            types.append(event_service_pb2.Event.Type.Name(message.event.type))
            if types[-1] == "TYPE_CONTAINER_DELETED":
                break
    assert types[0] == "TYPE_CONTAINER_CREATED" and "TYPE_CONTAINER_EXITED" in types, types
    violations(containers, request)


def violations(containers, request):
    """A request that is wrong in several ways hears of each."""
    wrong = request.CreateContainerRequest(name="No/Name", spec={})
    details = must_fail(
        lambda: containers.CreateContainer(wrong),
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
    )
    fields = {violation.field for violation in details["BadRequest"].field_violations}
    assert {"name", "spec.image"} <= fields, fields


def many_calls(channel):
    """One connection, many request ids: each answer must carry its own call's."""
    from wharf.v1 import system_service_pb2, system_service_pb2_grpc

    system = system_service_pb2_grpc.SystemServiceStub(channel)
    request = system_service_pb2.GetVersionRequest()
    for _ in range(0, CALLS_ON_ONE_CONNECTION, 100):
        ids = [str(uuid.uuid4()) for _ in range(100)]
        calls = [
            system.GetVersion.future(request, metadata=(("x-request-id", id),)) for id in ids
        ]
        for id, call in zip(ids, calls):
            call.result()
            assert dict(call.initial_metadata())["x-request-id"] == id


def main():
    protos, socket, archive = sys.argv[1:]
    with tempfile.TemporaryDirectory() as out:
        stubs.generate(protos, out)
        with grpc.insecure_channel(f"unix://{socket}") as channel:
            lifecycle(channel, archive)
            many_calls(channel)
    print("ok")


if __name__ == "__main__":
    main()
