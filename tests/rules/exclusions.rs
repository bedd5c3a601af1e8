//! Which scenarios are for containerd alone, and why: nothing else may be left out on another backend.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::checked_in;

const LIST: &str = "tests/rules/containerd_only.snapshot";
const SUITES: &[&str] = &["tests/conformance", "tests/e2e"];

/// What makes a scenario one for containerd alone.
const MARK: &str = "containerd_only(";

/// What a scenario cannot do on another backend.
const NEEDS: &[&str] = &[
    "world.containerd.start()",
    "world.containerd.stop()",
    "world.containerd.kill()",
    "world.containerd.freeze()",
    "behind_a_proxy()",
];

/// A function that runs a scenario of containerd alone.
struct Exclusion {
    place: String,
    reason: String,
}

/// Every file of the scenarios, with its text.
fn files() -> Vec<(String, String)> {
    let root = checked_in::path("");
    let mut paths = Vec::new();
    for suite in SUITES {
        collect(&checked_in::path(suite), &mut paths);
    }
    paths.sort();
    let named = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let relative = path.strip_prefix(&root).unwrap();
        (relative.display().to_string(), text)
    };
    paths.into_iter().map(named).collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// The functions of a file, each from its name to the next one's.
fn functions(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let starts = text.split("fn ").skip(1);
    starts.filter_map(|function| Some((function.split_once('(')?.0, function)))
}

fn exclusions() -> Vec<Exclusion> {
    let mut all = Vec::new();
    for (file, text) in files() {
        for (name, body) in functions(&text) {
            for call in body.split(MARK).skip(1) {
                let place = format!("{file}: {name}");
                let reason = literal(call).unwrap_or_else(|| panic!("{place} has no reason"));
                all.push(Exclusion { place, reason });
            }
        }
    }
    all
}

/// The first argument, if it is a text.
fn literal(call: &str) -> Option<String> {
    let text = call.trim_start().strip_prefix('"')?;
    let reason = text.split_once('"')?.0;
    (!reason.is_empty()).then(|| reason.to_owned())
}

#[test]
fn the_list_of_scenarios_for_containerd_alone_is_the_one_that_was_agreed() {
    let mut list = String::new();
    for Exclusion { place, reason } in exclusions() {
        writeln!(list, "{place}: {reason}").unwrap();
    }
    checked_in::must_equal(LIST, &list);
}

#[test]
fn what_only_containerd_has_is_used_by_scenarios_that_say_so() {
    let mut silent = Vec::new();
    for (file, text) in files() {
        let declares = text.contains(MARK);
        silent.extend(
            NEEDS
                .iter()
                .filter(|needs| text.contains(**needs) && !declares)
                .map(|needs| format!("{file} uses {needs}")),
        );
    }
    // One condition of the server that every backend has in its own way, chosen by the backend.
    silent.retain(|place| !place.starts_with("tests/e2e/reasons/worlds.rs"));
    assert!(silent.is_empty(), "{silent:?}");
}
