//! A process to start.

use wharf_api::v1;

use super::{Field, path, reason, stdio, text};
use crate::model::limits;
use crate::model::spec::{ProcessSpec, TextMap};
use crate::transport::Violations;

/// Reads a process; its empty fields take the image's values later, or the container's.
pub(super) fn process(
    process: v1::ProcessSpec,
    field: &Field<'_>,
    out: &mut Violations,
) -> ProcessSpec {
    check_command(&process, field, out);
    check_env(&process.env, &field.child("env"), out);
    check_groups(
        &process.supplemental_groups,
        &field.child("supplemental_groups"),
        out,
    );
    ProcessSpec {
        working_dir: working_dir(&process.working_dir, &field.child("working_dir"), out),
        user: user(process.user, &field.child("user"), out),
        entrypoint: process.entrypoint,
        args: process.args,
        env: process.env,
        supplemental_groups: process.supplemental_groups,
        terminal: process
            .terminal
            .and_then(|size| stdio::terminal_size(size, &field.child("terminal"), out)),
    }
}

/// Program and arguments count together, each with its terminating NUL, as the kernel counts.
fn check_command(process: &v1::ProcessSpec, field: &Field<'_>, out: &mut Violations) {
    let (entrypoint, args) = (field.child("entrypoint"), field.child("args"));
    let bytes = |texts: &[String]| texts.iter().map(|text| text.len() + 1).sum::<usize>();
    let (program, rest) = (bytes(&process.entrypoint), bytes(&process.args));
    if program + rest > limits::MAX_ARGS_BYTES {
        let longer = if program > rest { &entrypoint } else { &args };
        text::too_long(program + rest, limits::MAX_ARGS_BYTES, longer, out);
        return;
    }
    for (list, field) in [(&process.entrypoint, entrypoint), (&process.args, args)] {
        for (n, text) in list.iter().enumerate() {
            text::no_nul(text, &field.at(n), out);
        }
    }
    if process.entrypoint.first().is_some_and(String::is_empty) {
        entrypoint.at(0).missing(out);
    }
}

fn check_env(env: &TextMap, field: &Field<'_>, out: &mut Violations) {
    if !field.count(env.len(), limits::MAX_ENV, out) {
        return;
    }
    let total = env
        .iter()
        .map(|(key, value)| key.len() + value.len() + 2)
        .sum::<usize>();
    if total > limits::MAX_ENV_BYTES {
        text::too_long(total, limits::MAX_ENV_BYTES, field, out);
        return;
    }
    for (key, value) in env {
        let entry = field.key(key);
        if key.contains('=') {
            entry.reject(reason::MALFORMED, "the key must not contain \"=\"", out);
        }
        text::required(key, limits::MAX_ENV_BYTES, &entry, out);
        text::no_nul(value, &entry, out);
    }
}

fn working_dir(dir: &str, field: &Field<'_>, out: &mut Violations) -> Option<String> {
    if dir.is_empty() {
        return None;
    }
    path::absolute(dir, field, out)
}

/// Reads `user`, `user:group`, `uid` or `uid:gid`; `None` if it is empty.
fn user(user: String, field: &Field<'_>, out: &mut Violations) -> Option<String> {
    let user = text::non_empty(user)?;
    if text::check(&user, limits::MAX_USER_BYTES, field, out) {
        let (name, group) = user.split_once(':').unwrap_or((&user, "0"));
        check_account(name, field, out);
        check_account(group, field, out);
    }
    Some(user)
}

fn check_groups(groups: &[String], field: &Field<'_>, out: &mut Violations) {
    if field.count(groups.len(), limits::MAX_GROUPS, out) {
        for (n, group) in groups.iter().enumerate() {
            let entry = field.at(n);
            if text::required(group, limits::MAX_USER_BYTES, &entry, out) {
                check_account(group, &entry, out);
            }
        }
    }
}

/// Checks the name or number of a user or group. 4294967295 is no id: the kernel reads it as "leave
/// it as it is".
fn check_account(account: &str, field: &Field<'_>, out: &mut Violations) {
    let is_number = !account.is_empty() && account.bytes().all(|b| b.is_ascii_digit());
    if is_number {
        if account.parse::<u32>().is_ok_and(|id| id != u32::MAX) {
            return;
        }
        field.reject(reason::OUT_OF_RANGE, "ids are from 0 to 4294967294", out);
    } else if account.is_empty()
        || account.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control())
    {
        field.reject(reason::MALFORMED, "is no user or group", out);
    }
}
