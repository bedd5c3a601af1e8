//! `--security-opt`, `--cap-*`, `--network` and `--ulimit`.

use std::path::{Path, PathBuf};

use clap::Args;
use wharf_client::v1::network_spec::Mode;
use wharf_client::v1::security::SeccompProfile;
use wharf_client::v1::{HostNetwork, NetworkSpec, NoNetwork, Rlimit, SeccompUnconfined, Security};

use super::failure::Failure;

/// One `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecurityOption {
    NoNewPrivileges(bool),
    SeccompUnconfined,
    SeccompFile(PathBuf),
    AppArmor(String),
}

/// Reads one `--security-opt`; docker takes `=` and `:`.
pub(crate) fn option(text: &str) -> Result<SecurityOption, String> {
    let (key, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
    match (key, value) {
        ("no-new-privileges", "" | "true") => Ok(SecurityOption::NoNewPrivileges(true)),
        ("no-new-privileges", "false") => Ok(SecurityOption::NoNewPrivileges(false)),
        ("seccomp", "unconfined") => Ok(SecurityOption::SeccompUnconfined),
        ("seccomp", file) if !file.is_empty() => Ok(SecurityOption::SeccompFile(file.into())),
        ("apparmor", profile) if !profile.is_empty() => {
            Ok(SecurityOption::AppArmor(profile.to_owned()))
        }
        _ => Err(format!(
            "{text:?} is not no-new-privileges[=BOOL], seccomp=unconfined|FILE or apparmor=PROFILE"
        )),
    }
}

/// Privileges and confinement.
#[derive(Debug, Default, Args)]
pub(crate) struct SecurityFlags {
    /// Add a capability
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// All devices and capabilities
    #[arg(long)]
    privileged: bool,
    /// no-new-privileges[=BOOL], seccomp=unconfined|FILE or apparmor=PROFILE
    #[arg(long, value_name = "OPTION", value_parser = option)]
    security_opt: Vec<SecurityOption>,
}

impl SecurityFlags {
    /// What the flags ask for; nothing if none is set.
    ///
    /// # Errors
    /// [`Failure::File`] if the seccomp profile cannot be read.
    pub(crate) fn security(&self) -> Result<Option<Security>, Failure> {
        let mut security = Security {
            privileged: self.privileged,
            capabilities_add: self.cap_add.iter().map(|c| capability(c)).collect(),
            capabilities_drop: self.cap_drop.iter().map(|c| capability(c)).collect(),
            ..Default::default()
        };
        for option in &self.security_opt {
            option.apply(&mut security)?;
        }
        Ok((security != Security::default()).then_some(security))
    }
}

impl SecurityOption {
    fn apply(&self, security: &mut Security) -> Result<(), Failure> {
        match self {
            Self::NoNewPrivileges(on) => security.no_new_privileges = Some(*on),
            Self::SeccompUnconfined => {
                let none = SeccompProfile::SeccompUnconfined(SeccompUnconfined {});
                security.seccomp_profile = Some(none);
            }
            Self::SeccompFile(path) => {
                security.seccomp_profile = Some(SeccompProfile::SeccompJson(profile(path)?));
            }
            Self::AppArmor(profile) => security.apparmor_profile.clone_from(profile),
        }
        Ok(())
    }
}

fn profile(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })
}

/// docker takes "net_admin"; the API has "CAP_NET_ADMIN" and "ALL".
fn capability(text: &str) -> String {
    let name = text.to_ascii_uppercase();
    match name.as_str() {
        "ALL" => name,
        named if named.starts_with("CAP_") => name,
        _ => format!("CAP_{name}"),
    }
}

/// `none`, `host`, `container:NAME` or `path:/PATH`.
pub(crate) fn network(text: &str) -> Result<NetworkSpec, String> {
    let mode = match text.split_once(':').unwrap_or((text, "")) {
        ("none", "") => Mode::None(NoNetwork {}),
        ("host", "") => Mode::Host(HostNetwork {}),
        ("container", name) if !name.is_empty() => Mode::Container(name.to_owned()),
        ("path", path) if path.starts_with('/') => Mode::NamespacePath(path.to_owned()),
        _ => {
            return Err(format!(
                "{text:?} is not none, host, container:NAME or path:/PATH"
            ));
        }
    };
    Ok(NetworkSpec { mode: Some(mode) })
}

/// `nofile=1024[:2048]`; -1 for no limit.
pub(crate) fn ulimit(text: &str) -> Result<Rlimit, String> {
    let wrong = || format!("{text:?} is not NAME=SOFT[:HARD], such as nofile=1024:2048");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let limit = |text: &str| match text {
        "-1" => Some(u64::MAX),
        digits => digits.parse().ok(),
    };
    Ok(Rlimit {
        name: format!("RLIMIT_{}", name.to_ascii_uppercase()),
        soft: limit(soft).ok_or_else(wrong)?,
        hard: limit(hard).ok_or_else(wrong)?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn security_options_are_read_as_docker_reads_them() {
        let read = |text| option(text).ok();
        assert_eq!(
            read("no-new-privileges"),
            Some(SecurityOption::NoNewPrivileges(true))
        );
        assert_eq!(
            read("no-new-privileges:false"),
            Some(SecurityOption::NoNewPrivileges(false))
        );
        assert_eq!(
            read("seccomp=unconfined"),
            Some(SecurityOption::SeccompUnconfined)
        );
        assert_eq!(
            read("seccomp=p.json"),
            Some(SecurityOption::SeccompFile("p.json".into()))
        );
        assert_eq!(read("label=disable"), None);
    }

    #[test]
    fn capabilities_get_their_full_names() {
        let names = ["net_admin", "CAP_SYS_TIME", "all"].map(capability);
        assert_eq!(names, ["CAP_NET_ADMIN", "CAP_SYS_TIME", "ALL"]);
    }

    #[test]
    fn without_a_flag_nothing_is_said_about_security() {
        assert_eq!(SecurityFlags::default().security().unwrap(), None);
    }

    #[test]
    fn a_seccomp_file_that_is_missing_is_a_failure_with_its_path() {
        let flags = SecurityFlags {
            security_opt: vec![SecurityOption::SeccompFile("/nonexistent/p.json".into())],
            ..SecurityFlags::default()
        };
        let failure = flags.security().unwrap_err();
        assert!(matches!(failure, Failure::File { .. }));
    }

    #[test]
    fn networks_and_limits_are_named() {
        let mode = |text| network(text).ok().and_then(|network| network.mode);
        assert_eq!(mode("host"), Some(Mode::Host(HostNetwork {})));
        assert_eq!(mode("container:db"), Some(Mode::Container("db".into())));
        assert_eq!(
            mode("path:/run/netns/a"),
            Some(Mode::NamespacePath("/run/netns/a".into()))
        );
        assert_eq!(mode("bridge"), None);
        let limit = ulimit("nofile=1024:-1").unwrap();
        assert_eq!(
            (&limit.name[..], limit.soft, limit.hard),
            ("RLIMIT_NOFILE", 1024, u64::MAX)
        );
        assert!(ulimit("nofile").is_err());
    }
}
