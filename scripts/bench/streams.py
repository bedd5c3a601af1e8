"""How much goes through a process's streams, and what it costs those in between."""

import contextlib
import subprocess
import time

import proc
from lifecycles import interleave, running, side_host
from place import until
from sides import NOWHERE, Wharf, run, timed

MIB = 1 << 20
BLOCK = 64 << 10
# 100 bytes with its end.
LINE = "x" * 99
SECONDS = 5


def zeros(mib):
    return ("busybox", "dd", "if=/dev/zero", f"bs={BLOCK}", f"count={mib * MIB // BLOCK}")


def rate(mib, milliseconds):
    """MB/s."""
    return mib * MIB / 1e6 / (milliseconds / 1000)


@contextlib.contextmanager
def peaks(servers, into):
    """The most memory that wharfd and the keeper have meanwhile."""
    pids = {server.name: server.pids for server in servers}
    for pid in (pid for of in pids.values() for pid in of.values()):
        proc.forget_peak(pid)
    yield
    for server, of in pids.items():
        into[server] = {name: proc.status_mib(pid, "VmHWM") for name, pid in of.items()}


def output(sides, rounds, mib):
    """MB/s from an exec to a reader that takes everything."""

    def by(side):
        host = side_host(side)

        def ours(_):
            reading = side.meter("exec", host, *zeros(mib))
            assert reading["bytes"] >= mib * MIB, reading
            return rate(mib, reading["seconds"] * 1000)

        def theirs(number):
            return rate(mib, timed(lambda: run(side.exec_command(host, f"out-{number}", *zeros(mib)))))

        return ours if isinstance(side, Wharf) else theirs

    with running(sides, "sleep", "600"):
        return interleave(rounds, {name: by(side) for name, side in sides.items()})


def feeding(sides, rounds, mib):
    """MB/s from a client to an exec that takes everything."""
    drain = ("busybox", "dd", "of=/dev/null", f"bs={BLOCK}")

    def by(side):
        host = side_host(side)

        def ours(_):
            reading = side.meter("feed", host, mib * MIB, *drain)
            return rate(mib, reading["seconds"] * 1000)

        def dockers(_):
            command = side.engine.command("exec", "--interactive", host, *drain)
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            source = subprocess.Popen(["dd", *zeros(mib)[2:]], **{**quiet, "stdout": subprocess.PIPE})
            feed = {"stdin": source.stdout, "check": True, **quiet}
            return rate(mib, timed(lambda: subprocess.run(command, **feed)))

        return ours if isinstance(side, Wharf) else dockers

    # `ctr tasks exec` does not tell an exec that its input has ended.
    sides = {name: side for name, side in sides.items() if name != "ctr"}
    with running(sides, "sleep", "600"):
        return interleave(rounds, {name: by(side) for name, side in sides.items()})


def ingestion(sides, rounds):
    """100-byte lines at full speed into the log: MB/s, and CPU seconds for each GB."""

    def by(name, side):
        def measure(number):
            container = f"writer-{name.split()[-1]}-{number}"
            side.start(container, "busybox", "yes", LINE)
            pid = side.pid(container)
            if isinstance(side, Wharf):
                daemons = side.server.pids
            else:
                daemons = {"dockerd": side.engine.daemon.pid}
            shim = {} if name == "wharfd, local" else {"shim": proc.parent(pid)}
            reading = full_speed({**daemons, **shim, "writer": pid})
            side.delete(container)
            return reading

        return measure

    sides = {name: side for name, side in sides.items() if name != "ctr"}
    return interleave(rounds, {name: by(name, side) for name, side in sides.items()})


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


def read_back(side, rounds):
    """A full log through StreamLogs: MB/s, entries per second, and wharfd's CPU seconds for each GB."""
    side.start("full", "busybox", "yes", LINE)
    pid = side.pid("full")
    until("its log is full", lambda: proc.bytes_written(pid) > 150 * MIB, within=120)
    side.server.containers.StopContainer(side.server.api.StopContainerRequest(container="full"))
    wharfd = side.server.pids["wharfd"]
    readings = []
    for _ in range(rounds):
        before = proc.cpu_seconds(wharfd)
        reading = side.meter("logs", "full")
        cpu = proc.cpu_seconds(wharfd) - before
        readings.append({
            "mb_per_second": reading["bytes"] / 1e6 / reading["seconds"],
            "entries_per_second": reading["items"] / reading["seconds"],
            "cpu_seconds_per_gb": cpu / (reading["bytes"] / 1e9),
        })
    side.delete("full")
    return readings
