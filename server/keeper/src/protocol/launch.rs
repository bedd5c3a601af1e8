//! How a process is launched: everything the keeper's child does before it becomes the program.
//!
//! The daemon decides, the keeper carries out: a [`Plan`] says each step in the kernel's own terms, so that
//! there is nothing to look up, to choose or to default on the way. It travels in a memfd beside
//! [`Call::Launch`](super::Call::Launch), since it may be larger than a message. A keeper refuses a plan with
//! a field that it does not know: to ignore one could be to leave out a protection.

use std::ffi::{CStr, CString};
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A plan is at most so many bytes of JSON: twice what arguments and environment of a process may take
/// (execve(2), "Limits on size of arguments and environment").
pub const MAX_PLAN_BYTES: u64 = 16 << 20;

/// Text as system calls take it: with a zero byte behind it and none in it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text(CString);

impl Text {
    /// `None` if there is a zero byte in it.
    #[must_use]
    pub fn new(text: impl Into<Vec<u8>>) -> Option<Self> {
        CString::new(text).ok().map(Self)
    }

    /// For a system call.
    #[must_use]
    pub fn as_c_str(&self) -> &CStr {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string_lossy())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("a zero byte"))
    }
}

/// How to launch a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// `tasks` of each version 1 control group that it is to be in, on the host.
    pub cgroups: Vec<Text>,
    /// Its `oom_score_adj`.
    pub oom_score_adj: i32,
    /// Where its standard streams come from.
    pub stdio: Stdio,
    /// What it sees of the system.
    pub world: World,
    /// What it may do.
    pub confinement: Confinement,
    /// What it is.
    pub program: Program,
}

/// Where standard streams come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Stdio {
    /// FIFOs on the host that the keeper has open already, or `/dev/null`.
    Fifos {
        /// Opened for reading; none: `/dev/null`.
        stdin: Option<Text>,
        /// Opened for reading and writing, so that the process is not ended by SIGPIPE when the keeper dies.
        stdout: Text,
        /// As `stdout`.
        stderr: Text,
    },
    /// A new terminal of the container's own. The stream's output is what is written to it.
    Terminal {
        /// Its size before the program's first instruction; 0 if nobody has said it.
        rows: u16,
        /// As `rows`.
        columns: u16,
        /// Whether the stream's input is what it reads.
        input: bool,
    },
}

/// What the process sees of the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum World {
    /// A new container.
    New(Box<NewContainer>),
    /// That of another process, whose descriptor (pidfd_open(2)) comes with the plan.
    Join {},
    /// The host's, but for mounts: a helper that makes a container by itself.
    Host {
        /// Mounted where the helper looks for it, for itself and what it makes.
        root: Option<Root>,
        /// Mounts that it is not to see.
        hidden: Vec<Text>,
    },
}

/// A new container: own pid, mount, ipc, uts and cgroup namespaces, and what is said here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewContainer {
    /// Its network.
    pub network: Network,
    /// Its host name.
    pub hostname: Text,
    /// Its root.
    pub root: Root,
    /// What is done once this is its root, in order.
    pub steps: Vec<Step>,
}

/// A container's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Network {
    /// Its own, with nothing in it but a loopback interface that is up.
    Own {},
    /// The host's.
    Host {},
    /// The one that this path on the host names.
    Path(Text),
}

/// A container's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// An empty directory on the host to mount it on. Nobody but the container's processes sees the mount.
    pub target: Text,
    /// Directories of the layers, the topmost first; at least one.
    pub lower: Vec<Text>,
    /// Directory of what is written.
    pub upper: Text,
    /// Overlay's own directory beside it.
    pub work: Text,
    /// Made read-only when all else is in place.
    pub read_only: bool,
    /// How mounts made in it later are shared.
    pub propagation: Propagation,
}

/// mount_namespaces(7), "SHARED SUBTREES".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Neither side sees the other's.
    Private,
    /// The container sees the host's.
    Slave,
    /// Both see each other's.
    Shared,
}

