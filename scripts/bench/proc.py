"""What /proc says about processes: memory, CPU time, bytes written."""

import os
import pathlib
import re
import signal

TICKS = os.sysconf("SC_CLK_TCK")


def status(pid, field):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return re.search(rf"{field}:\s+(\w+)", text)[1]


def status_mib(pid, field):
    """VmRSS, VmHWM (the peak) or RssAnon, in MiB."""
    return int(status(pid, field)) / 1024


def memory(pid):
    return {"rss": status_mib(pid, "VmRSS"), "anonymous": status_mib(pid, "RssAnon")}


def forget_peak(pid):
    """From here on, VmHWM is the peak of what follows."""
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid, children=False):
    """User and system time of all threads, also of those that have ended; and that of children that have."""
    after_name = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, theirs = (sum(map(int, after_name[at : at + 2])) / TICKS for at in (11, 13))
    return (own, theirs) if children else own


def bytes_written(pid):
    io = pathlib.Path(f"/proc/{pid}/io").read_text()
    return int(re.search(r"wchar: (\d+)", io)[1])


def parent(pid):
    return int(status(pid, "PPid"))


def children(pid):
    tasks = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def catches_sigterm(pid):
    return int(status(pid, "SigCgt"), 16) & 1 << (signal.SIGTERM - 1)


def find(*words):
    """The process whose command line has all these words in it."""
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if all(str(word) in command for word in words):
            return int(entry.name)
    return None
