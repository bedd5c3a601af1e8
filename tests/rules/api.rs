//! The API's surface, in one checked-in text: what is in it is promised to stay.

use std::fmt::Write as _;

use wharf_api::{ErrorReason, METHODS, Method};

use crate::{checked_in, error_table, limits};

const SNAPSHOT: &str = "tests/rules/api.snapshot";

#[test]
fn the_surface_of_the_api_changes_only_on_purpose() {
    checked_in::must_equal(SNAPSHOT, &surface());
}

#[test]
fn every_method_is_in_the_snapshot_once() {
    let text = checked_in::read(SNAPSHOT);
    for method in METHODS {
        let lines = text
            .lines()
            .filter(|line| line.split(' ').next() == Some(method.path));
        assert_eq!(lines.count(), 1, "{}", method.path);
    }
}

fn surface() -> String {
    let mut text =
        String::from("# The surface of wharf.v1. Rewrite with WHARF_UPDATE=1.\n\n## Methods\n");
    for method in METHODS {
        writeln!(
            text,
            "{} {} {:?}",
            method.path,
            kind(method),
            method.idempotency
        )
        .unwrap();
    }
    text.push_str("\n## Error reasons: number, name, code, metadata keys\n");
    for reason in ErrorReason::all() {
        let row = error_table::row(reason.as_str_name());
        let (code, keys) = row.map_or(("?", "?"), |row| (row.code, row.keys));
        writeln!(text, "{} {reason} {code} {keys}", reason as i32).unwrap();
    }
    text.push_str("\n## Metadata keys\n");
    for (name, key) in metadata_keys() {
        writeln!(text, "{name} {key}").unwrap();
    }
    text.push_str("\n## Limits\n");
    for limit in limits::all() {
        writeln!(text, "{} {}", limit.name, limit.number()).unwrap();
    }
    text
}

fn kind(method: &Method) -> &'static str {
    match (method.client_streaming, method.server_streaming) {
        (false, false) => "unary",
        (false, true) => "server-stream",
        (true, false) => "client-stream",
        (true, true) => "bidi-stream",
    }
}

/// The constants of `wharf_api::metadata`, read from its source: a new one must show up here.
fn metadata_keys() -> Vec<(String, String)> {
    let source = checked_in::read("proto/lib.rs");
    let (_, module) = source.split_once("pub mod metadata {").unwrap();
    let (module, _) = module.split_once("\n}").unwrap();
    module
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub const "))
        .map(|line| {
            let (name, rest) = line.split_once(':').unwrap();
            (name.to_owned(), rest.split('"').nth(1).unwrap().to_owned())
        })
        .collect()
}
