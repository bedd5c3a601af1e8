//! What everything in a group uses, groups below it included.
//!
//! Each controller is read where it is: in its hierarchy of version 1, or else in that of version 2. A file that is
//! not there belongs to something that the kernel does not account for, and counts for nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Cgroup, CgroupError, Kind, counter, is_gone};
use crate::model::usage::{CpuUsage, IoUsage, MemoryUsage, Usage};

/// What version 1 says for no limit is this, rounded down to whole pages, of 64 KiB at most.
const NO_LIMIT: u64 = (i64::MAX as u64) & !0xffff;

/// Those that are read.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "memory", "blkio", "pids"];

/// Where a controller is.
enum Place {
    V1(PathBuf),
    V2(PathBuf),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::V1(path) | Self::V2(path) => path,
        }
    }
}

impl Cgroup {
    /// What everything inside uses; `None` for a group that is not there.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn usage(&self) -> Result<Option<Usage>, CgroupError> {
        let usage = Usage {
            cpu: self.cpu()?,
            memory: self.memory()?,
            io: self.io()?,
            pids: match self.place("pids") {
                Some(place) => number(&place.path().join("pids.current"))?,
                None => 0,
            },
        };
        // Only now: a file that was missing may have gone with the group.
        Ok(self.is_there().then_some(usage))
    }

    /// Whether it is in each hierarchy that is read. In others it need not be: an OCI runtime leaves out what it has
    /// no use for.
    fn is_there(&self) -> bool {
        let mut places = CONTROLLERS.iter().filter_map(|name| self.place(name));
        places.all(|place| place.path().exists())
    }

    fn place(&self, controller: &str) -> Option<Place> {
        let v1 = self.controller(controller).map(Place::V1);
        v1.or_else(|| self.directory(Kind::Unified).map(Place::V2))
    }

    fn cpu(&self) -> Result<CpuUsage, CgroupError> {
        let limits = match self.place("cpu") {
            Some(place) => text(&place.path().join("cpu.stat"))?,
            None => String::new(),
        };
        let throttled = match counter(&limits, "throttled_usec") {
            Some(microseconds) => Duration::from_micros(microseconds),
            None => Duration::from_nanos(counter(&limits, "throttled_time").unwrap_or_default()),
        };
        let cpu = match self.place("cpuacct") {
            Some(Place::V1(path)) => {
                let modes = text(&path.join("cpuacct.stat"))?;
                CpuUsage {
                    total: Duration::from_nanos(number(&path.join("cpuacct.usage"))?),
                    user: ticks(counter(&modes, "user")),
                    system: ticks(counter(&modes, "system")),
                    throttled,
                }
            }
            Some(Place::V2(path)) => {
                let times = text(&path.join("cpu.stat"))?;
                let time = |name| Duration::from_micros(counter(&times, name).unwrap_or_default());
                CpuUsage {
                    total: time("usage_usec"),
                    user: time("user_usec"),
                    system: time("system_usec"),
                    throttled,
                }
            }
            None => CpuUsage::default(),
        };
        Ok(cpu)
    }

    fn memory(&self) -> Result<MemoryUsage, CgroupError> {
        let (usage_bytes, inactive, limit, swap_bytes) = match self.place("memory") {
            Some(Place::V1(path)) => {
                let stat = text(&path.join("memory.stat"))?;
                (
                    number(&path.join("memory.usage_in_bytes"))?,
                    counter(&stat, "total_inactive_file"),
                    text(&path.join("memory.limit_in_bytes"))?,
                    counter(&stat, "total_swap").unwrap_or_default(),
                )
            }
            Some(Place::V2(path)) => (
                number(&path.join("memory.current"))?,
                counter(&text(&path.join("memory.stat"))?, "inactive_file"),
                text(&path.join("memory.max"))?,
                number(&path.join("memory.swap.current"))?,
            ),
            None => return Ok(MemoryUsage::default()),
        };
        Ok(MemoryUsage {
            usage_bytes,
            working_set_bytes: usage_bytes.saturating_sub(inactive.unwrap_or_default()),
            // Version 2 says `max`, which is no number.
            limit_bytes: limit.trim().parse().ok().and_then(limit_of_v1),
            swap_bytes,
            oom_kills: self.oom_kills().unwrap_or_default(),
        })
    }

    fn io(&self) -> Result<IoUsage, CgroupError> {
        match self.place("blkio") {
            Some(Place::V1(path)) => {
                let bytes = io_of_v1(&path, "io_service_bytes")?;
                let operations = io_of_v1(&path, "io_serviced")?;
                Ok(IoUsage {
                    read_bytes: sum_of_v1(&bytes, "Read"),
                    write_bytes: sum_of_v1(&bytes, "Write"),
                    read_ops: sum_of_v1(&operations, "Read"),
                    write_ops: sum_of_v1(&operations, "Write"),
                })
            }
            Some(Place::V2(path)) => {
                let stat = text(&path.join("io.stat"))?;
                Ok(IoUsage {
                    read_bytes: sum_of_v2(&stat, "rbytes"),
                    write_bytes: sum_of_v2(&stat, "wbytes"),
                    read_ops: sum_of_v2(&stat, "rios"),
                    write_ops: sum_of_v2(&stat, "wios"),
                })
            }
            None => Ok(IoUsage::default()),
        }
    }
}

