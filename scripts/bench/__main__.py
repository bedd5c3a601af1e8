"""Measures wharfd next to its peers, interleaved, and prints tables.

One wharfd runs containers by itself, another one on a private containerd that `ctr` uses, too. Absolute times say
something about this machine only; counts and ratios travel. The result is written as JSON, too, below target/bench.
Needs root. dockerd is measured as well if it is installed.
usage: bench --programs target/release [--rounds 20] [--only times,calls,parallel,streams,logs,many,pulls]
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

import docker
import lifecycles
import many
import parallel
import pulls
import sides
import streams
from place import ROOT, Place
from server import Server

PROGRAMS = ("ctr", "containerd", "runc", "unshare", "docker-registry", "skopeo")
STREAM_MIB = 1024
STREAM_ROUNDS = 5
# Others may be using the machine. It is waited for, but not for ever.
QUIET_LOAD = 0.5
QUIET_WITHIN = 60
# Whose times are divided by whose.
RATIOS = (
    ("docker", "wharfd, local"),
    ("crun", "wharfd, local"),
    ("wharfd, local", "unshare"),
    ("wharfd, containerd", "ctr"),
    ("wharfd, containerd", "ctr --seccomp"),
)


def row(name, *cells):
    print(f"| {name:<36} | " + " | ".join(f"{cell:>12}" for cell in cells) + " |")


def table(title, *names):
    print(f"\n{title}\n")
    row("", *names)
    print(f"|{'-' * 38}|" + "|".join("-" * 14 for _ in names) + "|", flush=True)


def shown(value, digits=1):
    return "-" if value is None else f"{value:.{digits}f}"


def median(values):
    return statistics.median(values) if values else None


def times(everyone, rounds):
    measured = lifecycles.measure(everyone, rounds)
    table("Milliseconds, medians, interleaved", *measured)
    for side in everyone:
        row(side, *(shown(median(by_side.get(side))) for by_side in measured.values()))
    for of, to in RATIOS:
        ratios = (lifecycles.ratio(by_side, of, to) for by_side in measured.values())
        row(f"{of} / {to}", *(shown(ratio, 2) for ratio in ratios))
    return measured


def calls(place, everyone):
    result = lifecycles.calls(place, everyone)
    for what, by_side in result.items():
        table(f"Calls to containerd for one {what} of true", *by_side)
        for name in sorted(set().union(*by_side.values())):
            row(name, *(calls.get(name, 0) for calls in by_side.values()))
        row("all", *(sum(calls.values()) for calls in by_side.values()))
    return result


def lives(everyone):
    measured = parallel.measure(everyone)
    table(f"Lives of true, {parallel.AT_ONCE} at once", "a second", "CPU ms of one")
    for side, readings in measured.items():
        row(side, shown(median([reading["lives_per_second"] for reading in readings])), "")
        for name in readings[0].get("cpu_ms_per_life", ()):
            row(f"  {name}", "", shown(median([r["cpu_ms_per_life"][name] for r in readings]), 2))
    return measured


def throughput(servers, flowing):
    peaks = {}
    with streams.peaks(servers, peaks):
        measured = {
            "its output": streams.output(flowing, STREAM_ROUNDS, STREAM_MIB),
            "its input": streams.feeding(flowing, STREAM_ROUNDS, STREAM_MIB),
        }
    table("MB/s through an exec, medians, interleaved", *flowing)
    for what, by_side in measured.items():
        row(what, *(shown(median(by_side.get(side)), 0) for side in flowing))
    memory_peaks(peaks)
    return measured | {"peak_mib": peaks}


def memory_peaks(peaks):
    for server, of in peaks.items():
        row(f"peak MiB, {server}", *(f"{name} {peak:.1f}" for name, peak in of.items()))


def logs(servers, flowing):
    peaks = {}
    with streams.peaks(servers, peaks):
        measured = streams.ingestion(flowing, STREAM_ROUNDS)
    table("100-byte lines into a log, and CPU s for each GB", *measured)
    row("MB/s", *(shown(median([r["mb_per_second"] for r in side]), 0) for side in measured.values()))
    for process in ("keeper", "wharfd", "dockerd", "shim", "writer"):
        costs = [[r["cpu_seconds_per_gb"].get(process) for r in side] for side in measured.values()]
        row(f"CPU s/GB of {process}", *("-" if None in c else shown(median(c), 2) for c in costs))
    memory_peaks(peaks)
    back = streams.read_back(flowing["wharfd, local"], STREAM_ROUNDS)
    table("A log of 100 MB read by StreamLogs", "")
    for name in back[0]:
        row(name.replace("_", " "), shown(median([r[name] for r in back]), 2))
    return {"ingestion": measured, "peak_mib": peaks, "read_back": back}


def idle(side):
    measured = many.measure(side)
    moments = measured["moments"]
    table("Idle containers on local", *moments)
    for what in ("start_ms", "list_ms", "wharf_ps_ms", "reattach_ms"):
        row(what.replace("_", " "), *(shown(moment[what]) for moment in moments.values()))
    for when in ("before the restart", "after it"):
        for program in ("wharfd", "keeper"):
            memory = [moment["memory_mib"][when][program] for moment in moments.values()]
            row(f"{program}, MiB (anonymous), {when}", *(of_memory(of) for of in memory))
            for kind in ("rss", "anonymous"):
                each = (memory[1][kind] - memory[0][kind]) * 1024 / many.MANY
                row(f"  KiB of {kind} for each", "", shown(each))
    for what in ("starts_per_second", "deletions_per_second"):
        row(what.replace("_", " "), "", shown(measured[what]))
    return measured


def images(*everyone):
    measured = pulls.measure(*everyone)
    for image, size in measured["sizes"].items():
        by_side = measured[image]
        mb = {what: bytes / 1e6 for what, bytes in size.items()}
        table(f"Pull of {image} MB, {mb['unpacked_bytes']:.0f} MB unpacked: medians, interleaved", *by_side)
        seconds = {side: [reading["seconds"] for reading in readings] for side, readings in by_side.items()}
        row("seconds", *(shown(median(of)) for of in seconds.values()))
        row("MB/s, compressed", *(shown(mb["compressed_bytes"] / median(of)) for of in seconds.values()))
        row("MB/s, unpacked", *(shown(mb["unpacked_bytes"] / median(of)) for of in seconds.values()))
        row("MB/s of ctr's", *(shown(lifecycles.ratio(seconds, "ctr", side), 2) for side in seconds))
        for figure in ("cpu_seconds", "idle_mib", "peak_mib"):
            for program in ("wharfd", "containerd", "dockerd", "registry", "client"):
                costs = [[reading[figure].get(program) for reading in of] for of in by_side.values()]
                if any(None not in of for of in costs):
                    cells = ("-" if None in of else shown(median(of)) for of in costs)
                    row(f"{figure.replace('_', ' ')}, {program}", *cells)
    return measured


def of_memory(memory):
    return f"{memory['rss']:.1f} ({memory['anonymous']:.1f})"


def started(servers):
    """What they take before they have done anything but import an image."""
    memory = {server.name: server.memory() for server in servers}
    table("MiB just started, resident (anonymous)", "wharfd", "keeper")
    for name, of in memory.items():
        row(name, *(of_memory(each) for each in of.values()))
    return memory


def circumstances(place, dockerd):
    versions = {"containerd": re.findall(r"Version:\s+(\S+)", place.ctr("version").decode())[-1]}
    for program in ("runc", "crun"):
        if shutil.which(program):
            text = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
            versions[program] = text.split()[2]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, kernel {platform.release()}",
        **versions,
        "docker": dockerd.version() if dockerd else "not installed",
        "programs": str(place.programs),
    }


def wait_for_quiet():
    deadline = time.monotonic() + QUIET_WITHIN
    while os.getloadavg()[0] > QUIET_LOAD * os.cpu_count() and time.monotonic() < deadline:
        time.sleep(1)
    return os.getloadavg()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="times,calls,parallel,streams,logs,many,pulls")
    options = parser.parse_args()
    if not all(shutil.which(program) for program in PROGRAMS):
        sys.exit(f"bench: one of {PROGRAMS} is missing; nothing measured")

    # Whoever ends it has it clear up, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended"))
    with Place(options.programs.resolve()) as place:
        dockerd = docker.start(place)
        local = Server(place, "local", "--backend", "local")
        containerd = Server(place, "containerd", "--containerd-address", place.containerd_socket)
        everyone = sides.all_of(place, containerd, local, dockerd)
        servers = (local, containerd)
        flowing = {n: everyone[n] for n in ("wharfd, local", "wharfd, containerd", "ctr", "docker") if n in everyone}
        result = circumstances(place, dockerd)
        print(", ".join(f"{name}: {value}" for name, value in result.items()))
        result["started_mib"] = started(servers)
        for side in everyone.values():  # warm caches on all sides
            side.life("warm")
        result["load before"] = wait_for_quiet()
        parts = {
            "times": lambda: times(everyone, options.rounds),
            "calls": lambda: calls(place, everyone),
            "parallel": lambda: lives(everyone),
            "streams": lambda: throughput(servers, flowing),
            "logs": lambda: logs(servers, flowing),
            "many": lambda: idle(everyone["wharfd, local"]),
            "pulls": lambda: images(place, containerd, local, dockerd),
        }
        for name in options.only.split(","):
            result[name] = parts[name]()
        result["load after"] = os.getloadavg()
        print(f"\nload: {result['load before']} before, {result['load after']} after")

    out = ROOT / "target" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{result['date'].replace(':', '')}.json"
    file.write_text(json.dumps(result, indent=1))
    print(f"written: {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
