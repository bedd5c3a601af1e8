//! From an OCI runtime spec to the steps of a launch. Pure.
//!
//! The spec is the one that every backend is started by (`oci::runtime_spec`); what an OCI runtime would decide by
//! itself, its "default devices" and the layout of control groups for one, is decided here.

use std::path::Path;

use oci_spec::runtime::{
    LinuxNamespace, LinuxNamespaceType, Mount, PosixRlimitType, Process, Spec,
};

use crate::cgroup::Cgroup;
use crate::model::container::RootMount;
use crate::model::{StdioPaths, TerminalSize};
use crate::oci::runtime_spec::{CgroupVersion, capability_bits};
use crate::stdio::launch::{
    Confinement, Links, Network, NewContainer, Plan, Program, Propagation, Root, Stdio, Step, Text,
    World,
};

/// linux/mount.h, `MOUNT_ATTR_*`.
const READ_ONLY: u64 = 0x1;
const NO_SUID: u64 = 0x2;
const NO_DEV: u64 = 0x4;
const NO_EXEC: u64 = 0x8;
const NO_ATIME: u64 = 0x10;
const STRICT_ATIME: u64 = 0x20;
const NO_DIR_ATIME: u64 = 0x80;

/// The usual file creation mask; runtimes set no other unless the spec does.
pub(super) const UMASK: u32 = 0o022;
/// Where control groups are seen.
const CGROUPS: &str = "/sys/fs/cgroup";

/// runtime-spec, "Default Devices".
const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// runtime-spec, "Default Devices" and "Dev symbolic links".
const LINKS: [(&str, &str); 6] = [
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
];

/// What a plan depends on besides the spec.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    /// `tasks` of the container's version 1 control groups.
    pub(super) cgroups: Vec<String>,
    /// The standard streams.
    pub(super) stdio: &'a StdioPaths,
    /// The terminal's size, if it has one that is not the spec's.
    pub(super) terminal_size: Option<TerminalSize>,
    /// Limits for processes whose spec names none: number, soft, hard.
    pub(super) default_limits: &'a [(u32, u64, u64)],
    /// Flags of the seccomp filter that goes along, if one does.
    pub(super) seccomp_flags: Option<u32>,
}

/// What a new container's plan depends on, too.
#[derive(Debug)]
pub(super) struct ContainerSurroundings<'a> {
    /// As the image store has prepared it.
    pub(super) root: &'a [RootMount],
    /// An empty directory to mount it on.
    pub(super) root_target: &'a Path,
    /// How control groups are mounted.
    pub(super) cgroup_version: CgroupVersion,
    /// The run's own, which is the root of what it sees of them.
    pub(super) cgroup: &'a Cgroup,
    /// Names the container.
    pub(super) id: &'a str,
    /// Whether the spec's program is an init, which reports.
    pub(super) has_init: bool,
}

/// There is a zero byte in what is to be launched, or it is nothing that can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoPlan(pub(super) &'static str);

/// The plan of a container's main process.
pub(super) fn of_container(
    spec: &Spec,
    around: &Surroundings<'_>,
    container: &ContainerSurroundings<'_>,
) -> Result<Plan, NoPlan> {
    let process = spec.process().as_ref().ok_or(NoPlan("no process"))?;
    let linux = spec.linux().as_ref().ok_or(NoPlan("no namespaces"))?;
    let namespaces = linux.namespaces().iter().flatten();
    let new = NewContainer {
        network: network(namespaces)?,
        hostname: text(spec.hostname().as_deref().unwrap_or_default())?,
        root: root(spec, container)?,
        steps: steps(spec, container)?,
    };
    let mut plan = of_process(process, around, container.id)?;
    plan.world = World::New(Box::new(new));
    // As runtimes do: an image need not have the directory that its config names.
    plan.program.make_directory = true;
    plan.program.reports = container.has_init;
    Ok(plan)
}

