//! Texts that stand in the repository and must equal what the code says.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// A path below the repository's root.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// The text of a file of the repository.
pub fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// Fails unless the file says `expected`; writes it instead if that is asked for.
pub fn must_equal(relative: &str, expected: &str) {
    if env::var_os("WHARF_UPDATE").is_some() {
        fs::write(path(relative), expected).unwrap();
        return;
    }
    let actual = fs::read_to_string(path(relative)).unwrap_or_default();
    let differing = first_difference(&actual, expected);
    assert!(
        differing.is_none(),
        "{relative} is out of date: {}\nIf the change is meant: WHARF_UPDATE=1 cargo test --test rules",
        differing.unwrap_or_default()
    );
}

fn first_difference(actual: &str, expected: &str) -> Option<String> {
    if actual == expected {
        return None;
    }
    let (mut old, mut new) = (actual.lines(), expected.lines());
    let mut number = 0;
    loop {
        number += 1;
        let (old, new) = (old.next(), new.next());
        if old != new {
            return Some(format!(
                "line {number}\n  there:    {old:?}\n  expected: {new:?}"
            ));
        }
        if old.is_none() {
            return Some("it differs in line ends only".to_owned());
        }
    }
}
