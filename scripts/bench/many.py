"""1,000 idle containers at once: what each takes, and what it does to the next one and to a restart."""

import pathlib
import statistics

import proc
from sides import timed

MANY = 1_000
STARTS = 50


def measure(side):
    server = side.server
    restart(side)
    moments = {"none": moment(side)}
    names = [f"idle-{number}" for number in range(MANY)]
    took = timed(lambda: [side.start(name, "sleep", "600") for name in names])
    moments[f"{MANY}"] = moment(side)
    ids = [container.id for container in server.list()]
    assert len(ids) == MANY, len(ids)
    deleting = timed(lambda: [side.delete(name) for name in names])
    assert server.list() == [], "containers are left"
    left = leftovers(server, ids)
    assert not left, left
    return {
        "moments": moments,
        "starts_per_second": MANY / took * 1000,
        "deletions_per_second": MANY / deleting * 1000,
    }


def moment(side):
    """How things are with what there is. wharfd is killed in it, and another one takes over."""
    server = side.server
    memory = {"before the restart": server.memory()}
    started = []
    for number in range(STARTS):
        name = f"one-more-{number}"
        started.append(side.meter.milliseconds("start", name, "sleep", "600"))
        side.delete(name)
    result = {
        "start_ms": statistics.median(started),
        "list_ms": statistics.median(side.meter.milliseconds("list") for _ in range(9)),
        "wharf_ps_ms": statistics.median(timed(lambda: server.wharf("ps", "--all")) for _ in range(9)),
    }
    result["reattach_ms"] = restart(side)
    memory["after it"] = server.memory()
    return result | {"memory_mib": memory}


def restart(side):
    """After a SIGKILL; returns the milliseconds until its backend was connected again."""
    side.server.kill()
    took = side.server.start() * 1000
    side.connect()
    return took


def leftovers(server, ids):
    """Control groups, roots, mounts and children of the keeper, of containers that were deleted."""
    ids = set(ids)
    groups = pathlib.Path("/sys/fs/cgroup").glob("**/wharf/*")
    left = [str(path) for path in groups if path.name.partition(".")[0] in ids]
    left += [str(path) for path in (server.directory / "state/local/roots").iterdir()]
    mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    left += [line for line in mounts if str(server.directory) in line]
    return left + [f"process {pid}" for pid in proc.children(server.keeper)]
