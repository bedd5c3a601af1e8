"""How long things take from the request to their end, interleaved; and how many calls they cost."""

import contextlib
import time

from place import IMAGE


def timed(act):
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def interleave(rounds, sides):
    """Milliseconds of each side, by name: one of each a round."""
    times = {name: [] for name in sides}
    for number in range(rounds):
        for name, measure in sides.items():
            times[name].append(measure(number))
    return times


def start_to_running(place, rounds):
    """From the request to a running container: wharfd's one call against `ctr run --detach`."""

    def ours(number):
        name = f"start-{number}"
        took = timed(lambda: place.create(name, "sleep", "600"))
        place.delete(name)
        return took

    def theirs(number):
        name = f"start-{number}"
        took = timed(lambda: place.ctr_start(name, "sleep", "600"))
        place.ctr_delete(name)
        return took

    return interleave(rounds, {"wharfd": ours, "ctr": theirs})


def whole_run(place, rounds):
    """Create, start, wait, delete of `true`, against `ctr run --rm`."""

    def ours(number):
        return timed(lambda: run_true(place, f"run-{number}"))

    def theirs(number):
        return timed(lambda: place.ctr("run", "--rm", IMAGE, f"run-{number}", "true"))

    return interleave(rounds, {"wharfd": ours, "ctr": theirs})


def run_true(place, name):
    place.create(name, "true")
    assert place.wait(name) == 0
    place.delete(name)


@contextlib.contextmanager
def running(place, *command, ctr_options=()):
    """A container of that name on every side."""
    place.create("host", *command)
    place.ctr_start("host", *command, options=ctr_options)
    if place.docker:
        place.docker.start("host", *command)
    yield "host"
    place.delete("host")
    place.ctr_delete("host")
    if place.docker:
        place.docker.delete("host")


def exec_true(place, host, rounds):
    """`true` in a running container, to its exit status: RunExec on an open connection, and the programs."""
    sides = {
        "wharfd": lambda _: place.meter("exec", host, "true")["seconds"] * 1000,
        "`wharf`": lambda _: timed(lambda: place.wharf("exec", host, "true")),
        "ctr": lambda number: timed(
            lambda: place.ctr("tasks", "exec", "--exec-id", f"exec-{number}", host, "true")
        ),
    }
    if place.docker:
        sides["docker"] = lambda _: timed(lambda: place.docker.run("exec", host, "true"))
    return interleave(rounds, sides)


def calls_of(place, act):
    """What it costs, once everything that follows has settled."""
    before = place.rpcs()
    act()
    time.sleep(1)
    calls = place.rpcs() - before
    return {name: count for name, count in sorted(calls.items()) if "Events." not in name}


def calls_of_run(place):
    ours = calls_of(place, lambda: run_true(place, "counted"))
    theirs = calls_of(place, lambda: place.ctr("run", "--rm", IMAGE, "counted", "true"))
    return ours, theirs


def calls_of_exec(place, host):
    ours = calls_of(place, lambda: place.meter("exec", host, "true"))
    command = ("tasks", "exec", "--exec-id", "counted", host, "true")
    return ours, calls_of(place, lambda: place.ctr(*command))