/// The plan of a further process in container `id`.
pub(super) fn of_process(
    process: &Process,
    around: &Surroundings<'_>,
    id: &str,
) -> Result<Plan, NoPlan> {
    Ok(Plan {
        cgroups: texts(&around.cgroups)?,
        oom_score_adj: process.oom_score_adj().unwrap_or(0),
        stdio: stdio(process, around)?,
        world: World::Join {},
        confinement: confinement(process, around, id)?,
        program: program(process)?,
    })
}

fn text(text: &str) -> Result<Text, NoPlan> {
    Text::new(text).ok_or(NoPlan("a zero byte in what is to be launched"))
}

fn path(path: &Path) -> Result<Text, NoPlan> {
    text(path.to_str().ok_or(NoPlan("a path that is not UTF-8"))?)
}

fn texts(strings: &[String]) -> Result<Vec<Text>, NoPlan> {
    strings.iter().map(|string| text(string)).collect()
}

fn stdio(process: &Process, around: &Surroundings<'_>) -> Result<Stdio, NoPlan> {
    if process.terminal().unwrap_or(false) {
        let size = around.terminal_size.map(|size| (size.rows, size.columns));
        let spec = process.console_size().map(|size| {
            let side = |side: u64| u16::try_from(side).unwrap_or(u16::MAX);
            (side(size.height()), side(size.width()))
        });
        let (rows, columns) = size.or(spec).unwrap_or_default();
        return Ok(Stdio::Terminal {
            rows,
            columns,
            input: around.stdio.stdin.is_some(),
        });
    }
    let null = Path::new("/dev/null");
    Ok(Stdio::Fifos {
        stdin: around.stdio.stdin.as_deref().map(path).transpose()?,
        stdout: path(&around.stdio.stdout)?,
        stderr: path(around.stdio.stderr.as_deref().unwrap_or(null))?,
    })
}

fn confinement(
    process: &Process,
    around: &Surroundings<'_>,
    id: &str,
) -> Result<Confinement, NoPlan> {
    let user = process.user();
    let sets = process.capabilities().clone().unwrap_or_default();
    let bits = |set: &Option<oci_spec::runtime::Capabilities>| {
        set.as_ref().map(capability_bits).unwrap_or_default()
    };
    Ok(Confinement {
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        bounding: bits(sets.bounding()),
        effective: bits(sets.effective()),
        permitted: bits(sets.permitted()),
        inheritable: bits(sets.inheritable()),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        seccomp_flags: around.seccomp_flags,
        limits: limits(process, around.default_limits),
        umask: user.umask().unwrap_or(UMASK),
        keyring: text(&format!("_ses.{id}"))?,
    })
}

/// The spec's over the default ones.
fn limits(process: &Process, defaults: &[(u32, u64, u64)]) -> Vec<(u32, u64, u64)> {
    let asked = process.rlimits().iter().flatten();
    let asked: Vec<_> = asked
        .map(|limit| (resource(limit.typ()), limit.soft(), limit.hard()))
        .collect();
    let is_asked = |number: u32| asked.iter().any(|(of, ..)| *of == number);
    let others = defaults.iter().filter(|(number, ..)| !is_asked(*number));
    others.copied().chain(asked.iter().copied()).collect()
}

/// getrlimit(2), by their numbers in asm-generic/resource.h.
fn resource(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => OPEN_FILES,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    }
}

/// `RLIMIT_NOFILE`.
pub(super) const OPEN_FILES: u32 = 7;

fn program(process: &Process) -> Result<Program, NoPlan> {
    let args = process.args().as_deref().unwrap_or_default();
    let env = process.env().as_deref().unwrap_or_default();
    let name = args.first().ok_or(NoPlan("no program"))?;
    Ok(Program {
        candidates: texts(&candidates(name, env))?,
        args: texts(args)?,
        env: texts(env)?,
        directory: path(process.cwd())?,
        make_directory: false,
        reports: false,
    })
}

/// Where a program may be: its path, or each directory of `PATH`, of which an empty one is the working
/// directory (environ(7)).
fn candidates(name: &str, env: &[String]) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let search = env
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="));
    let directories = search.unwrap_or_default().split(':');
    let joined = directories.map(|directory| match directory {
        "" => format!("./{name}"),
        directory => format!("{}/{name}", directory.trim_end_matches('/')),
    });
    joined.collect()
}

