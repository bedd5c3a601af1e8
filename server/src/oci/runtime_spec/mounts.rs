//! What is mounted inside: the kernel's file systems, then what was asked for, in its order.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount as OciMount;

use super::Init;
use super::host::{Host, ReadOnlyMounts};
use crate::model::spec::{ContainerSpec, Mount, MountSource, Network, Propagation};

/// All mounts besides the root, in the order they are to be made.
pub(super) fn of(spec: &ContainerSpec, host: &Host, init: Option<&Init>) -> Vec<OciMount> {
    let mut mounts = kernel(spec.shm_size_bytes);
    mounts.extend(init.map(init_file));
    mounts.extend(resolver(spec, host));
    mounts.extend(spec.mounts.iter().map(|mount| asked(mount, host)));
    mounts
}

/// How the root itself must be shared, so that the asked-for propagation of a mount below it has an effect:
/// runtimes cut the root off from the host otherwise.
pub(super) fn root_propagation(spec: &ContainerSpec) -> Option<String> {
    let widest = spec
        .mounts
        .iter()
        .filter_map(|mount| match mount.source {
            MountSource::Bind { propagation, .. } => Some(propagation),
            MountSource::Tmpfs { .. } => None,
        })
        .max_by_key(|propagation| match propagation {
            Propagation::Private => 0,
            Propagation::Slave => 1,
            Propagation::Shared => 2,
        })?;
    match widest {
        Propagation::Private => None,
        Propagation::Slave => Some("rslave".to_owned()),
        Propagation::Shared => Some("shared".to_owned()),
    }
}

/// The usual file systems (runtime-spec, "Default Filesystems"), with docker's options. `/sys` and the
/// cgroups are read-only: they are the host's.
fn kernel(shm_size_bytes: u64) -> Vec<OciMount> {
    let shm = format!("nosuid,noexec,nodev,mode=1777,size={shm_size_bytes}");
    vec![
        mount("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            "nosuid,strictatime,mode=755,size=65536k",
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            "ro,nosuid,noexec,nodev",
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        mount("/dev/shm", "tmpfs", "shm", &shm),
    ]
}

/// On the host's network its names must be found as on the host. What was asked for at the same place
/// comes later and wins.
fn resolver(spec: &ContainerSpec, host: &Host) -> Vec<OciMount> {
    let files: &[PathBuf] = match spec.network {
        Network::Host => &host.resolver_files,
        Network::None | Network::Container { .. } | Network::Path { .. } => &[],
    };
    let files = files.iter();
    files.map(|path| read_only_file(path)).collect()
}

/// All containers have the same file, so none may write it. It is executed also if the host's file system has
/// nothing that may be.
fn init_file(init: &Init) -> OciMount {
    let source = init.file.to_string_lossy();
    let options = "bind,rprivate,ro,nosuid,nodev,exec";
    mount(wharf_init::PATH, "bind", &source, options)
}

fn read_only_file(path: &Path) -> OciMount {
    let mut mount = mount("", "bind", "", "rbind,rprivate,ro");
    mount
        .set_destination(path.to_owned())
        .set_source(Some(path.to_owned()));
    mount
}

fn asked(wanted: &Mount, host: &Host) -> OciMount {
    match &wanted.source {
        MountSource::Bind {
            path, propagation, ..
        } => {
            let options = bind_options(*propagation, wanted.read_only, host.read_only_mounts);
            mount(&wanted.target, "bind", path, &options)
        }
        MountSource::Tmpfs { size_bytes, mode } => {
            let options = tmpfs_options(*size_bytes, *mode, wanted.read_only);
            mount(&wanted.target, "tmpfs", "tmpfs", &options)
        }
    }
}

fn bind_options(propagation: Propagation, read_only: bool, reach: ReadOnlyMounts) -> String {
    let propagation = match propagation {
        Propagation::Private => "rprivate",
        Propagation::Slave => "rslave",
        Propagation::Shared => "rshared",
    };
    let access = match (read_only, reach) {
        (false, _) => "rw",
        (true, ReadOnlyMounts::Top) => "ro",
        (true, ReadOnlyMounts::Recursive) => "ro,rro",
    };
    format!("rbind,{propagation},{access}")
}

/// tmpfs(5). Without a size the kernel takes half of the memory.
fn tmpfs_options(size_bytes: Option<u64>, mode: u32, read_only: bool) -> String {
    let size = size_bytes.map_or(String::new(), |bytes| format!(",size={bytes}"));
    let access = if read_only { "ro" } else { "rw" };
    format!("nosuid,nodev,noexec,mode={mode:o}{size},{access}")
}

fn mount(target: &str, kind: &str, source: &str, options: &str) -> OciMount {
    let mut mount = OciMount::default();
    mount
        .set_destination(PathBuf::from(target))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(PathBuf::from(source)))
        .set_options(Some(options.split(',').map(str::to_owned).collect()));
    mount
}