/// One step towards a container's file system. Paths are those inside; links in them lead nowhere else,
/// because by then nothing else is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Step {
    /// Mounts a new file system on a directory, which is made if it is missing.
    Mount {
        /// `proc`, `tmpfs` ...
        kind: Text,
        /// What `/proc/self/mountinfo` names as its source.
        source: Text,
        /// Its own options; those without a value are flags.
        options: Vec<(Text, Option<Text>)>,
        /// `MOUNT_ATTR_*`, mount_setattr(2).
        attributes: u64,
        /// Where.
        target: Text,
        /// Whether links on the way are followed.
        links: Links,
    },
    /// Mounts a file or directory of the host, with all that is mounted below it.
    Bind {
        /// On the host.
        source: Text,
        /// Inside; made if it is missing.
        target: Text,
        /// `MOUNT_ATTR_*`, of the mount itself.
        attributes: u64,
        /// `MOUNT_ATTR_*`, of all mounts below it as well.
        all_attributes: u64,
        /// `MOUNT_ATTR_*` that the mount itself is not to have, whatever the host's has.
        #[serde(default, skip_serializing_if = "is_zero")]
        cleared_attributes: u64,
        /// How it is shared with the host.
        propagation: Propagation,
    },
    /// Makes a symbolic link, unless something is there.
    Link {
        /// What it says.
        target: Text,
        /// Where it is.
        path: Text,
    },
    /// Makes a character device with mode 0666, unless something is there.
    Device {
        /// Where.
        path: Text,
        /// Its number.
        major: u32,
        /// As `major`.
        minor: u32,
    },
    /// Hides what is there, if something is: files read as empty, directories are empty.
    Mask {
        /// What.
        path: Text,
    },
    /// Makes what is there read-only, if something is.
    ReadOnly {
        /// What.
        path: Text,
    },
    /// Sets attributes of a mount.
    Attributes {
        /// Where it is mounted.
        path: Text,
        /// `MOUNT_ATTR_*`.
        attributes: u64,
    },
}

// Of what is left out, so that a keeper from before it does not refuse.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What becomes of symbolic links on the way to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Links {
    /// They are followed.
    Follow,
    /// One is an error: an image must not move `/proc` elsewhere.
    Refuse,
}

/// What a process may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confinement {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Bits of capabilities(7) in each set; the ambient one is empty.
    pub bounding: u64,
    /// As `bounding`.
    pub effective: u64,
    /// As `bounding`.
    pub permitted: u64,
    /// As `bounding`.
    pub inheritable: u64,
    /// no_new_privs of prctl(2).
    pub no_new_privileges: bool,
    /// Flags for its seccomp filter, whose program comes with the plan; none: it has no filter.
    pub seccomp_flags: Option<u32>,
    /// Limits: number of getrlimit(2), soft, hard.
    pub limits: Vec<(u32, u64, u64)>,
    /// File mode creation mask.
    pub umask: u32,
    /// Name of its session keyring, keyrings(7).
    pub keyring: Text,
}

/// The program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Where it may be, tried in this order.
    pub candidates: Vec<Text>,
    /// Its arguments, its name first.
    pub args: Vec<Text>,
    /// Its environment, `KEY=value`.
    pub env: Vec<Text>,
    /// Where it begins.
    pub directory: Text,
    /// Whether that is made if it is missing.
    pub make_directory: bool,
    /// Whether it is an init, or something that makes one, which tells why its program cannot be executed: on
    /// descriptor [`wharf_init::REPORTS`], which is the socket that has come with the plan, or if none has, the
    /// keeper's own.
    // Left out where it is not asked for, so that a keeper from before it does not refuse.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reports: bool,
}

/// What the keeper's child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchStep {
    /// Making a process.
    Clone,
    /// Entering control groups.
    Cgroup,
    /// Opening standard streams.
    Stdio,
    /// Making or entering namespaces.
    Namespaces,
    /// Entering a network, or bringing up its loopback interface.
    Network,
    /// Mounting the root and entering it.
    Root,
    /// One of [`NewContainer::steps`], whose index is told.
    Step,
    /// Making a terminal.
    Terminal,
    /// Setting the host name.
    Hostname,
    /// Setting limits; the index is that in [`Confinement::limits`].
    Limits,
    /// Joining a keyring of its own.
    Keyring,
    /// Dropping capabilities.
    Capabilities,
    /// Becoming the user.
    User,
    /// Loading the seccomp filter.
    Seccomp,
    /// Entering the working directory.
    Directory,
    /// Executing the program. The index is [`LaunchStep::BY_INIT`] if it is not the plan's that failed, but the
    /// one that this has executed.
    Execute,
    /// None: it was killed before it came to the program.
    Killed,
}

impl LaunchStep {
    /// See [`LaunchStep::Execute`].
    pub const BY_INIT: u16 = 1;

    /// All of them, each at its number on the way from the child.
    pub const ALL: [Self; 17] = [
        Self::Clone,
        Self::Cgroup,
        Self::Stdio,
        Self::Namespaces,
        Self::Network,
        Self::Root,
        Self::Step,
        Self::Terminal,
        Self::Hostname,
        Self::Limits,
        Self::Keyring,
        Self::Capabilities,
        Self::User,
        Self::Seccomp,
        Self::Directory,
        Self::Execute,
        Self::Killed,
    ];
}