/// A limit of memory as version 1 says it; `None` for none.
#[must_use]
pub fn limit_of_v1(bytes: u64) -> Option<u64> {
    (bytes < NO_LIMIT).then_some(bytes)
}

/// `cpuacct.stat` counts as `times(2)` does.
fn ticks(count: Option<u64>) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let count = count.unwrap_or_default();
    let rest = (count % per_second) * 1_000_000_000 / per_second;
    Duration::from_secs(count / per_second) + Duration::from_nanos(rest)
}

/// By whoever counts: what limits I/O, which recent kernels have do so only once a disk has a limit, or the scheduler.
fn io_of_v1(path: &Path, what: &str) -> Result<String, CgroupError> {
    let of = |policy: &str| text(&path.join(format!("blkio.{policy}.{what}_recursive")));
    match of("throttle")? {
        counted if counted.contains(':') => Ok(counted),
        _ => of("bfq"),
    }
}

/// `MAJOR:MINOR OPERATION NUMBER` in a line, over all devices.
fn sum_of_v1(text: &str, operation: &str) -> u64 {
    let numbers = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(' ')?;
        let (of, number) = rest.split_once(' ')?;
        (of == operation).then(|| number.parse::<u64>().ok())?
    });
    numbers.sum()
}

/// `MAJOR:MINOR KEY=NUMBER KEY=NUMBER ...` in a line, over all devices.
fn sum_of_v2(text: &str, key: &str) -> u64 {
    let fields = text.lines().flat_map(|line| line.split(' ').skip(1));
    let pairs = fields.filter_map(|field| field.split_once('='));
    let numbers = pairs.filter(|(name, _)| *name == key);
    numbers
        .filter_map(|(_, number)| number.parse::<u64>().ok())
        .sum()
}

/// The number that is all of a file.
fn number(path: &Path) -> Result<u64, CgroupError> {
    Ok(text(path)?.trim().parse().unwrap_or_default())
}

