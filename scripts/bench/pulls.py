"""How fast an image is pulled and unpacked into an empty store, and what it costs."""

import os
import resource
import subprocess

import proc
from lifecycles import interleave
from place import until
from registry import Registry
from sides import Ctr, CommandLine, Docker, run, timed

ROUNDS = 5
# What databases and logs may grow by: no image is smaller.
REST_BYTES = 100 << 20


def measure(place, containerd, local, dockerd):
    """By image and side: readings of each round, interleaved; and the sizes of the images."""
    registry = Registry(place)
    for server in (containerd, local):
        registry.known_to(server.registries)
    programs = {"registry": registry.process.pid}
    through = {"containerd": place.containerd.pid}
    sides = {
        "`wharf`, local": (CommandLine(local), {"wharfd": local.process.pid}),
        "`wharf`, containerd": (CommandLine(containerd), {"wharfd": containerd.process.pid, **through}),
        "ctr": (Ctr(place, "pull"), through),
    }
    if dockerd:
        sides["docker"] = (Docker(dockerd), {"dockerd": dockerd.daemon.pid})
    result = {"sizes": registry.sizes}
    for image in registry.sizes:
        by_side = {
            name: one(place, side, registry.reference(image), daemons | programs)
            for name, (side, daemons) in sides.items()
        }
        result[image] = interleave(ROUNDS, by_side)
    return result


def one(place, side, reference, daemons):
    def reading(_):
        nothing = occupied(place)
        idle = {name: proc.status_mib(pid, "VmRSS") for name, pid in daemons.items()}
        # What the one before has left to be written is not this one's to wait for.
        os.sync()
        for pid in daemons.values():
            proc.forget_peak(pid)
        before = cpu_seconds(daemons)
        took = timed(lambda: run(side.pull_command(reference)))
        cpu = {name: after - before[name] for name, after in cpu_seconds(daemons).items()}
        peak = {name: proc.status_mib(pid, "VmHWM") for name, pid in daemons.items()}
        run(side.remove_image_command(reference))
        until("its content is gone", lambda: occupied(place) < nothing + REST_BYTES, within=60)
        return {"seconds": took / 1000, "cpu_seconds": cpu, "idle_mib": idle, "peak_mib": peak}

    return reading


def cpu_seconds(daemons):
    """With what they start, and the client's."""
    used = {name: sum(proc.cpu_seconds(pid, children=True)) for name, pid in daemons.items()}
    clients = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used | {"client": clients.ru_utime + clients.ru_stime}


def occupied(place):
    """Bytes below the place: stores of all sides, whatever they call what they keep."""
    # Files go while it looks.
    counted = subprocess.run(["du", "--summarize", "--bytes", place.directory], capture_output=True, text=True)
    return int(counted.stdout.split()[0])
