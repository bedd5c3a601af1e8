//! `docs/errors.md` against the proto: each reason, its code and its meaning.

use wharf_api::ErrorReason;

use crate::checked_in;
use crate::error_table::{DOCUMENT, row, rows};

const PROTO: &str = "proto/wharf/v1/error_reason.proto";

/// `CODE. Meaning.` as the proto's comment on a reason says.
fn comment_of(proto: &str, reason: &str) -> String {
    let lines: Vec<_> = proto.lines().map(str::trim).collect();
    let declared = lines
        .iter()
        .position(|line| line.starts_with(&format!("{reason} = ")))
        .unwrap_or_else(|| panic!("{reason} is not in {PROTO}"));
    let comments = lines[..declared]
        .iter()
        .rev()
        .take_while(|line| line.starts_with("//"))
        .filter_map(|line| line.strip_prefix("// "))
        .filter(|line| !line.starts_with("buf:lint"));
    let mut comments: Vec<_> = comments.collect();
    comments.reverse();
    comments.join(" ")
}

#[test]
fn every_reason_is_documented_as_the_proto_says() {
    let proto = checked_in::read(PROTO);
    let mut wrong = Vec::new();
    for reason in ErrorReason::all() {
        let name = reason.as_str_name();
        let documented = row(name).map(|row| format!("{}. {}.", row.code, row.meaning));
        let expected = comment_of(&proto, name);
        if documented.as_deref() != Some(&expected) {
            wrong.push(format!(
                "{name}: proto {expected:?}, {DOCUMENT} {documented:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_document_names_a_reason_that_is_not_there() {
    let unknown: Vec<_> = rows()
        .map(|row| row.reason)
        .filter(|reason| ErrorReason::from_str_name(reason).is_none())
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
