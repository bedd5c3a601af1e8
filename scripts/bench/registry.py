"""A registry on loopback, with the images that are pulled. They are made once, and stay below target/bench."""

import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import tempfile

import layers
from place import ROOT, until

MB = 1_000_000
# Layers, and how much each has, compressed. The smallest shows what memory depends on.
IMAGES = {"1x50": (1, 50 * MB), "1x500": (1, 500 * MB), "10x50": (10, 50 * MB)}
STORES = ROOT / "target" / "bench" / "registry"


class Registry:
    def __init__(self, place):
        # Other layers are other images.
        recipe = pathlib.Path(layers.__file__).read_bytes() + repr(IMAGES).encode()
        store = STORES / hashlib.sha256(recipe).hexdigest()[:12]
        self.place, self.sizes_file = place, store / "sizes.json"
        config = place.directory / "registry.json"
        config.write_text(
            json.dumps(
                {
                    "version": 0.1,
                    "log": {"accesslog": {"disabled": True}},
                    "storage": {"filesystem": {"rootdirectory": str(store)}},
                    "http": {"addr": "127.0.0.1:0", "secret": "of this bench"},
                }
            )
        )
        is_new = not self.sizes_file.exists()
        if is_new:
            # Also what another recipe, or a run that was broken off, has left.
            shutil.rmtree(STORES, ignore_errors=True)
            store.mkdir(parents=True)
        self.process = place.spawn("docker-registry", "serve", config)
        self.address = until("the registry listens", self.listening)
        if is_new:
            self.fill()
        self.sizes = json.loads(self.sizes_file.read_text())

    def listening(self):
        """It binds to port 0, and says in its log what it got."""
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", (self.place.directory / "docker-registry.log").read_text())
        return found and found[1]

    def fill(self):
        print("making the images that are pulled, some minutes", flush=True)
        sizes = {name: self.push(name, *of) for name, of in IMAGES.items()}
        self.sizes_file.write_text(json.dumps(sizes))

    def push(self, name, count, size):
        with tempfile.TemporaryDirectory(dir=self.place.directory) as directory:
            sizes = layers.layout(pathlib.Path(directory), count, size)
            target = f"docker://{self.reference(name)}"
            copy = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{directory}:bench", target]
            subprocess.run(copy, check=True, capture_output=True)
        return sizes

    def reference(self, name):
        return f"{self.address}/{name}:bench"

    def known_to(self, directory):
        """Tells a server, by its directory of registries, that this one has no TLS."""
        host = pathlib.Path(directory) / self.address
        host.mkdir(parents=True)
        (host / "hosts.toml").write_text(f'server = "http://{self.address}"\n')
