"""Whole lives of `true` a second, many at once, and what one costs in CPU time."""

import subprocess
import time

import proc
from lifecycles import interleave
from sides import NOWHERE

AT_ONCE = 16
SECONDS = 4
ROUNDS = 3


def cpu_seconds(server):
    """What the keeper launches counts as its children once it has ended."""
    keeper, launched = proc.cpu_seconds(server.keeper, children=True)
    wharfd = proc.cpu_seconds(server.process.pid)
    return {"wharfd": wharfd, "keeper": keeper, "what it launches": launched}


def of_server(side):
    """On so many connections."""
    server = side.server

    def measure(_):
        before = cpu_seconds(server)
        reading = side.meter("lives", AT_ONCE, SECONDS, "true")
        lives = reading["items"]
        cpu = {name: (after - before[name]) / lives * 1000 for name, after in cpu_seconds(server).items()}
        return {"lives_per_second": lives / reading["seconds"], "cpu_ms_per_life": cpu}

    return measure


def of_runtime(side, lives):
    """By xargs: so many programs at once."""

    def measure(number):
        # The name comes last in its command line, and xargs appends it.
        command = side.run_command("", "true")[:-1]
        names = "\n".join(f"parallel-{number}-{life}" for life in range(lives))
        began = time.perf_counter()
        xargs = ["xargs", f"--max-procs={AT_ONCE}", "--max-args=1", *command]
        streams = {name: stream for name, stream in NOWHERE.items() if name != "stdin"}
        with side.surroundings():
            subprocess.run(xargs, input=names.encode(), check=True, **streams)
        return {"lives_per_second": lives / (time.perf_counter() - began)}

    return measure


def measure(sides):
    measures = {name: of_server(side) for name, side in sides.items() if name.startswith("wharfd")}
    # As many as take about as long as the others.
    runtimes = {"runc": 200, "crun": 600}
    measures |= {n: of_runtime(sides[n], lives) for n, lives in runtimes.items() if n in sides}
    return interleave(ROUNDS, measures)
