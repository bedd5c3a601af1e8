//! Limits of the OCI runtime spec as values for the kernel's files.

use std::io::ErrorKind;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use super::hierarchy::{Hierarchy, Kind};
use super::{CgroupError, write, write_each};

/// What is written to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    /// Which hierarchy, by its place.
    pub(super) hierarchy: usize,
    file: &'static str,
    /// One after the other.
    values: Vec<String>,
    /// The field that it comes from.
    limit: &'static str,
    /// What it must be written before, if the kernel refuses it at first: two limits bound each other.
    order: Order,
}

/// When a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// In its place.
    Plain,
    /// Memory, and memory with swap: the first may never exceed the second, whichever way they move.
    MemoryPair,
}

impl Write {
    pub(super) fn to(&self, group: &Path) -> Result<(), CgroupError> {
        let path = group.join(self.file);
        match self.put(&path) {
            Err(CgroupError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Err(CgroupError::NotSupported { limit: self.limit })
            }
            Err(_) if self.order == Order::MemoryPair => self.after_the_other(group, &path),
            done => done,
        }
    }

    /// Version 1 refuses a memory limit above the one of memory and swap: that one is lifted first, and set
    /// by a write of its own if there is one.
    fn after_the_other(&self, group: &Path, path: &Path) -> Result<(), CgroupError> {
        let both = group.join("memory.memsw.limit_in_bytes");
        if both.exists() {
            write(&both, "-1")?;
        }
        self.put(path)
    }

    fn put(&self, path: &Path) -> Result<(), CgroupError> {
        write_each(path, self.values.iter().map(String::as_str))
    }
}

/// What is to be written, in an order that the kernel takes.
pub(super) fn writes(
    limits: &LinuxResources,
    hierarchies: &[Hierarchy],
) -> Result<Vec<Write>, CgroupError> {
    let mut writes = Writes {
        hierarchies,
        list: Vec::new(),
    };
    writes.cpu(limits)?;
    writes.memory(limits)?;
    writes.pids(limits)?;
    writes.block_io(limits)?;
    writes.unified(limits)?;
    writes.devices(limits);
    Ok(writes.list)
}

struct Writes<'a> {
    hierarchies: &'a [Hierarchy],
    list: Vec<Write>,
}

