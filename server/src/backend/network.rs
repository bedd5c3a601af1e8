//! What goes through the network interfaces that containers see. Blocking, but never slow.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::model::Container;
use crate::model::spec::Network;
use crate::model::usage::{NetworkUsage, Traffic};

/// The interfaces of a container with its main process's counters: none with the host's network, and none once the
/// process is gone.
pub(super) fn usage(container: &Container) -> Vec<NetworkUsage> {
    if container.spec.network == Network::Host {
        return Vec::new();
    }
    let pid = container.pid.filter(|pid| *pid > 0);
    let interfaces = pid.and_then(|pid| interfaces(pid, &container.id.to_string()));
    interfaces.unwrap_or_default()
}

/// Those that a process of the container sees. All is read through one descriptor, which never becomes another
/// process's, and the process is believed only if its control group has the container's id.
fn interfaces(pid: u32, id: &str) -> Option<Vec<NetworkUsage>> {
    let process = open(format!("/proc/{pid}"), OFlags::PATH | OFlags::DIRECTORY)?;
    // What was joined may be the host's network.
    if !read(&process, "cgroup")?.contains(id) || namespace(&process)? == own_namespace()? {
        return None;
    }
    Some(parse(&read(&process, "net/dev")?))
}

fn own_namespace() -> Option<(u64, u64)> {
    namespace(&open("/proc/self".to_owned(), OFlags::PATH)?)
}

fn namespace(process: &OwnedFd) -> Option<(u64, u64)> {
    let namespace = rustix::fs::statat(process, "ns/net", AtFlags::empty()).ok()?;
    Some((namespace.st_dev, namespace.st_ino))
}

fn open(path: String, flags: OFlags) -> Option<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn read(process: &OwnedFd, file: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(process, file, flags, Mode::empty()).ok()?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).ok()?;
    Some(text)
}

/// `/proc/PID/net/dev`, proc_pid_net(5): a name, then eight numbers for each direction.
fn parse(text: &str) -> Vec<NetworkUsage> {
    let interfaces = text.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Result<Vec<u64>, _> = numbers.split_whitespace().map(str::parse).collect();
        let numbers = numbers.ok()?;
        Some(NetworkUsage {
            interface: name.trim().to_owned(),
            received: traffic(numbers.get(..8)?)?,
            sent: traffic(numbers.get(8..16)?)?,
        })
    });
    interfaces.collect()
}

fn traffic(numbers: &[u64]) -> Option<Traffic> {
    let [bytes, packets, errors, drops, ..] = *numbers else {
        return None;
    };
    Some(Traffic {
        bytes,
        packets,
        errors,
        drops,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_has_both_directions() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    2776      33    0    0    0     0          0         0     2776      33    0    0    0     0       0          0
eth0:1234567890123  456    1    2    3     4          5         6     7890     12    8    9   10    11      12         13
";
        let traffic = |bytes, packets, errors, drops| Traffic {
            bytes,
            packets,
            errors,
            drops,
        };
        let expected = [
            NetworkUsage {
                interface: "lo".to_owned(),
                received: traffic(2776, 33, 0, 0),
                sent: traffic(2776, 33, 0, 0),
            },
            NetworkUsage {
                interface: "eth0".to_owned(),
                received: traffic(1_234_567_890_123, 456, 1, 2),
                sent: traffic(7890, 12, 8, 9),
            },
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn a_process_that_is_gone_or_none_of_the_container_has_no_interfaces() {
        assert_eq!(interfaces(u32::MAX, "id"), None);
        assert_eq!(interfaces(std::process::id(), "no-such-container"), None);
    }
}
