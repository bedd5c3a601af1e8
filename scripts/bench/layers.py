"""Images of a given size, always the same: OCI layouts of layers with many files, which gzip makes half as large."""

import contextlib
import gzip
import hashlib
import io
import json
import platform
import random
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MACHINE = platform.machine()
# As images name it.
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(MACHINE, MACHINE)
SEED = 1
SMALLEST, LARGEST = 4 << 10, 1 << 20
POOL = 16 << 20
IN_ONE_DIRECTORY = 50


class Hashed:
    """A file that is written, its size and digest."""

    def __init__(self, file=None):
        self.file, self.hash, self.bytes = file, hashlib.sha256(), 0

    def write(self, data):
        self.hash.update(data)
        self.bytes += len(data)
        if self.file:
            self.file.write(data)

    def flush(self):
        pass

    @property
    def digest(self):
        return f"sha256:{self.hash.hexdigest()}"


class Both:
    def __init__(self, *files):
        self.files = files

    def write(self, data):
        for file in self.files:
            file.write(data)


class Content:
    """Pieces of random bytes and of words, from pools so large that no two pieces near each other are alike."""

    def __init__(self):
        self.random = random.Random(SEED)
        words = [self.random.randbytes(self.random.randint(2, 6)).hex() for _ in range(500)]
        text = " ".join(self.random.choices(words, k=POOL // 4)).encode()
        # Words are a third of their size then.
        self.pools = (self.random.randbytes(POOL), text[:POOL], text[-POOL:])

    def file(self):
        size = int(SMALLEST * (LARGEST / SMALLEST) ** self.random.random())
        pool = self.random.choice(self.pools)
        start = self.random.randrange(POOL - size)
        return pool[start : start + size]


def layout(directory, layers, size):
    """Makes an image of so many layers of so many compressed bytes each; what it has of both kinds."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    content = Content()

    def blob(media_type, data):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    made = [layer(blobs, number, size, content) for number in range(layers)]
    config = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [plain.digest for _, plain in made]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(CONFIG, json.dumps(config).encode()),
        "layers": [{"mediaType": LAYER, "digest": packed.digest, "size": packed.bytes} for packed, _ in made],
    }
    index = {"schemaVersion": 2, "manifests": [blob(MANIFEST, json.dumps(manifest).encode())]}
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "bench"}
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return {
        "compressed_bytes": sum(packed.bytes for packed, _ in made),
        "unpacked_bytes": sum(plain.bytes for _, plain in made),
    }


def layer(blobs, number, size, content):
    """What is written and what is in it, until that much is written."""
    incoming = blobs / "incoming"
    with contextlib.ExitStack() as stack:
        packed = Hashed(stack.enter_context(incoming.open("wb")))
        zipped = stack.enter_context(gzip.GzipFile("", "wb", 6, packed, 0))
        plain = Hashed()
        tar = stack.enter_context(tarfile.open(fileobj=Both(plain, zipped), mode="w|", format=tarfile.PAX_FORMAT))
        count = 0
        while packed.bytes < size:
            if count % IN_ONE_DIRECTORY == 0:
                directory = tarfile.TarInfo(f"layer-{number}/{count // IN_ONE_DIRECTORY}")
                directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(directory)
            data = content.file()
            file = tarfile.TarInfo(f"{directory.name}/file-{count}")
            file.size = len(data)
            tar.addfile(file, io.BytesIO(data))
            count += 1
    incoming.rename(blobs / packed.digest.removeprefix("sha256:"))
    return packed, plain
