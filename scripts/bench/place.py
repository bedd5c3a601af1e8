"""What is measured: a containerd, a wharfd and its peers in a directory of their own."""

import collections
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import grpc

import docker
import proc

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "clients"))
import stubs  # noqa: E402

IMAGE = "docker.io/library/busybox:bench"
METRICS = "127.0.0.1:19338"


def until(what, probe, within=30):
    """Polls until probe() answers something true."""
    deadline = time.monotonic() + within
    while True:
        try:
            answer = probe()
            if answer:
                return answer
        except (OSError, grpc.RpcError, subprocess.CalledProcessError):
            pass
        if time.monotonic() > deadline:
            sys.exit(f"bench: still not so after {within} s: {what}")
        time.sleep(0.05)


class Place:
    """Everything runs here, and nothing is left of it."""

    def __init__(self, programs):
        self.programs = programs
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="wharf-bench-"))
        self.containerd_socket = self.directory / "containerd.sock"
        self.host = f"unix://{self.directory}/wharfd.sock"
        self.children = []
        self.keeper = None

    def __enter__(self):
        try:
            return self.set_up()
        except BaseException:
            self.__exit__()
            raise

    def set_up(self):
        self.spawn("containerd", "--config", self.write_config())
        until("containerd answers", lambda: self.ctr("version"))
        archive = self.directory / "image.tar"
        script = ROOT / "scripts" / "busybox-image.sh"
        subprocess.run([script, archive], check=True, capture_output=True)
        self.wharfd = self.spawn(
            self.programs / "wharfd",
            "--listen", self.host,
            "--containerd-address", self.containerd_socket,
            "--state-dir", self.directory / "state",
            "--run-dir", self.directory / "run",
        )
        self.connect()
        self.keeper = until("the keeper runs", lambda: proc.find("wharf-keeper", self.directory))
        self.wharf("import", "--reference", IMAGE, str(archive))
        self.ctr("images", "import", "--index-name", IMAGE, str(archive))
        self.docker = docker.Docker(self) if docker.is_installed() else None
        if self.docker:
            until("dockerd answers", self.docker.version)
            self.docker.bring_image(archive)
        return self

    def write_config(self):
        config = self.directory / "containerd.toml"
        config.write_text(
            f'''version = 2
root = "{self.directory}/containerd/root"
state = "{self.directory}/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{self.containerd_socket}"
[metrics]
address = "{METRICS}"
[plugins."io.containerd.internal.v1.opt"]
path = "{self.directory}/containerd/opt"
'''
        )
        return config

    def spawn(self, *command, **options):
        log = open(self.directory / f"{pathlib.Path(command[0]).name}.log", "wb")
        streams = {"stdout": log, "stderr": log, **options}
        child = subprocess.Popen([str(word) for word in command], **streams)
        self.children.append(child)
        return child

    def connect(self):
        generated = self.directory / "stubs"
        generated.mkdir()
        stubs.generate(ROOT / "proto", str(generated))
        from wharf.v1 import container_pb2, container_service_pb2, container_service_pb2_grpc
        from wharf.v1 import system_service_pb2, system_service_pb2_grpc

        self.spec, self.api = container_pb2, container_service_pb2
        channel = grpc.insecure_channel(self.host)
        self.containers = container_service_pb2_grpc.ContainerServiceStub(channel)
        system = system_service_pb2_grpc.SystemServiceStub(channel)

        def is_ready():
            conditions = system.GetInfo(system_service_pb2.GetInfoRequest()).conditions
            return all(condition.status for condition in conditions)

        until("wharfd is ready", is_ready)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.client = self.spawn(self.programs / "wharf-meter", self.host, **pipes)

    def meter(self, *request):
        """Has the client of our own do something; see scripts/meter."""
        print(*request, file=self.client.stdin, flush=True)
        reading = json.loads(self.client.stdout.readline())
        assert reading["code"] == 0, reading
        return reading

    def wharf(self, *arguments):
        command = [self.programs / "wharf", "--host", self.host, *arguments]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def ctr(self, *arguments, **streams):
        command = ["ctr", "--address", str(self.containerd_socket), "--namespace", "bench"]
        streams = streams or {"capture_output": True}
        return subprocess.run(command + list(arguments), check=True, **streams).stdout

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
            child.wait(timeout=30)
        # It keeps nothing any more, so it ends.
        if self.keeper:
            os.kill(self.keeper, signal.SIGTERM)
        shutil.rmtree(self.directory, ignore_errors=True)

    # Containers, on either side.

    def create(self, name, *args):
        spec = self.spec.ContainerSpec(image=IMAGE)
        spec.process.args[:] = args
        spec.network.none.SetInParent()
        request = self.api.CreateContainerRequest(name=name, spec=spec, start=True)
        return self.containers.CreateContainer(request).container

    def delete(self, name):
        self.containers.DeleteContainer(self.api.DeleteContainerRequest(container=name, force=True))

    def wait(self, name):
        for message in self.containers.WaitContainer(self.api.WaitContainerRequest(container=name)):
            if message.WhichOneof("response") == "result":
                return message.result.exit_status.code

    def ctr_start(self, name, *args, options=()):
        self.ctr("run", "--detach", *options, IMAGE, name, *args)

    def ctr_delete(self, name):
        self.ctr("tasks", "kill", "--signal", "SIGKILL", name)
        until("the task has ended", lambda: b"STOPPED" in self.ctr("tasks", "list"))
        self.ctr("tasks", "delete", name)
        self.ctr("containers", "delete", name)

    def rpcs(self):
        """Calls that containerd has taken so far, by method, as its metrics count them."""
        text = urllib.request.urlopen(f"http://{METRICS}/v1/metrics").read().decode()
        calls = collections.Counter()
        for line in text.splitlines():
            found = re.match(r"grpc_server_started_total\{(.*)\} (\S+)", line)
            if found:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', found[1]))
                service = labels["grpc_service"].rsplit(".", 1)[-1]
                calls[f"{service}.{labels['grpc_method']}"] += int(float(found[2]))
        return calls