impl Writes<'_> {
    fn v1(&self, controller: &str) -> Option<usize> {
        let mut hierarchies = self.hierarchies.iter();
        hierarchies.position(|hierarchy| hierarchy.has_v1(controller))
    }

    fn v2(&self) -> Option<usize> {
        let mut hierarchies = self.hierarchies.iter();
        hierarchies.position(|hierarchy| hierarchy.kind() == Kind::Unified)
    }

    /// To the controller's own hierarchy if it has one, else to the one for all.
    fn add(
        &mut self,
        controller: &str,
        limit: &'static str,
        [v1, v2]: [Option<(&'static str, String)>; 2],
    ) -> Result<(), CgroupError> {
        let of_v1 = self.v1(controller);
        let chosen = match of_v1 {
            Some(hierarchy) => v1.map(|write| (hierarchy, write)),
            None => self.v2().zip(v2),
        };
        let (hierarchy, (file, value)) = chosen.ok_or(CgroupError::NotSupported { limit })?;
        self.list.push(Write {
            hierarchy,
            file,
            values: vec![value],
            limit,
            order: Order::Plain,
        });
        Ok(())
    }

    fn cpu(&mut self, limits: &LinuxResources) -> Result<(), CgroupError> {
        let Some(cpu) = limits.cpu() else {
            return Ok(());
        };
        if let Some(shares) = cpu.shares() {
            let value = shares.to_string();
            self.add("cpu", "cpu.shares", [Some(("cpu.shares", value)), None])?;
        }
        if let Some(period) = cpu.period() {
            let quota = cpu.quota().unwrap_or(-1);
            let quota_v2 = if quota < 0 {
                "max".to_owned()
            } else {
                quota.to_string()
            };
            let v2 = Some(("cpu.max", format!("{quota_v2} {period}")));
            let v1 = Some(("cpu.cfs_period_us", period.to_string()));
            self.add("cpu", "cpu.quota", [v1, v2])?;
            if self.v1("cpu").is_some() {
                let v1 = Some(("cpu.cfs_quota_us", quota.to_string()));
                self.add("cpu", "cpu.quota", [v1, None])?;
            }
        }
        if let Some(cpus) = cpu.cpus() {
            let value = || Some(("cpuset.cpus", cpus.clone()));
            self.add("cpuset", "cpu.cpus", [value(), value()])?;
        }
        Ok(())
    }

    fn memory(&mut self, limits: &LinuxResources) -> Result<(), CgroupError> {
        let Some(memory) = limits.memory() else {
            return Ok(());
        };
        let limit = memory.limit();
        if let Some(limit) = limit {
            let v1 = Some(("memory.limit_in_bytes", limit.to_string()));
            let v2 = Some(("memory.max", unlimited(limit)));
            self.add("memory", "memory.limit", [v1, v2])?;
            if let Some(last) = self.list.last_mut() {
                last.order = Order::MemoryPair;
            }
        }
        if let Some(swap) = memory.swap() {
            let v1 = Some(("memory.memsw.limit_in_bytes", swap.to_string()));
            // The spec counts both together, version 2 does not.
            let alone = match limit {
                Some(limit) if swap >= 0 && limit >= 0 => swap - limit,
                _ => swap,
            };
            let v2 = Some(("memory.swap.max", unlimited(alone)));
            self.add("memory", "memory.swap", [v1, v2])?;
        }
        if let Some(reservation) = memory.reservation() {
            let v1 = Some(("memory.soft_limit_in_bytes", reservation.to_string()));
            let v2 = Some(("memory.low", unlimited(reservation)));
            self.add("memory", "memory.reservation", [v1, v2])?;
        }
        Ok(())
    }

    fn pids(&mut self, limits: &LinuxResources) -> Result<(), CgroupError> {
        let Some(pids) = limits.pids() else {
            return Ok(());
        };
        // The spec takes 0 for none, too.
        let value = match pids.limit() {
            limit if limit > 0 => limit.to_string(),
            _ => "max".to_owned(),
        };
        let write = || Some(("pids.max", value.clone()));
        self.add("pids", "pids.limit", [write(), write()])
    }

    fn block_io(&mut self, limits: &LinuxResources) -> Result<(), CgroupError> {
        let Some(weight) = limits
            .block_io()
            .as_ref()
            .and_then(|block_io| block_io.weight())
        else {
            return Ok(());
        };
        let of_v1 = self.v1("blkio");
        // The weight belongs to the scheduler: BFQ has its own file, CFQ had the other one.
        let file = match of_v1.and_then(|place| self.hierarchies.get(place)) {
            Some(hierarchy) if hierarchy.root.join("blkio.weight").exists() => "blkio.weight",
            _ => "blkio.bfq.weight",
        };
        let v1 = Some((file, weight.to_string()));
        self.add("blkio", "blockIO.weight", [v1, None])
    }

    /// By the names of version 2's files.
    fn unified(&mut self, limits: &LinuxResources) -> Result<(), CgroupError> {
        const FILES: [&str; 5] = [
            "cpu.weight",
            "io.weight",
            "memory.low",
            "memory.swap.max",
            "memory.max",
        ];
        for (name, value) in limits.unified().iter().flatten() {
            let limit = "unified";
            let file = FILES.iter().find(|file| *file == name);
            let (file, hierarchy) = file
                .zip(self.v2())
                .ok_or(CgroupError::NotSupported { limit })?;
            self.list.push(Write {
                hierarchy,
                file,
                values: vec![value.clone()],
                limit,
                order: Order::Plain,
            });
        }
        Ok(())
    }

    /// Of version 1; version 2 has no files for them, see `devices`.
    fn devices(&mut self, limits: &LinuxResources) {
        let Some(hierarchy) = self.v1("devices") else {
            return;
        };
        for rule in limits.devices().iter().flatten() {
            let file = if rule.allow() {
                "devices.allow"
            } else {
                "devices.deny"
            };
            // The file is opened once for all rules of a kind that follow each other.
            match self.list.last_mut() {
                Some(last) if last.file == file => last.values.push(device(rule)),
                _ => self.list.push(Write {
                    hierarchy,
                    file,
                    values: vec![device(rule)],
                    limit: "devices",
                    order: Order::Plain,
                }),
            }
        }
    }
}

/// `c 1:3 rwm`, Documentation/admin-guide/cgroup-v1/devices.rst.
fn device(rule: &LinuxDeviceCgroup) -> String {
    let kind = match rule.typ() {
        Some(LinuxDeviceType::B) => "b",
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => "c",
        Some(LinuxDeviceType::A | LinuxDeviceType::P) | None => "a",
    };
    let number = |number: Option<i64>| match number {
        Some(number) if number >= 0 => number.to_string(),
        _ => "*".to_owned(),
    };
    let access = rule.access().as_deref().unwrap_or("rwm");
    format!(
        "{kind} {}:{} {access}",
        number(rule.major()),
        number(rule.minor())
    )
}

/// As version 2 says it.
fn unlimited(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}