/// A file of the kernel's; empty if it is not there.
fn text(path: &Path) -> Result<String, CgroupError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if is_gone(&error) => Ok(String::new()),
        Err(error) => Err(CgroupError::at(path)(error)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::super::hierarchy::Hierarchy;
    use super::super::{Cgroups, tests::World};
    use super::*;
    use tempfile::TempDir;

    /// A host's hierarchies, with files as a kernel has shown them.
    struct Recorded {
        root: TempDir,
        hierarchies: Vec<Hierarchy>,
    }

    impl Recorded {
        fn new() -> Self {
            Self {
                root: TempDir::new().unwrap(),
                hierarchies: Vec::new(),
            }
        }

        fn v1(self, controllers: &str, files: &[(&str, &str)]) -> Self {
            let names = controllers.split(',').map(str::to_owned).collect();
            self.with(controllers, Some(names), files)
        }

        fn v2(self, files: &[(&str, &str)]) -> Self {
            self.with("unified", None, files)
        }

        fn with(
            mut self,
            name: &str,
            controllers: Option<Vec<String>>,
            files: &[(&str, &str)],
        ) -> Self {
            let root = self.root.path().join(name);
            let group = root.join("wharf/a");
            fs::create_dir_all(&group).unwrap();
            for (name, text) in files {
                fs::write(group.join(name), text).unwrap();
            }
            self.hierarchies.push(Hierarchy { root, controllers });
            self
        }

        fn group(&self) -> Cgroup {
            Cgroups::of(self.hierarchies.clone(), Path::new("/wharf")).open("a")
        }

        fn usage(&self) -> Usage {
            self.group().usage().unwrap().unwrap()
        }
    }

    const MEMORY_V1: &[(&str, &str)] = &[
        ("memory.usage_in_bytes", "38010880\n"),
        ("memory.limit_in_bytes", "67108864\n"),
        (
            "memory.stat",
            "cache 3000\ninactive_file 1\ntotal_cache 3244032\ntotal_swap 8192\n\
             total_inactive_anon 0\ntotal_inactive_file 2162688\n",
        ),
        (
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        ),
    ];
    const CPU_V2: &str = "usage_usec 4213581\nuser_usec 3100000\nsystem_usec 1113581\n\
        nice_usec 0\ncore_sched.force_idle_usec 0\nnr_periods 12\nnr_throttled 3\n\
        throttled_usec 250100\nnr_bursts 0\nburst_usec 0\n";

    fn v1() -> Recorded {
        Recorded::new()
            .v1(
                "cpu",
                &[(
                    "cpu.stat",
                    "nr_periods 12\nnr_throttled 3\nthrottled_time 250100000\nwait_sum 1\n",
                )],
            )
            .v1(
                "cpuacct",
                &[
                    ("cpuacct.usage", "4213581234\n"),
                    ("cpuacct.stat", "user 310\nsystem 111\n"),
                ],
            )
            .v1("memory", MEMORY_V1)
            .v1(
                "blkio",
                &[
                    (
                        "blkio.throttle.io_service_bytes_recursive",
                        "254:16 Read 4096\n254:16 Write 1048576\n254:16 Sync 1052672\n\
                         254:16 Async 0\n254:16 Discard 0\n254:16 Total 1052672\n\
                         254:0 Read 8192\n254:0 Write 0\n254:0 Total 8192\nTotal 1060864\n",
                    ),
                    (
                        "blkio.throttle.io_serviced_recursive",
                        "254:16 Read 1\n254:16 Write 8\n254:16 Total 9\n254:0 Read 2\n\
                         254:0 Write 0\n254:0 Total 2\nTotal 11\n",
                    ),
                ],
            )
            .v1("pids", &[("pids.current", "7\n")])
    }

    fn expected() -> Usage {
        Usage {
            cpu: CpuUsage {
                total: Duration::from_nanos(4_213_581_234),
                user: Duration::from_millis(3_100),
                system: Duration::from_millis(1_110),
                throttled: Duration::from_micros(250_100),
            },
            memory: MemoryUsage {
                usage_bytes: 38_010_880,
                working_set_bytes: 38_010_880 - 2_162_688,
                limit_bytes: Some(64 << 20),
                swap_bytes: 8_192,
                oom_kills: 2,
            },
            io: IoUsage {
                read_bytes: 12_288,
                write_bytes: 1 << 20,
                read_ops: 3,
                write_ops: 8,
            },
            pids: 7,
        }
    }

    #[test]
    fn version_1_is_read_from_the_hierarchy_of_each_controller() {
        assert_eq!(v1().usage(), expected());
    }

    #[test]
    fn version_2_is_read_from_one_directory() {
        let recorded = Recorded::new().v2(&[
            ("cpu.stat", CPU_V2),
            ("memory.current", "38010880\n"),
            ("memory.max", "67108864\n"),
            ("memory.swap.current", "8192\n"),
            (
                "memory.stat",
                "anon 34766848\nfile 3244032\ninactive_file 2162688\nactive_file 1\n",
            ),
            (
                "memory.events",
                "low 0\nhigh 0\nmax 14\noom 2\noom_kill 2\n",
            ),
            (
                "io.stat",
                "254:16 rbytes=4096 wbytes=1048576 rios=1 wios=8 dbytes=0 dios=0\n\
                 254:0 rbytes=8192 wbytes=0 rios=2 wios=0 dbytes=0 dios=0\n7:0 \n",
            ),
            ("pids.current", "7\n"),
        ]);
        let of_v1 = expected();
        let cpu = CpuUsage {
            total: Duration::from_micros(4_213_581),
            user: Duration::from_millis(3_100),
            system: Duration::from_micros(1_113_581),
            ..of_v1.cpu
        };
        assert_eq!(recorded.usage(), Usage { cpu, ..of_v1 });
    }

    #[test]
    fn on_a_hybrid_host_each_controller_is_read_where_it_is() {
        let recorded = Recorded::new().v1("memory", MEMORY_V1).v2(&[
            ("cpu.stat", CPU_V2),
            ("pids.current", "3\n"),
            ("io.stat", ""),
        ]);
        let usage = recorded.usage();
        assert_eq!(usage.memory, expected().memory);
        assert_eq!(usage.cpu.total, Duration::from_micros(4_213_581));
        assert_eq!(usage.cpu.throttled, Duration::from_micros(250_100));
        assert_eq!((usage.pids, usage.io), (3, IoUsage::default()));
    }

    #[test]
    fn where_only_the_scheduler_counts_io_its_numbers_are_taken() {
        let recorded = Recorded::new().v1(
            "blkio",
            &[
                ("blkio.throttle.io_service_bytes_recursive", "Total 0\n"),
                ("blkio.throttle.io_serviced_recursive", "Total 0\n"),
                (
                    "blkio.bfq.io_service_bytes_recursive",
                    "8:0 Read 0\n8:0 Write 4096\n8:0 Total 4096\nTotal 4096\n",
                ),
                (
                    "blkio.bfq.io_serviced_recursive",
                    "8:0 Read 0\n8:0 Write 1\n8:0 Total 1\nTotal 1\n",
                ),
            ],
        );
        let io = recorded.usage().io;
        assert_eq!((io.write_bytes, io.write_ops), (4_096, 1));
    }

    #[test]
    fn what_is_not_limited_has_no_limit() {
        let v2 = Recorded::new().v2(&[("memory.max", "max\n")]);
        assert_eq!(v2.usage().memory.limit_bytes, None);
        let v1 = Recorded::new().v1(
            "memory",
            &[("memory.limit_in_bytes", "9223372036854771712\n")],
        );
        assert_eq!(v1.usage().memory.limit_bytes, None);
    }

    #[test]
    fn a_group_that_is_not_there_or_only_in_part_uses_nothing_that_could_be_told() {
        let recorded = v1();
        fs::remove_dir_all(recorded.hierarchies[0].root.join("wharf/a")).unwrap();
        assert_eq!(recorded.group().usage().unwrap(), None);
        let world = World::new();
        assert_eq!(world.cgroups.open("none").usage().unwrap(), None);
    }

    #[test]
    fn a_hierarchy_that_is_not_read_need_not_have_the_group() {
        let recorded = v1().v2(&[]);
        fs::remove_dir_all(recorded.hierarchies[5].root.join("wharf/a")).unwrap();
        assert_eq!(recorded.usage(), expected());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let recorded = v1();
        let usage = recorded.hierarchies[4].root.join("wharf/a/pids.current");
        fs::remove_file(&usage).unwrap();
        fs::create_dir(&usage).unwrap();
        assert!(matches!(
            recorded.group().usage(),
            Err(CgroupError::Io { .. })
        ));
    }
}
