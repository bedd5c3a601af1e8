"""Measures wharfd next to ctr on one private containerd, interleaved, and prints tables.

Absolute times say something about this machine only; counts and ratios travel. The result is written as
JSON, too, below target/bench. Needs root. usage: bench.py --programs target/release [--rounds 30]
"""

import argparse
import collections
import datetime
import json
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import grpc

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "clients"))
import lifecycle  # noqa: E402  (makes the stubs)

IMAGE = "docker.io/library/busybox:bench"
METRICS = "127.0.0.1:19338"
MANY = 100


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
    """A containerd, a wharfd and a client in a directory of their own."""

    def __init__(self, programs):
        self.programs = programs
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="wharf-bench-"))
        self.containerd_socket = self.directory / "containerd.sock"
        self.children = []

    def __enter__(self):
        self.containerd = self.spawn("containerd", "--config", self.write_config())
        until("containerd answers", lambda: self.ctr("version"))
        archive = self.directory / "image.tar"
        script = ROOT / "scripts" / "busybox-image.sh"
        subprocess.run([script, archive], check=True, capture_output=True)
        self.wharfd = self.spawn(
            self.programs / "wharfd",
            "--listen", f"unix://{self.directory}/wharfd.sock",
            "--containerd-address", self.containerd_socket,
            "--state-dir", self.directory / "state",
            "--run-dir", self.directory / "run",
        )
        self.connect()
        self.bring_image(archive)
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

    def spawn(self, *command):
        log = open(self.directory / f"{pathlib.Path(command[0]).name}.log", "wb")
        child = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
        self.children.append(child)
        return child

    def connect(self):
        stubs = self.directory / "stubs"
        stubs.mkdir()
        lifecycle.generate(ROOT / "proto", str(stubs))
        from wharf.v1 import container_pb2, container_service_pb2, container_service_pb2_grpc
        from wharf.v1 import system_service_pb2, system_service_pb2_grpc

        self.spec, self.api = container_pb2, container_service_pb2
        channel = grpc.insecure_channel(f"unix://{self.directory}/wharfd.sock")
        self.containers = container_service_pb2_grpc.ContainerServiceStub(channel)
        system = system_service_pb2_grpc.SystemServiceStub(channel)

        def is_ready():
            conditions = system.GetInfo(system_service_pb2.GetInfoRequest()).conditions
            return all(condition.status for condition in conditions)

        until("wharfd is ready", is_ready)

    def bring_image(self, archive):
        wharf = [self.programs / "wharf", "--host", f"unix://{self.directory}/wharfd.sock"]
        importing = wharf + ["import", "--reference", IMAGE, archive]
        subprocess.run([str(word) for word in importing], check=True, capture_output=True)
        self.ctr("images", "import", "--index-name", IMAGE, str(archive))

    def ctr(self, *arguments):
        command = ["ctr", "--address", str(self.containerd_socket), "--namespace", "bench"]
        return subprocess.run(command + list(arguments), check=True, capture_output=True).stdout

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
            child.wait(timeout=30)
        shutil.rmtree(self.directory, ignore_errors=True)

    # What is measured.

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


def timed(act):
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def start_to_running(place, rounds):
    """From the request to a running container: wharfd's one call against `ctr run --detach`."""
    ours, theirs = [], []
    for number in range(rounds):
        name = f"start-{number}"
        ours.append(timed(lambda: place.create(name, "sleep", "600")))
        place.delete(name)
        theirs.append(timed(lambda: place.ctr("run", "--detach", IMAGE, name, "sleep", "600")))
        place.ctr("tasks", "kill", "--signal", "SIGKILL", name)
        until("the task has ended", lambda: b"STOPPED" in place.ctr("tasks", "list"))
        place.ctr("tasks", "delete", name)
        place.ctr("containers", "delete", name)
    return ours, theirs


def whole_run(place, rounds):
    """Create, start, wait, delete of `true`, against `ctr run --rm`."""
    ours, theirs = [], []

    def run(name):
        place.create(name, "true")
        assert place.wait(name) == 0
        place.delete(name)

    for number in range(rounds):
        name = f"run-{number}"
        ours.append(timed(lambda: run(name)))
        theirs.append(timed(lambda: place.ctr("run", "--rm", IMAGE, name, "true")))
    return ours, theirs


def calls_of(place, act):
    """What it costs, once everything that follows has settled."""
    before = place.rpcs()
    act()
    time.sleep(1)
    calls = place.rpcs() - before
    return {name: count for name, count in sorted(calls.items()) if "Events." not in name}


def counts(place):
    def run():
        place.create("counted", "true")
        place.wait("counted")
        place.delete("counted")

    ours = calls_of(place, run)
    theirs = calls_of(place, lambda: place.ctr("run", "--rm", IMAGE, "counted", "true"))
    return ours, theirs


def resident_mib(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def memory(place):
    for number in range(MANY):
        place.create(f"many-{number}", "sleep", "600")
    many = resident_mib(place.wharfd)
    for number in range(MANY):
        place.delete(f"many-{number}")
    return many


def row(name, *cells):
    print(f"| {name:<44} | " + " | ".join(f"{cell:>12}" for cell in cells) + " |")


def table(title, *names):
    print(f"\n{title}\n")
    row("", *names)
    print(f"|{'-' * 46}|" + "|".join("-" * 14 for _ in names) + "|")


def compare(name, times):
    ours, theirs = (statistics.median(side) for side in times)
    row(name, f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}")
    return {"wharf_ms": times[0], "ctr_ms": times[1], "ratio_of_medians": ours / theirs}


def versions(place):
    first = place.ctr("version").decode()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, kernel {platform.release()}",
        "containerd": re.findall(r"Version:\s+(\S+)", first)[-1],
        "programs": str(place.programs),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    if not shutil.which("ctr") or not shutil.which("containerd"):
        sys.exit("bench: containerd and ctr are missing; nothing measured")

    with Place(options.programs.resolve()) as place:
        result = versions(place)
        print(", ".join(f"{name}: {value}" for name, value in result.items()))
        idle = resident_mib(place.wharfd)
        whole_run(place, 2)  # warm caches on both sides

        table("Milliseconds, medians, interleaved", "wharfd", "ctr", "ratio")
        result["start"] = compare("create to running", start_to_running(place, options.rounds))
        result["run"] = compare("create, start, wait, delete of true", whole_run(place, options.rounds))

        ours, theirs = counts(place)
        table("Calls to containerd for one run of true", "wharfd", "ctr")
        for name in sorted(set(ours) | set(theirs)):
            row(name, ours.get(name, 0), theirs.get(name, 0))
        row("all", sum(ours.values()), sum(theirs.values()))
        result["calls"] = {"wharf": ours, "ctr": theirs}

        many = memory(place)
        table("wharfd, resident MiB", "MiB")
        row("just started", f"{idle:.1f}")
        row(f"with {MANY} running containers", f"{many:.1f}")
        result["resident_mib"] = {"started": idle, f"with_{MANY}_containers": many}

    out = ROOT / "target" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{result['date'].replace(':', '')}.json"
    file.write_text(json.dumps(result, indent=1))
    print(f"\nwritten: {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
