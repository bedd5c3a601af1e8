"""Measures wharfd next to its peers on one private containerd, interleaved, and prints tables.

Absolute times say something about this machine only; counts and ratios travel. The result is written as
JSON, too, below target/bench. Needs root. dockerd is measured as well if it is installed.
usage: bench --programs target/release [--rounds 30]
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import sys

import lifecycles
import proc
import streams
from place import ROOT, Place

MANY = 100
STREAM_MIB = 1024
STREAM_ROUNDS = 5


def row(name, *cells):
    print(f"| {name:<44} | " + " | ".join(f"{cell:>12}" for cell in cells) + " |")


def table(title, *names):
    print(f"\n{title}\n")
    row("", *names)
    print(f"|{'-' * 46}|" + "|".join("-" * 14 for _ in names) + "|", flush=True)


def median(values):
    return statistics.median(values)


def compare(name, sides, columns):
    """A row of medians, and how ours compares with ctr's."""
    medians = {side: median(values) for side, values in sides.items()}
    cells = [f"{medians[side]:.1f}" if side in medians else "-" for side in columns]
    ratio = medians["wharfd"] / medians["ctr"] if "ctr" in medians else None
    row(name, *cells, f"{ratio:.2f}" if ratio else "-")
    return {"sides": sides, "medians": medians, "ratio_to_ctr": ratio}


def times(place, rounds):
    columns = ("wharfd", "`wharf`", "ctr", "docker")
    table("Milliseconds, medians, interleaved", *columns, "wharfd/ctr")
    result = {}

    def add(key, name, sides):
        result[key] = compare(name, sides, columns)

    add("start", "create to running", lifecycles.start_to_running(place, rounds))
    add("run", "create, start, wait, delete of true", lifecycles.whole_run(place, rounds))
    # wharfd's and docker's containers have a seccomp profile, and runc compiles it for each exec.
    for key, name, options in (
        ("exec", "exec of true, create to exit", ()),
        ("exec_seccomp", "the same, ctr's with seccomp, too", ("--seccomp",)),
    ):
        with lifecycles.running(place, "sleep", "600", ctr_options=options) as host:
            lifecycles.exec_true(place, host, 2)  # warm caches
            add(key, name, lifecycles.exec_true(place, host, rounds))
    return result


def calls(place):
    result = {"run": lifecycles.calls_of_run(place)}
    with lifecycles.running(place, "sleep", "600") as host:
        result["exec"] = lifecycles.calls_of_exec(place, host)
    for what, (ours, theirs) in result.items():
        table(f"Calls to containerd for one {what} of true", "wharfd", "ctr")
        for name in sorted(set(ours) | set(theirs)):
            row(name, ours.get(name, 0), theirs.get(name, 0))
        row("all", sum(ours.values()), sum(theirs.values()))
    return {what: {"wharf": ours, "ctr": theirs} for what, (ours, theirs) in result.items()}


def throughput(place):
    columns = ("wharfd", "ctr", "docker")
    result = {}
    with lifecycles.running(place, "sleep", "600") as host:
        out, out_peaks = streams.output(place, host, STREAM_ROUNDS, STREAM_MIB)
        fed, in_peaks = streams.feeding(place, host, STREAM_ROUNDS, STREAM_MIB)
    table("MB/s through an exec, medians, interleaved", *columns, "wharfd/ctr")
    result["output"] = compare("its output", out, columns) | {"peak_mib": out_peaks}
    result["input"] = compare("its input", fed, columns) | {"peak_mib": in_peaks}
    return result


def logs(place):
    sides, peaks = streams.ingestion(place, STREAM_ROUNDS)
    table("100-byte lines into a log, and CPU s for each GB", *sides)
    rates = {name: median(r["mb_per_second"] for r in side) for name, side in sides.items()}
    row("MB/s", *(f"{rate:.0f}" for rate in rates.values()))
    row("lines/s", *(f"{rate * 1e4:.0f}" for rate in rates.values()))
    for process in ("keeper", "wharfd", "dockerd", "shim", "writer"):
        costs = [[r["cpu_seconds_per_gb"].get(process) for r in side] for side in sides.values()]
        row(f"CPU s/GB of {process}", *("-" if None in c else f"{median(c):.2f}" for c in costs))
    back = streams.read_back(place, STREAM_ROUNDS)
    table("A log of 100 MB read by StreamLogs", "")
    for name in back[0]:
        row(name.replace("_", " "), f"{median(r[name] for r in back):.2f}")
    return {"ingestion": sides, "peak_mib": peaks, "read_back": back}


def resident(place):
    return {"wharfd": proc.memory(place.wharfd.pid), "keeper": proc.memory(place.keeper)}


def with_many(place):
    for number in range(MANY):
        place.create(f"many-{number}", "sleep", "600")
    many = resident(place)
    for number in range(MANY):
        place.delete(f"many-{number}")
    return many


def memory(started, many, measured):
    moments = {"just started": started, f"with {MANY} running containers": many}
    table("MiB, resident (anonymous)", "wharfd", "keeper")
    for moment, of in moments.items():
        row(moment, *(f"{m['rss']:.1f} ({m['anonymous']:.1f})" for m in of.values()))
    peaks = {
        "peak, exec's output": measured["throughput"]["output"]["peak_mib"],
        "peak, exec's input": measured["throughput"]["input"]["peak_mib"],
        "peak, lines at full speed": measured["logs"]["peak_mib"],
    }
    for moment, of in peaks.items():
        row(moment, *(f"{peak:.1f}" for peak in of.values()))
    return moments


def circumstances(place):
    version = place.ctr("version").decode()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, kernel {platform.release()}",
        "containerd": re.findall(r"Version:\s+(\S+)", version)[-1],
        "docker": place.docker.version() if place.docker else "not installed",
        "load before": os.getloadavg(),
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
        result = circumstances(place)
        print(", ".join(f"{name}: {value}" for name, value in result.items()))
        started = resident(place)
        lifecycles.whole_run(place, 2)  # warm caches on both sides
        result["times"] = times(place, options.rounds)
        result["calls"] = calls(place)
        many = with_many(place)
        result["throughput"] = throughput(place)
        result["logs"] = logs(place)
        result["memory_mib"] = memory(started, many, result)
        result["load after"] = os.getloadavg()
        print(f"\nload: {result['load before']} before, {result['load after']} after")

    out = ROOT / "target" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{result['date'].replace(':', '')}.json"
    file.write_text(json.dumps(result, indent=1))
    print(f"written: {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
