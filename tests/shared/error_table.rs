//! The table of `docs/errors.md`: what a client may rely on about each reason. One test compares it with
//! the proto, and every error that an end-to-end test sees is compared with it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// The document, below the repository's root.
pub const DOCUMENT: &str = "docs/errors.md";

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub reason: &'static str,
    /// `FAILED_PRECONDITION`.
    pub code: &'static str,
    /// `ResourceInfo, RetryInfo`; `-` for none.
    pub details: &'static str,
    /// `container,exitCode=127`; `-` for none.
    pub keys: &'static str,
    #[allow(
        dead_code,
        reason = "one of the two test binaries compares the proto with it"
    )]
    pub meaning: &'static str,
}

/// Every row, in the document's order.
pub fn rows() -> impl Iterator<Item = Row> {
    static TEXT: OnceLock<String> = OnceLock::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    let text = TEXT.get_or_init(|| fs::read_to_string(path).expect("the table of errors"));
    text.lines().filter_map(parse)
}

/// The row of a reason.
pub fn row(reason: &str) -> Option<Row> {
    rows().find(|row| row.reason == reason)
}

fn parse(line: &'static str) -> Option<Row> {
    let cells: Vec<_> = line
        .strip_prefix("| ")?
        .strip_suffix(" |")?
        .split(" | ")
        .collect();
    let [reason, code, _retry, details, keys, meaning] = cells[..] else {
        return None;
    };
    let is_reason = reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    is_reason.then_some(Row {
        reason,
        code,
        details,
        keys,
        meaning,
    })
}

#[allow(
    dead_code,
    reason = "one of the two test binaries compares answers with it"
)]
impl Row {
    /// The kinds of details besides ErrorInfo and RequestInfo.
    pub fn details(&self) -> BTreeSet<&'static str> {
        names(self.details)
    }

    /// The metadata keys, without the values that some of them have.
    pub fn keys(&self) -> BTreeSet<&'static str> {
        names(self.keys)
    }

    /// Those that only some answers have: how far a call had come. They stand in brackets.
    pub fn optional_keys(&self) -> BTreeSet<&'static str> {
        let brackets = self.keys.split_once('(').map(|(_, rest)| rest);
        brackets.map_or_else(BTreeSet::new, |rest| names(rest.trim_end_matches(')')))
    }
}

#[allow(
    dead_code,
    reason = "one of the two test binaries compares answers with it"
)]
impl Row {
    /// Whether the value of a metadata key is one of those documented for it; any but nothing, if none
    /// are.
    pub fn allows(&self, key: &str, value: &str) -> bool {
        let named = self.keys.split(',').find_map(|entry| {
            let (name, values) = entry.trim().split_once('=')?;
            (name == key).then_some(values)
        });
        match named {
            Some(values) => values.split('/').any(|allowed| allowed == value),
            None => !value.is_empty(),
        }
    }
}

#[allow(dead_code, reason = "see Row::details")]
fn names(cell: &'static str) -> BTreeSet<&'static str> {
    let outside_brackets = cell.split('(').next().unwrap_or_default();
    outside_brackets
        .split(',')
        .map(|name| name.trim().split('=').next().unwrap_or_default())
        .filter(|name| !name.is_empty() && name.chars().all(char::is_alphanumeric))
        .collect()
}
