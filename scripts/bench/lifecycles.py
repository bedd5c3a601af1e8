"""How long things take from the request to their end, interleaved; and how many calls they cost."""

import contextlib
import statistics
import time

import proc
from place import until

# Ends at once on SIGTERM, and not before.
STOPS = ("sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait")


def interleave(rounds, sides):
    """What each side's measure says, by name: one of each a round."""
    readings = {name: [] for name in sides}
    for number in range(rounds):
        for name, measure in sides.items():
            readings[name].append(measure(number))
    return readings


def ratio(readings, of, to):
    """The median of the rounds' ratios; None if one of both was not measured."""
    if of in readings and to in readings:
        return statistics.median(a / b for a, b in zip(readings[of], readings[to]))
    return None


@contextlib.contextmanager
def running(sides, *command):
    """A container of that name on every side that can have one."""
    with contextlib.ExitStack() as stack:
        for side in sides.values():
            if hasattr(side, "start"):
                side.start(side_host(side), *command)
                stack.callback(side.delete, side_host(side))
        yield


def side_host(side):
    """Some sides share a server."""
    return f"host-{id(side)}"


def measure(sides, rounds):
    """Milliseconds by what was measured, side and round.

    A run is measured to its first byte, or to its deletion; an exec to its first byte, or to its exit.
    """
    able = {name: side for name, side in sides.items() if hasattr(side, "start")}
    numbered = {name: number for number, name in enumerate(sides)}

    def named(side, what, round_):
        return f"{what}-{numbered[side]}-{round_}"

    def of_run(what):
        def by(side):
            return lambda n: getattr(sides[side], what)(named(side, what.replace("_", "-"), n))
        return interleave(rounds, {side: by(side) for side in sides})

    def of_exec(what):
        def by(side):
            host = side_host(able[side])
            return lambda n: getattr(able[side], what)(host, named(side, what.replace("_", "-"), n))
        return interleave(rounds, {side: by(side) for side in able})

    result = {
        "run: 1st byte": of_run("first_byte"),
        "run of true": of_run("life"),
    }
    with running(able, "sleep", "600"):
        result["exec: 1st"] = of_exec("exec_first_byte")
        result["exec of true"] = of_exec("exec_life")
    result["stop"], result["delete"] = {name: [] for name in able}, {name: [] for name in able}
    for number in range(rounds):
        for name, side in able.items():
            container = named(name, "stop", number)
            side.start(container, *STOPS)
            until("it would end on SIGTERM", lambda: proc.catches_sigterm(side.pid(container)))
            result["stop"][name].append(side.stop(container))
            result["delete"][name].append(side.delete(container))
    return result


def calls_of(place, act):
    """What it costs, once everything that follows has settled."""
    before = place.rpcs()
    act()
    time.sleep(1)
    calls = place.rpcs() - before
    return {name: count for name, count in sorted(calls.items()) if "Events." not in name}


def calls(place, sides):
    """To containerd, of one run and one exec of `true`."""
    compared = {"wharfd": sides["wharfd, containerd"], "ctr": sides["ctr"]}
    result = {"run": {n: calls_of(place, lambda: s.life("counted")) for n, s in compared.items()}}
    with running(compared, "sleep", "600"):
        result["exec"] = {
            name: calls_of(place, lambda: side.exec_life(side_host(side), "counted"))
            for name, side in compared.items()
        }
    return result
