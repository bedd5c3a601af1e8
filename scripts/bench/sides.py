"""Who is compared. Each side does the same things, with times in milliseconds:

first_byte, life, exec_first_byte, exec_life, start (not timed), pid, stop, delete
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

import docker
import hybrid
from place import IMAGE
from server import Meter

NOWHERE = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def timed(act):
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def run(command):
    # Not a pipe: what a runtime leaves running holds it open.
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(command, **{**NOWHERE, "stderr": errors})
        errors.seek(0)
        assert done.returncode == 0, (command, errors.read().decode())


def first_byte_of(command):
    """From the program's start to the first byte that it prints. Waits for its end."""
    began = time.perf_counter()
    with subprocess.Popen(command, **{**NOWHERE, "stdout": subprocess.PIPE}) as child:
        assert child.stdout.read(1), command
        took = time.perf_counter() - began
        child.stdout.read()
    assert child.returncode == 0, command
    return took * 1000


class Wharf:
    """gRPC on an open connection."""

    def __init__(self, server, runtime=""):
        self.server, self.runtime = server, runtime
        self.connect()

    def connect(self):
        self.meter = Meter(self.server, self.runtime)

    def first_byte(self, name):
        return self.meter("run", name, "echo", "x")["first_seconds"] * 1000

    def life(self, name):
        return self.meter.milliseconds("life", name, "true")

    def exec_first_byte(self, host, _):
        return self.meter("exec", host, "echo", "x")["first_seconds"] * 1000

    def exec_life(self, host, _):
        return self.meter.milliseconds("exec", host, "true")

    def start(self, name, *args):
        self.meter("start", name, *args)

    def pid(self, name):
        return self.server.pid(name)

    def stop(self, name):
        return self.meter.milliseconds("stop", name)

    def delete(self, name):
        return self.meter.milliseconds("delete", name)


class Program:
    """A program for each thing that is done, measured by its whole run.

    A peer says which: run_command, exec_command, start_command, stop_command, delete_commands, pid.
    """

    surroundings = contextlib.nullcontext

    def timed(self, *commands):
        with self.surroundings():
            return timed(lambda: [run(command) for command in commands])

    def first_byte(self, name):
        with self.surroundings():
            return first_byte_of(self.run_command(name, "echo", "x"))

    def life(self, name):
        return self.timed(self.run_command(name, "true"))

    def exec_first_byte(self, host, name):
        with self.surroundings():
            return first_byte_of(self.exec_command(host, name, "echo", "x"))

    def exec_life(self, host, name):
        return self.timed(self.exec_command(host, name, "true"))

    def start(self, name, *args):
        self.timed(self.start_command(name, *args))

    def stop(self, name):
        """To the process's end, which not all of them wait for."""
        process = os.pidfd_open(self.pid(name))
        with self.surroundings():
            command = self.stop_command(name)
            took = timed(lambda: (run(command), select.select([process], [], [])))
        os.close(process)
        return took

    def delete(self, name):
        return self.timed(*self.delete_commands(name))


class CommandLine(Program):
    """`wharf`."""

    def __init__(self, server):
        self.server = server

    def run_command(self, name, *args):
        return self.server.wharf_command("run", "--rm", "--network", "none", "--name", name, IMAGE, *args)

    def exec_command(self, host, _, *args):
        return self.server.wharf_command("exec", host, *args)

    def start_command(self, name, *args):
        options = ("--detach", "--network", "none", "--name", name)
        return self.server.wharf_command("run", *options, IMAGE, *args)

    def pull_command(self, reference):
        return self.server.wharf_command("pull", "--progress", "none", reference)

    def remove_image_command(self, reference):
        return self.server.wharf_command("rmi", reference)

    def stop_command(self, name):
        return self.server.wharf_command("stop", name)

    def delete_commands(self, name):
        return [self.server.wharf_command("rm", "--force", name)]

    def pid(self, name):
        return self.server.pid(name)


class Ctr(Program):
    """Names are the sides' own: several run on one containerd."""

    def __init__(self, place, prefix, *options):
        self.place, self.prefix, self.options = place, prefix, options

    def ctr(self, *arguments):
        return ["ctr", "--address", str(self.place.containerd_socket), "--namespace", "bench", *arguments]

    def named(self, name):
        return f"{self.prefix}-{name}"

    def run_command(self, name, *args):
        return self.ctr("run", "--rm", *self.options, IMAGE, self.named(name), *args)

    def exec_command(self, host, name, *args):
        return self.ctr("tasks", "exec", "--exec-id", name, self.named(host), *args)

    def start_command(self, name, *args):
        return self.ctr("run", "--detach", *self.options, IMAGE, self.named(name), *args)

    def pull_command(self, reference):
        return self.ctr("images", "pull", "--plain-http", reference)

    def remove_image_command(self, reference):
        return self.ctr("images", "remove", "--sync", reference)

    def stop_command(self, name):
        return self.ctr("tasks", "kill", "--signal", "SIGTERM", self.named(name))

    def delete_commands(self, name):
        """Also of one that runs."""
        named = self.named(name)
        return [self.ctr("tasks", "delete", "--force", named), self.ctr("containers", "delete", named)]

    def pid(self, name):
        tasks = subprocess.run(self.ctr("tasks", "list"), check=True, capture_output=True, text=True)
        fields = (line.split() for line in tasks.stdout.splitlines())
        return next(int(pid) for task, pid, _ in fields if task == self.named(name))