fn network<'a>(
    mut namespaces: impl Iterator<Item = &'a LinuxNamespace>,
) -> Result<Network, NoPlan> {
    let network = namespaces.find(|namespace| namespace.typ() == LinuxNamespaceType::Network);
    Ok(match network.map(|network| network.path()) {
        None => Network::Host {},
        Some(None) => Network::Own {},
        Some(Some(of)) => Network::Path(path(of)?),
    })
}

/// A root as the image store has prepared it, to be mounted on `target`.
pub(super) fn overlay(root: &[RootMount], target: &Path) -> Result<Root, NoPlan> {
    let [mount] = root else {
        return Err(NoPlan("its root is not one mount"));
    };
    let option = |key: &str| {
        let mut options = mount.options.iter();
        let found = options.find_map(|option| option.strip_prefix(key));
        found.ok_or(NoPlan("its root is no overlay"))
    };
    let lower = option("lowerdir=")?.split(':').map(text);
    Ok(Root {
        target: path(target)?,
        lower: lower.collect::<Result<_, _>>()?,
        upper: text(option("upperdir=")?)?,
        work: text(option("workdir=")?)?,
        read_only: false,
        propagation: Propagation::Private,
    })
}

fn root(spec: &Spec, container: &ContainerSurroundings<'_>) -> Result<Root, NoPlan> {
    let linux = spec.linux().as_ref();
    let propagation = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
    Ok(Root {
        read_only: spec
            .root()
            .as_ref()
            .is_some_and(|root| root.readonly().unwrap_or(false)),
        propagation: match propagation {
            Some("shared" | "rshared") => Propagation::Shared,
            Some("slave" | "rslave") => Propagation::Slave,
            Some(_) | None => Propagation::Private,
        },
        ..overlay(container.root, container.root_target)?
    })
}

fn steps(spec: &Spec, container: &ContainerSurroundings<'_>) -> Result<Vec<Step>, NoPlan> {
    let mut steps = Vec::with_capacity(64);
    for mount in spec.mounts().iter().flatten() {
        match mount.typ().as_deref() {
            Some("bind") => steps.push(bind(mount)?),
            Some("cgroup") => cgroups(&mut steps, mount, container)?,
            Some(kind) => steps.push(file_system(kind, mount)?),
            None => return Err(NoPlan("a mount without a type")),
        }
        if mount.destination() == Path::new("/dev") {
            devices(&mut steps)?;
        }
    }
    let linux = spec.linux().as_ref();
    let paths = linux.and_then(|linux| linux.masked_paths().as_ref());
    for masked in paths.into_iter().flatten() {
        steps.push(Step::Mask {
            path: text(masked)?,
        });
    }
    let paths = linux.and_then(|linux| linux.readonly_paths().as_ref());
    for read_only in paths.into_iter().flatten() {
        steps.push(Step::ReadOnly {
            path: text(read_only)?,
        });
    }
    Ok(steps)
}

fn devices(steps: &mut Vec<Step>) -> Result<(), NoPlan> {
    for (device, major, minor) in DEVICES {
        steps.push(Step::Device {
            path: text(device)?,
            major,
            minor,
        });
    }
    for (link, target) in LINKS {
        steps.push(Step::Link {
            target: text(target)?,
            path: text(link)?,
        });
    }
    Ok(())
}

/// What an OCI mount's options say.
#[derive(Debug, Default)]
struct Options<'a> {
    attributes: u64,
    all_attributes: u64,
    cleared_attributes: u64,
    propagation: Option<Propagation>,
    own: Vec<(&'a str, Option<&'a str>)>,
}

