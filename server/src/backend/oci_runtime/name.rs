//! Which shim and which OCI runtime run a container.

use std::env;

use prost::Message;
use prost_types::Any;

use crate::model::Container;

/// The shim for runc and everything that has its command line.
const RUNC_SHIM: &str = "io.containerd.runc.v2";
/// Names that begin so are shims of their own, such as `io.containerd.kata.v2`.
const SHIM_PREFIX: &str = "io.containerd.";
/// Type of [`RuncOptions`] in containerd's records.
const OPTIONS_TYPE: &str = "containerd.runc.v1.Options";
/// Runtimes that are looked for to tell a caller what there is.
const KNOWN: [&str; 4] = ["runc", "crun", "youki", "runsc"];

/// A runtime by name: an OCI runtime (`runc`, `crun`, a path), or a containerd shim.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct RuntimeName<'a>(&'a str);

impl<'a> RuntimeName<'a> {
    /// What runs `container`.
    pub(in super::super) fn of(container: &'a Container, default: &'a str) -> Self {
        Self(container.spec.runtime.as_deref().unwrap_or(default))
    }

    /// As asked for.
    pub(in super::super) fn as_str(self) -> &'a str {
        self.0
    }

    /// The shim's name.
    pub(in super::super) fn shim(self) -> String {
        let is_shim = self.0.starts_with(SHIM_PREFIX);
        if is_shim { self.0 } else { RUNC_SHIM }.to_owned()
    }

    /// What the shim is told.
    pub(in super::super) fn options(self) -> Option<Any> {
        if self.0.starts_with(SHIM_PREFIX) {
            return None;
        }
        let options = RuncOptions {
            binary_name: self.0.to_owned(),
            systemd_cgroup: false,
        };
        Some(Any {
            type_url: OPTIONS_TYPE.to_owned(),
            value: options.encode_to_vec(),
        })
    }
}

/// The part of `containerd.runc.v1.Options` that is used here
/// (containerd, `runtime/v2/runc/options/oci.proto`).
#[derive(Clone, PartialEq, Eq, Message)]
struct RuncOptions {
    /// The OCI runtime, by name or path.
    #[prost(string, tag = "6")]
    binary_name: String,
    /// Whether systemd makes the cgroups; else they are made directly.
    #[prost(bool, tag = "9")]
    systemd_cgroup: bool,
}

/// The known OCI runtimes that are in this process's `PATH`, comma-separated.
pub(in super::super) fn installed() -> String {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = env::split_paths(&path).collect();
    let is_installed = |name: &&str| directories.iter().any(|dir| dir.join(name).is_file());
    let found: Vec<_> = KNOWN.into_iter().filter(is_installed).collect();
    found.join(",")
}