class OciRuntime(Program):
    """runc or crun on a bundle as `runc spec` makes it: no seccomp profile, no limits, no overlay, no log."""

    def __init__(self, place, program):
        self.program, self.place = program, place
        self.surroundings = hybrid.surroundings_of(program)
        self.bundle = place.make(f"bundles/{program}")
        subprocess.run(["runc", "spec", "--bundle", self.bundle], check=True)
        rootfs = place.make(f"bundles/{program}/rootfs")
        layer = docker.only_layer(place.archive)
        subprocess.run(["tar", "--extract", "--gzip", "--directory", rootfs], check=True, input=layer)

    def runtime(self, *arguments):
        return [self.program, "--root", f"{self.place.directory}/{self.program}", *arguments]

    def with_bundle(self, *args):
        """A bundle of its own for each command: they differ in the process only."""
        bundle = f"{self.bundle}/{abs(hash(args))}"
        if not os.path.exists(bundle):
            os.mkdir(bundle)
            with open(f"{self.bundle}/config.json") as template:
                config = json.load(template)
            config["process"] |= {"args": args, "terminal": False, "env": ["PATH=/bin"]}
            config["root"]["path"] = f"{self.bundle}/rootfs"
            with open(f"{bundle}/config.json", "w") as file:
                json.dump(config, file)
        return bundle

    def run_command(self, name, *args):
        return self.runtime("run", "--bundle", self.with_bundle(*args), name)

    def exec_command(self, host, _, *args):
        return self.runtime("exec", host, *args)

    def start_command(self, name, *args):
        return self.runtime("run", "--detach", "--bundle", self.with_bundle(*args), name)

    def stop_command(self, name):
        return self.runtime("kill", name, "TERM")

    def delete_commands(self, name):
        return [self.runtime("delete", "--force", name)]

    def pid(self, name):
        with self.surroundings():
            state = subprocess.run(self.runtime("state", name), check=True, capture_output=True)
        return json.loads(state.stdout)["pid"]


class Docker(Program):
    def __init__(self, engine):
        self.engine = engine

    def run_command(self, name, *args):
        return self.engine.command("run", "--rm", "--network", "none", "--name", name, docker.IMAGE, *args)

    def exec_command(self, host, _, *args):
        return self.engine.command("exec", host, *args)

    def start_command(self, name, *args):
        options = ("--detach", "--network", "none", "--name", name)
        return self.engine.command("run", *options, docker.IMAGE, *args)

    def pull_command(self, reference):
        return self.engine.command("pull", "--quiet", reference)

    def remove_image_command(self, reference):
        return self.engine.command("rmi", reference)

    def stop_command(self, name):
        return self.engine.command("stop", name)

    def delete_commands(self, name):
        return [self.engine.command("rm", "--force", name)]

    def pid(self, name):
        return int(self.engine.run("inspect", "--format", "{{.State.Pid}}", name))


class Floor:
    """unshare(1): the same namespaces, a /proc and a root, by one small program. No overlay, no control group, no
    seccomp profile, nothing of /dev, nothing masked; nothing is recorded, and nobody can ask what became of it."""

    def __init__(self, rootfs):
        namespaces = ("--mount", "--pid", "--fork", "--ipc", "--uts", "--net", "--cgroup")
        self.command = ["unshare", *namespaces, "--root", rootfs, "--mount-proc"]

    def first_byte(self, _):
        return first_byte_of([*self.command, "/bin/echo", "x"])

    def life(self, _):
        return timed(lambda: run([*self.command, "/bin/true"]))


def all_of(place, containerd, local, dockerd):
    """Ours first; those that are not installed are left out."""
    sides = {
        "wharfd, local": Wharf(local),
        "wharfd, local, crun": Wharf(local, "crun"),
        "wharfd, containerd": Wharf(containerd),
        "`wharf`, local": CommandLine(local),
        "ctr": Ctr(place, "plain"),
        "ctr --seccomp": Ctr(place, "seccomp", "--seccomp"),
    }
    sides |= {name: OciRuntime(place, name) for name in ("runc", "crun") if shutil.which(name)}
    if dockerd:
        sides["docker"] = Docker(dockerd)
    sides["unshare"] = Floor(f"{sides['runc'].bundle}/rootfs")
    return sides
