//! Privileges and confinement.

use oci_spec::runtime::Capability;
use wharf_api::v1;
use wharf_api::v1::security::SeccompProfile;
use wharf_api::v1::user_namespace::Mode;

use super::{Field, reason, text};
use crate::model::limits;
use crate::model::spec::{Seccomp, Security};
use crate::transport::Violations;

/// Reads privileges and confinement.
pub(super) fn security(
    security: v1::Security,
    field: &Field<'_>,
    out: &mut Violations,
) -> Security {
    if security.privileged {
        field.child("privileged").unsupported(out);
    }
    if !security.apparmor_profile.is_empty() {
        field.child("apparmor_profile").unsupported(out);
    }
    user_namespace(security.user_namespace, &field.child("user_namespace"), out);
    Security {
        capabilities_add: capabilities(
            security.capabilities_add,
            &field.child("capabilities_add"),
            out,
        ),
        capabilities_drop: capabilities(
            security.capabilities_drop,
            &field.child("capabilities_drop"),
            out,
        ),
        no_new_privileges: security.no_new_privileges.unwrap_or(true),
        seccomp: seccomp(security.seccomp_profile, field, out),
    }
}

/// Reads capabilities; saying one twice says no more than saying it once.
fn capabilities(names: Vec<String>, field: &Field<'_>, out: &mut Violations) -> Vec<String> {
    let mut read = Vec::new();
    if !field.count(names.len(), limits::MAX_FILTER_VALUES, out) {
        return read;
    }
    for (n, name) in names.into_iter().enumerate() {
        let known = name == "ALL"
            || name
                .strip_prefix("CAP_")
                .is_some_and(|short| short.parse::<Capability>().is_ok());
        if !known {
            field.at(n).reject(
                reason::UNKNOWN_VALUE,
                "is no capability, such as \"CAP_NET_ADMIN\", nor \"ALL\"",
                out,
            );
        } else if !read.contains(&name) {
            read.push(name);
        }
    }
    read
}

fn seccomp(profile: Option<SeccompProfile>, field: &Field<'_>, out: &mut Violations) -> Seccomp {
    match profile {
        None | Some(SeccompProfile::SeccompDefault(_)) => Seccomp::Default,
        Some(SeccompProfile::SeccompUnconfined(_)) => Seccomp::Unconfined,
        Some(SeccompProfile::SeccompJson(json)) => {
            let field = field.child("seccomp_json");
            text::required(&json, limits::MAX_SECCOMP_BYTES, &field, out);
            Seccomp::Json { json }
        }
    }
}

fn user_namespace(namespace: Option<v1::UserNamespace>, field: &Field<'_>, out: &mut Violations) {
    let mode = field.child("mode");
    match mode.enumeration(namespace.unwrap_or_default().mode, out) {
        None | Some(Mode::Unspecified | Mode::Host) => {}
        Some(Mode::Private) => mode.unsupported(out),
    }
}
