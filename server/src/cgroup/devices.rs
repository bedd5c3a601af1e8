//! Which devices a version 2 group may use: a program that the kernel asks at each open and mknod
//! (Documentation/admin-guide/cgroup-v2.rst, "Device controller").

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use super::CgroupError;
use super::bpf::{self, Instruction};

/// linux/bpf.h, `BPF_DEVCG_*`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// What the program keeps where.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Restricts a group to what the limits' rules allow.
pub(super) fn restrict(group: Option<&Path>, limits: &LinuxResources) -> Result<(), CgroupError> {
    let group = group.ok_or(CgroupError::NotSupported { limit: "devices" })?;
    let rules = limits.devices().as_deref().unwrap_or_default();
    let directory = File::open(group).map_err(CgroupError::at(group))?;
    bpf::attach_device_program(&program(rules), directory.as_fd()).map_err(CgroupError::at(group))
}

/// The last rule that fits decides, as on version 1; what none fits is refused.
fn program(rules: &[LinuxDeviceCgroup]) -> Vec<Instruction> {
    let mut program = vec![
        Instruction::load_word(KIND, CONTEXT, 0),
        Instruction::copy(ACCESS, KIND),
        Instruction::and(KIND, 0xffff),
        Instruction::shift_right(ACCESS, 16),
        Instruction::load_word(MAJOR, CONTEXT, 4),
        Instruction::load_word(MINOR, CONTEXT, 8),
    ];
    for rule in rules.iter().rev() {
        let (conditions, verdict) = decide(rule);
        let is_last = conditions.is_empty();
        program.extend(conditions);
        program.extend(verdict);
        if is_last {
            // The kernel refuses a program that has more behind that.
            return program;
        }
    }
    program.extend(verdict(false));
    program
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [
        Instruction::set(RESULT, i32::from(allow)),
        Instruction::exit(),
    ]
}

/// A rule's conditions and verdict. Each condition that does not hold skips the rest of the rule.
fn decide(rule: &LinuxDeviceCgroup) -> (Vec<Instruction>, [Instruction; 2]) {
    let mut conditions = Vec::new();
    match rule.typ() {
        Some(LinuxDeviceType::B) => conditions.push(Condition::Is(KIND, BLOCK)),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => {
            conditions.push(Condition::Is(KIND, CHARACTER));
        }
        Some(LinuxDeviceType::A | LinuxDeviceType::P) | None => {}
    }
    let access = access(rule.access().as_deref().unwrap_or("rwm"));
    if access != MAKE | READ | WRITE {
        conditions.push(Condition::Within(ACCESS, access));
    }
    for (register, number) in [(MAJOR, rule.major()), (MINOR, rule.minor())] {
        let number = number.and_then(|number| i32::try_from(number).ok());
        if let Some(number) = number.filter(|number| *number >= 0) {
            conditions.push(Condition::Is(register, number));
        }
    }
    let length: usize = conditions.iter().map(Condition::length).sum();
    let verdict = verdict(rule.allow());
    let mut left = i16::try_from(length + verdict.len()).unwrap_or(i16::MAX);
    let mut all = Vec::with_capacity(length);
    for condition in conditions {
        left -= i16::try_from(condition.length()).unwrap_or(0);
        all.extend(condition.instructions(left));
    }
    (all, verdict)
}

fn access(letters: &str) -> i32 {
    letters.bytes().fold(0, |bits, letter| match letter {
        b'm' => bits | MAKE,
        b'r' => bits | READ,
        b'w' => bits | WRITE,
        _ => bits,
    })
}

enum Condition {
    /// A register has this value.
    Is(u8, i32),
    /// A register has no other bits than these.
    Within(u8, i32),
}

impl Condition {
    fn length(&self) -> usize {
        match self {
            Self::Is(..) => 1,
            Self::Within(..) => 3,
        }
    }

    /// Skips so many instructions unless it holds.
    fn instructions(&self, skip: i16) -> Vec<Instruction> {
        match *self {
            Self::Is(register, value) => {
                vec![Instruction::skip_unless_equal(register, value, skip)]
            }
            // The context is not looked at any more.
            Self::Within(register, bits) => vec![
                Instruction::copy(CONTEXT, register),
                Instruction::and(CONTEXT, !bits),
                Instruction::skip_unless_equal(CONTEXT, 0, skip),
            ],
        }
    }
}
