"""Where everything is measured: a containerd, servers and peers in a directory of their own."""

import collections
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

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "clients"))
import stubs  # noqa: E402

IMAGE = "docker.io/library/busybox:bench"
METRICS = "127.0.0.1:19338"


def until(what, probe, within=30, every=0.05):
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
        time.sleep(every)


class Place:
    """Everything runs here, and nothing is left of it."""

    def __init__(self, programs):
        self.programs = programs
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="wharf-bench-"))
        self.containerd_socket = self.directory / "containerd.sock"
        self.archive = self.directory / "image.tar"
        self.children = []
        self.servers = []

    def __enter__(self):
        try:
            script = ROOT / "scripts" / "busybox-image.sh"
            subprocess.run([script, self.archive], check=True, capture_output=True)
            stubs.generate(ROOT / "proto", self.make("stubs"))
            self.containerd = self.spawn("containerd", "--config", self.write_config())
            until("containerd answers", lambda: self.ctr("version"))
            self.ctr("images", "import", "--index-name", IMAGE, str(self.archive))
            return self
        except BaseException:
            self.__exit__()
            raise

    def make(self, name):
        """A directory."""
        directory = self.directory / name
        directory.mkdir(parents=True)
        return str(directory)

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
        log = open(self.directory / f"{pathlib.Path(command[0]).name}.log", "ab")
        streams = {"stdout": log, "stderr": log, **options}
        child = subprocess.Popen([str(word) for word in command], **streams)
        self.children.append(child)
        return child

    def ctr(self, *arguments):
        command = ["ctr", "--address", str(self.containerd_socket), "--namespace", "bench"]
        return subprocess.run(command + list(arguments), check=True, capture_output=True).stdout

    def __exit__(self, *_):
        for server in self.servers:
            server.empty()
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
            child.wait(timeout=30)
        for server in self.servers:
            server.end_keeper()
        shutil.rmtree(self.directory, ignore_errors=True)

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