fn options(mount: &Mount) -> Options<'_> {
    let mut options = Options::default();
    for option in mount.options().iter().flatten() {
        match option.as_str() {
            "ro" => options.attributes |= READ_ONLY,
            "rro" => options.all_attributes |= READ_ONLY,
            "nosuid" => options.attributes |= NO_SUID,
            "nodev" => options.attributes |= NO_DEV,
            "noexec" => options.attributes |= NO_EXEC,
            "exec" => options.cleared_attributes |= NO_EXEC,
            "noatime" => options.attributes |= NO_ATIME,
            "strictatime" => options.attributes |= STRICT_ATIME,
            "nodiratime" => options.attributes |= NO_DIR_ATIME,
            "private" | "rprivate" => options.propagation = Some(Propagation::Private),
            "slave" | "rslave" => options.propagation = Some(Propagation::Slave),
            "shared" | "rshared" => options.propagation = Some(Propagation::Shared),
            "rw" | "bind" | "rbind" | "relatime" => {}
            own => options.own.push(match own.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (own, None),
            }),
        }
    }
    options
}

fn bind(mount: &Mount) -> Result<Step, NoPlan> {
    let Options {
        attributes,
        all_attributes,
        cleared_attributes,
        propagation,
        ..
    } = options(mount);
    let source = mount.source().as_deref();
    Ok(Step::Bind {
        source: path(source.ok_or(NoPlan("a bind mount without a source"))?)?,
        target: path(mount.destination())?,
        attributes,
        all_attributes,
        cleared_attributes,
        propagation: propagation.unwrap_or(Propagation::Private),
    })
}

fn file_system(kind: &str, mount: &Mount) -> Result<Step, NoPlan> {
    let options = options(mount);
    let own = options.own.iter().map(|(key, value)| {
        let value = value.map(text).transpose()?;
        Ok((text(key)?, value))
    });
    let source = mount.source().as_deref().unwrap_or(Path::new(kind));
    Ok(Step::Mount {
        kind: text(kind)?,
        source: path(source)?,
        options: own.collect::<Result<_, NoPlan>>()?,
        attributes: options.attributes,
        target: path(mount.destination())?,
        links: links(mount.destination()),
    })
}

/// The kernel's own file systems are where they are expected, or nowhere: an image whose `/proc` is a link could
/// have them mounted over something else, and be masked elsewhere.
fn links(destination: &Path) -> Links {
    let own = ["/proc", "/sys", "/dev"];
    if own.iter().any(|own| destination.starts_with(own)) {
        Links::Refuse
    } else {
        Links::Follow
    }
}

/// Of version 2 there is one hierarchy. Those of version 1 are in a directory of their own, and hybrid hosts have
/// both kinds. The host's own mounts of them are taken along: to mount one anew, the kernel has all wait that
/// make or remove control groups.
fn cgroups(
    steps: &mut Vec<Step>,
    mount: &Mount,
    container: &ContainerSurroundings<'_>,
) -> Result<(), NoPlan> {
    let attributes = options(mount).attributes;
    let own = |target: &str, directory: &Path| -> Result<Step, NoPlan> {
        Ok(Step::Bind {
            source: path(directory)?,
            target: text(target)?,
            attributes,
            all_attributes: 0,
            cleared_attributes: 0,
            propagation: Propagation::Private,
        })
    };
    if container.cgroup_version == CgroupVersion::V2 {
        for (_, directory) in container.cgroup.directories() {
            steps.push(own(CGROUPS, &directory)?);
        }
        return Ok(());
    }
    steps.push(Step::Mount {
        kind: text("tmpfs")?,
        source: text("tmpfs")?,
        options: vec![(text("mode")?, Some(text("755")?))],
        attributes: attributes & !READ_ONLY,
        target: text(CGROUPS)?,
        links: Links::Refuse,
    });
    for (hierarchy, directory) in container.cgroup.directories() {
        // The version 2 hierarchy of a hybrid host has nothing to show, and runtimes leave it out.
        let Some(controllers) = &hierarchy.controllers else {
            continue;
        };
        let name = hierarchy.root.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        steps.push(own(&format!("{CGROUPS}/{name}"), &directory)?);
        // Programs look for each controller by its own name.
        for controller in controllers.iter().filter(|_| controllers.len() > 1) {
            steps.push(Step::Link {
                target: text(&name)?,
                path: text(&format!("{CGROUPS}/{controller}"))?,
            });
        }
    }
    steps.push(Step::Attributes {
        path: text(CGROUPS)?,
        attributes,
    });
    Ok(())
}
