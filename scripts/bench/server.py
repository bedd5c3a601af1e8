"""One wharfd, its keeper, and a client that stays connected."""

import json
import os
import signal
import subprocess
import time

import grpc

import proc
from place import IMAGE, until


class Server:
    def __init__(self, place, name, *options):
        from wharf.v1 import container_service_pb2, container_service_pb2_grpc
        from wharf.v1 import system_service_pb2, system_service_pb2_grpc

        self.api, self.system = container_service_pb2, system_service_pb2
        self.container_stub = container_service_pb2_grpc.ContainerServiceStub
        self.system_stub = system_service_pb2_grpc.SystemServiceStub
        self.place, self.name = place, name
        self.directory = place.directory / f"wharfd-{name}"
        self.host = f"unix://{self.directory}.sock"
        self.registries = place.make(f"registries-{name}")
        self.options = options
        place.servers.append(self)
        self.start()
        self.wharf("import", "--reference", IMAGE, place.archive)

    def start(self):
        """Returns after how many seconds it was ready: its backend connected."""
        began = time.perf_counter()
        self.process = self.place.spawn(
            self.place.programs / "wharfd",
            "--listen", self.host,
            "--state-dir", self.directory / "state",
            "--run-dir", self.directory / "run",
            "--registry-config-dir", self.registries,
            *self.options,
        )
        until(f"{self.name} is ready", self.is_ready, every=0.001)
        took = time.perf_counter() - began
        # It may be another one after a restart: without containers it need not stay.
        self.keeper = until("the keeper runs", lambda: proc.find("wharf-keeper", self.directory))
        self.containers = self.container_stub(grpc.insecure_channel(self.host))
        return took

    def is_ready(self):
        """On a new connection: an old one tries again more and more slowly."""
        with grpc.insecure_channel(self.host) as channel:
            info = self.system_stub(channel).GetInfo(self.system.GetInfoRequest())
        return all(condition.status for condition in info.conditions)

    def kill(self):
        """By SIGKILL. Containers go on."""
        self.process.kill()
        self.process.wait()

    @property
    def pids(self):
        return {"wharfd": self.process.pid, "keeper": self.keeper}

    def memory(self):
        return {name: proc.memory(pid) for name, pid in self.pids.items()}

    def wharf(self, *arguments):
        return subprocess.run(self.wharf_command(*arguments), check=True, capture_output=True).stdout

    def wharf_command(self, *arguments):
        return [str(word) for word in (self.place.programs / "wharf", "--host", self.host, *arguments)]

    def pid(self, name):
        request = self.api.GetContainerRequest(container=name)
        return self.containers.GetContainer(request).container.pid

    def list(self):
        request = self.api.ListContainersRequest(page_size=1000)
        return self.containers.ListContainers(request).containers

    def empty(self):
        """Whatever a measurement that was broken off has left."""
        if self.process.poll() is None:
            for container in self.list():
                request = self.api.DeleteContainerRequest(container=container.id, force=True)
                self.containers.DeleteContainer(request)

    def end_keeper(self):
        """It keeps nothing any more, so it ends."""
        if getattr(self, "keeper", None):
            os.kill(self.keeper, signal.SIGTERM)


class Meter:
    """A client of our own, in Rust; see scripts/meter."""

    def __init__(self, server, runtime=""):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": None, "text": True}
        program = server.place.programs / "wharf-meter"
        self.process = server.place.spawn(program, server.host, IMAGE, runtime, **pipes)

    def __call__(self, *request):
        print(json.dumps([str(word) for word in request]), file=self.process.stdin, flush=True)
        reading = json.loads(self.process.stdout.readline())
        assert reading["code"] == 0, reading
        return reading

    def milliseconds(self, *request):
        return self(*request)["seconds"] * 1000
