"""A dockerd on the same containerd, if there is one to be run."""

import io
import json
import shutil
import subprocess
import tarfile

from place import until

IMAGE = "busybox:bench"


def start(place):
    """None if it is not installed."""
    if all(shutil.which(program) for program in ("docker", "dockerd")):
        return Engine(place)
    return None


class Engine:
    """Without a network of its own: it must leave the machine's alone."""

    def __init__(self, place):
        self.socket = f"unix://{place.directory}/docker.sock"
        root = place.directory / "docker"
        self.daemon = place.spawn(
            "dockerd",
            "--host", self.socket,
            "--containerd", place.containerd_socket,
            "--data-root", root / "data",
            "--exec-root", root / "exec",
            "--pidfile", root / "pid",
            "--bridge", "none", "--iptables=false", "--ip6tables=false",
        )
        until("dockerd answers", self.version)
        # dockerd of that age knows no OCI layout: it gets the one layer there is.
        self.run("import", "--change", "ENV PATH=/bin", "-", IMAGE, input=only_layer(place.archive))

    def command(self, *arguments):
        return ["docker", "--host", self.socket, *arguments]

    def run(self, *arguments, **options):
        command = self.command(*arguments)
        return subprocess.run(command, check=True, capture_output=True, **options).stdout

    def version(self):
        return self.run("version", "--format", "{{.Server.Version}}").decode().strip()


def only_layer(archive):
    with tarfile.open(archive) as layout:
        def blob(descriptor):
            algorithm, _, digest = descriptor["digest"].partition(":")
            return layout.extractfile(f"./blobs/{algorithm}/{digest}").read()

        index = json.load(layout.extractfile("./index.json"))
        manifest = json.load(io.BytesIO(blob(index["manifests"][0])))
        (layer,) = manifest["layers"]
        return blob(layer)
