"""What /proc says about processes: memory, CPU time, bytes written."""

import os
import pathlib
import re

TICKS = os.sysconf("SC_CLK_TCK")


def status_mib(pid, field):
    """VmRSS, VmHWM (the peak) or RssAnon, in MiB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1024


def memory(pid):
    return {"rss": status_mib(pid, "VmRSS"), "anonymous": status_mib(pid, "RssAnon")}


def forget_peak(pid):
    """From here on, VmHWM is the peak of what follows."""
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid):
    """User and system time of all threads, also of those that have ended."""
    after_name = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS


def bytes_written(pid):
    io = pathlib.Path(f"/proc/{pid}/io").read_text()
    return int(re.search(r"wchar: (\d+)", io)[1])


def parent(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"PPid:\s+(\d+)", status)[1])


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
