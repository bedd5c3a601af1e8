"""How much goes through a process's streams, and what it costs those in between."""

import subprocess
import time

import proc
from lifecycles import interleave, timed
from place import until

MIB = 1 << 20
BLOCK = 64 << 10
# 100 bytes with its end.
LINE = "x" * 99
SECONDS = 5
NOWHERE = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def zeros(mib):
    return ("busybox", "dd", "if=/dev/zero", f"bs={BLOCK}", f"count={mib * MIB // BLOCK}")


def rate(mib, milliseconds):
    """MB/s."""
    return mib * MIB / 1e6 / (milliseconds / 1000)


def with_peaks(place, act):
    """What act() returns, and the most memory that wharfd and the keeper had meanwhile."""
    pids = {"wharfd": place.wharfd.pid, "keeper": place.keeper}
    for pid in pids.values():
        proc.forget_peak(pid)
    result = act()
    return result, {name: proc.status_mib(pid, "VmHWM") for name, pid in pids.items()}


def output(place, host, rounds, mib):
    """MB/s from an exec to a reader that takes everything."""

    def ours(_):
        reading = place.meter("exec", host, *zeros(mib))
        assert reading["bytes"] >= mib * MIB, reading
        return rate(mib, reading["seconds"] * 1000)

    def theirs(number):
        command = ("tasks", "exec", "--exec-id", f"out-{number}", host, *zeros(mib))
        return rate(mib, timed(lambda: place.ctr(*command, **NOWHERE)))

    def dockers(_):
        command = ["docker", "--host", place.docker.socket, "exec", host, *zeros(mib)]
        return rate(mib, timed(lambda: subprocess.run(command, check=True, **NOWHERE)))

    sides = {"wharfd": ours, "ctr": theirs, **({"docker": dockers} if place.docker else {})}
    return with_peaks(place, lambda: interleave(rounds, sides))


def feeding(place, host, rounds, mib):
    """MB/s from a client to an exec that takes everything."""
    drain = ("busybox", "dd", "of=/dev/null", f"bs={BLOCK}")

    def ours(_):
        reading = place.meter("feed", host, mib * MIB, *drain)
        return rate(mib, reading["seconds"] * 1000)

    def dockers(_):
        command = ["docker", "--host", place.docker.socket, "exec", "--interactive", host, *drain]
        source = subprocess.Popen(["dd", *zeros(mib)[2:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return rate(mib, timed(lambda: subprocess.run(command, stdin=source.stdout, check=True, **NOWHERE)))

    sides = {"wharfd": ours, **({"docker": dockers} if place.docker else {})}
    return with_peaks(place, lambda: interleave(rounds, sides))


def ingestion(place, rounds):
    """100-byte lines at full speed into the log: MB/s, and CPU seconds for each GB."""

    def ours(number):
        name = f"writer-{number}"
        pid = place.create(name, "busybox", "yes", LINE).pid
        shim = proc.parent(pid)
        pids = {"keeper": place.keeper, "wharfd": place.wharfd.pid, "shim": shim, "writer": pid}
        reading = full_speed(pids)
        place.delete(name)
        return reading

    def dockers(number):
        name = f"writer-{number}"
        place.docker.start(name, "busybox", "yes", LINE)
        pid = place.docker.pid(name)
        daemon = place.docker.daemon.pid
        reading = full_speed({"dockerd": daemon, "shim": proc.parent(pid), "writer": pid})
        place.docker.delete(name)
        return reading

    sides = {"wharfd": ours, **({"docker": dockers} if place.docker else {})}
    return with_peaks(place, lambda: interleave(rounds, sides))


def full_speed(pids):
    """MB/s of the writer, and CPU seconds per GB of all, while nothing starts or ends."""
    writer = pids["writer"]
    until("it writes", lambda: proc.bytes_written(writer) > MIB)
    before = {name: proc.cpu_seconds(pid) for name, pid in pids.items()}
    began, start = time.monotonic(), proc.bytes_written(writer)
    time.sleep(SECONDS)
    gigabytes = (proc.bytes_written(writer) - start) / 1e9
    seconds = time.monotonic() - began
    used = {name: proc.cpu_seconds(pid) - before[name] for name, pid in pids.items()}
    per_gigabyte = {name: cpu / gigabytes for name, cpu in used.items()}
    return {"mb_per_second": gigabytes * 1000 / seconds, "cpu_seconds_per_gb": per_gigabyte}


def read_back(place, rounds):
    """A full log through StreamLogs: MB/s, entries per second, and wharfd's CPU seconds for each GB."""
    pid = place.create("full", "busybox", "yes", LINE).pid
    until("its log is full", lambda: proc.bytes_written(pid) > 150 * MIB, within=120)
    place.containers.StopContainer(place.api.StopContainerRequest(container="full"))
    readings = []
    for _ in range(rounds):
        before = proc.cpu_seconds(place.wharfd.pid)
        reading = place.meter("logs", "full")
        cpu = proc.cpu_seconds(place.wharfd.pid) - before
        readings.append({
            "mb_per_second": reading["bytes"] / 1e6 / reading["seconds"],
            "entries_per_second": reading["items"] / reading["seconds"],
            "cpu_seconds_per_gb": cpu / (reading["bytes"] / 1e9),
        })
    place.delete("full")
    return readings
