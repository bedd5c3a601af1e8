//! Which capabilities a container's processes may have.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use thiserror::Error;

use crate::model::spec::Security;

/// What a container has unless asked otherwise: enough to run as root inside, bind low ports, change
/// users and signal its own processes. Fewer than docker's 14: no raw sockets, devices, file
/// capabilities, chroot or audit records.
const DEFAULT: [Capability; 9] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::Kill,
];

/// Each at its number in Linux's include/uapi/linux/capability.h, as of Linux 5.9, the newest addition.
const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// There is no such capability.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no capability {name:?}")]
pub struct UnknownCapability {
    /// As asked for.
    pub name: String,
}

/// Every capability there is.
#[must_use]
pub fn all() -> Capabilities {
    ALL.into()
}

/// Those whose bits are set.
pub(super) fn from_bits(bits: u64) -> Capabilities {
    let numbered = ALL.into_iter().enumerate();
    let set = numbered.filter(|(number, _)| bits >> number & 1 == 1);
    set.map(|(_, capability)| capability).collect()
}

/// Their bits, each at its number.
#[must_use]
pub fn bits(capabilities: &Capabilities) -> u64 {
    let numbered = ALL.iter().enumerate();
    let set = numbered.filter(|(_, capability)| capabilities.contains(capability));
    set.fold(0, |bits, (number, _)| bits | 1 << number)
}

/// The container's: the default ones, without those dropped, with those added. To add `ALL` is to add
/// what there is: what the host itself may not do, nobody can be given.
pub(super) fn of(
    security: &Security,
    available: &Capabilities,
) -> Result<Capabilities, UnknownCapability> {
    let mut result = Capabilities::from(DEFAULT);
    for name in &security.capabilities_drop {
        match name.as_str() {
            "ALL" => result.clear(),
            name => drop(result.remove(&named(name)?)),
        }
    }
    for name in &security.capabilities_add {
        match name.as_str() {
            "ALL" => result.extend(available),
            name => drop(result.insert(named(name)?)),
        }
    }
    Ok(result)
}

/// `CAP_NET_ADMIN`.
fn named(name: &str) -> Result<Capability, UnknownCapability> {
    let unknown = || UnknownCapability {
        name: name.to_owned(),
    };
    let bare = name.strip_prefix("CAP_").ok_or_else(unknown)?;
    bare.parse().map_err(|_| unknown())
}

/// The process's sets. One that does not run as root has none, but may get those of the bounding set
/// from a program that has them (if new privileges are not forbidden), as docker does. Inheritable and
/// ambient stay empty: filled ones would pass capabilities on to any program (CVE-2022-24769).
pub(super) fn sets(capabilities: &Capabilities, uid: u32) -> LinuxCapabilities {
    let own = if uid == 0 {
        capabilities.clone()
    } else {
        Capabilities::new()
    };
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(capabilities.clone()))
        .set_effective(Some(own.clone()))
        .set_permitted(Some(own))
        .set_inheritable(Some(Capabilities::new()))
        .set_ambient(Some(Capabilities::new()));
    sets
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use super::*;
    use crate::model::spec::Seccomp;

    fn security(add: &[&str], drop: &[&str]) -> Security {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Security {
            capabilities_add: owned(add),
            capabilities_drop: owned(drop),
            no_new_privileges: true,
            seccomp: Seccomp::Default,
        }
    }

    #[test]
    fn additions_are_made_after_drops() {
        let of = |add: &[&str], drop: &[&str]| of(&security(add, drop), &all()).expect("known");
        assert_eq!(of(&["CAP_CHOWN"], &["ALL"]), [Capability::Chown].into());
        assert_eq!(of(&[], &["CAP_SETUID"]).len(), DEFAULT.len() - 1);
        assert_eq!(of(&["ALL"], &[]), all());
        assert_eq!(of(&["ALL"], &["ALL"]), all());
    }

    #[test]
    fn all_is_what_the_host_has() {
        let host = from_bits(0x1ff_feff_ffff);
        assert_eq!(host.len(), ALL.len() - 1);
        assert!(!host.contains(&Capability::SysResource));
        let given = of(&security(&["ALL"], &[]), &host).expect("known");
        assert_eq!(given, host);
        let by_name = security(&["ALL", "CAP_SYS_RESOURCE"], &[]);
        assert_eq!(
            of(&by_name, &host).expect("known"),
            all(),
            "for the runtime to refuse"
        );
    }

    #[test]
    fn all_of_them_are_there_once() {
        assert_eq!(all().len(), ALL.len());
    }

    #[test]
    fn an_unknown_name_is_refused() {
        for name in ["", "CHOWN", "CAP_", "CAP_NOTHING", "cap_chown", "all"] {
            let error = of(&security(&[name], &[]), &all()).expect_err(name);
            assert_eq!(error.name, name);
        }
    }

    #[test]
    fn a_user_has_none_but_keeps_the_bound() {
        let capabilities = Capabilities::from(DEFAULT);
        let sets = sets(&capabilities, 1000);
        assert_eq!(sets.bounding().as_ref(), Some(&capabilities));
        for set in [
            sets.effective(),
            sets.permitted(),
            sets.ambient(),
            sets.inheritable(),
        ] {
            assert_eq!(set.as_ref(), Some(&Capabilities::new()));
        }
    }
}
