"""Takes protections away, one at a time, and looks whether a scenario notices.

What is taken away, and who should notice, is in protections.toml beside this file. The change is made in a copy of
the checkout below target/protections, which has programs of its own; the checkout stays as it is. Scenarios run in
namespaces of their own, so that most of what nothing holds back any more reaches only those; what they change of the
kernel they put back. Needs root, and half an hour for all of them.
usage: protections [--check] [NAME ...]

--check only looks whether each text is still there, once.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLACE = ROOT / "target" / "protections"
COPY = PLACE / "tree"
# Longer than any of the scenarios takes. One that hangs has noticed as well.
SECONDS = 240
# What timeout(1) says then: it was ended, or killed.
TIMED_OUT = (124, 137)
# The programs that a scenario starts are built with it.
PROGRAMS = ["build", "--quiet", "--workspace", "--bins", "--test", "conformance"]
UNIT_TESTS = ["test", "--quiet", "--package", "wharf-server", "--lib"]
# What a process without a protection could harm. The last one ends all that is left.
APART = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"]

# Runs a program with all that it changes on a layer over the root. It is in the place of the program's name.
OVERLAID = """
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" "$0/root"
mount --bind "$0/tmp" "$0/root/tmp"
for kernels in proc sys dev; do mount --rbind "/$kernels" "$0/root/$kernels"; done
exec chroot "$0/root" "$@"
"""


def protections():
    with open(pathlib.Path(__file__).with_name("protections.toml"), "rb") as file:
        return tomllib.load(file)["protection"]


def is_stale(protection):
    """It would take away nothing, or more than it says."""
    return (ROOT / protection["file"]).read_text().count(protection["text"]) != 1


def cargo(*arguments):
    environment = {**os.environ, "CARGO_TARGET_DIR": str(PLACE / "build")}
    return subprocess.run(["cargo", *arguments], cwd=COPY, env=environment, capture_output=True, text=True)


def copy_checkout():
    """Only what has changed, so that cargo builds no more than that."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    names = {name for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
    for file in filter(pathlib.Path.is_file, COPY.rglob("*")):
        if str(file.relative_to(COPY)) not in names:
            file.unlink()
    for name in names:
        source, target = ROOT / name, COPY / name
        if not target.is_file() or source.read_bytes() != target.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def scenarios_that_fail(filters, seconds=SECONDS):
    built = cargo(*PROGRAMS, "--message-format=short")
    assert built.returncode == 0, built.stderr
    environment = {**os.environ, "CARGO_TARGET_DIR": str(PLACE / "build"), "WHARF_TEST_BACKEND": "local"}
    with tempfile.TemporaryDirectory(prefix="wharf-", ignore_cleanup_errors=True) as place:
        command = [*APART, "timeout", "--kill-after=5", str(seconds), newest("conformance"), *filters]
        # Not a pipe: what is left running would hold it open.
        with open(PLACE / "output", "w+") as output:
            ended = subprocess.run(
                command, cwd=COPY, env={**environment, "TMPDIR": place}, stdout=output, stderr=subprocess.STDOUT
            )
            output.seek(0)
            names = failed(output.read())
        if ended.returncode in TIMED_OUT:
            names = names or ["one that does not end"]
        assert bool(names) == bool(ended.returncode), f"see {PLACE / 'output'}"
        return names


def unit_tests_that_fail(filters):
    """On a layer of their own over the host's root: they are about what leads out of a directory."""
    built = cargo(*UNIT_TESTS, "--no-run")
    assert built.returncode == 0, built.stderr
    with tempfile.TemporaryDirectory(prefix="wharf-") as place:
        for name in ("upper", "work", "root", "tmp"):
            os.mkdir(f"{place}/{name}")
        command = [*APART, "sh", "-euc", OVERLAID, place, newest("wharf_server"), *filters]
        ended = subprocess.run(command, capture_output=True, text=True)
    names = failed(ended.stdout)
    assert bool(names) == bool(ended.returncode), ended.stdout + ended.stderr
    return names


def newest(name):
    """The tests that were built last."""
    built = (PLACE / "build/debug/deps").glob(f"{name}-*")
    programs = [file for file in built if not file.suffix and os.access(file, os.X_OK)]
    return str(max(programs, key=lambda file: file.stat().st_mtime))


def failed(output):
    """As the list at the end has them."""
    *_, names = output.rpartition("\nfailures:\n")
    return sorted({line.strip() for line in names.splitlines() if line.startswith("    ")})


def who_notices(protection):
    """Those that fail without it."""
    file = COPY / protection["file"]
    text = file.read_text()
    file.write_text(text.replace(protection["text"], protection["without"]))
    try:
        if "unit_tests" in protection:
            return unit_tests_that_fail(protection["unit_tests"])
        return scenarios_that_fail(protection["scenarios"])
    finally:
        file.write_text(text)


def main():
    parser = argparse.ArgumentParser(prog="protections")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    stale = [protection["name"] for protection in protections() if is_stale(protection)]
    if stale:
        sys.exit(f"not there once: {', '.join(stale)}")
    if arguments.check:
        return
    chosen = [one for one in protections() if not arguments.names or one["name"] in arguments.names]
    unknown = set(arguments.names) - {one["name"] for one in chosen}
    if unknown:
        sys.exit(f"there is no {', '.join(unknown)}")
    PLACE.mkdir(parents=True, exist_ok=True)
    copy_checkout()
    unnoticed = []
    for protection in chosen:
        began = time.monotonic()
        names = who_notices(protection)
        took = time.monotonic() - began
        print(f"{protection['name']}: {', '.join(names) or 'NOBODY NOTICES'} ({took:.0f} s)", flush=True)
        if not names:
            unnoticed.append(protection["name"])
    # They notice the lack of the protection, and nothing else.
    scenarios, unit_tests = (
        sorted({name for one in chosen for name in one.get(kind, [])}) for kind in ("scenarios", "unit_tests")
    )
    failing = scenarios_that_fail(scenarios, 4 * SECONDS) if scenarios else []
    failing += unit_tests_that_fail(unit_tests) if unit_tests else []
    if failing:
        sys.exit(f"with every protection: {', '.join(failing)}")
    if unnoticed:
        sys.exit(f"{len(unnoticed)} of {len(chosen)} can be taken away unnoticed: {', '.join(unnoticed)}")
    print(f"{len(chosen)} of {len(chosen)} are noticed")


main()
