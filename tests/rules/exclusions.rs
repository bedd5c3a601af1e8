//! Which scenarios some backends do not run, and why: nothing else may be left out.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::checked_in;

const LIST: &str = "tests/rules/exclusions.snapshot";
const SUITES: &[&str] = &["tests/conformance", "tests/e2e"];

/// What makes a scenario one for some backends alone.
const MARKS: &[&str] = &[
    "containerd_only(",
    "not_by_crun(",
    "not_by_runc(",
    "by_wharf_alone(",
];

/// What a scenario cannot do on another backend.
const NEEDS: &[&str] = &[
    "world.containerd.start()",
    "world.containerd.stop()",
    "world.containerd.kill()",
    "world.containerd.freeze()",
    "behind_a_proxy()",
];

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

/// One line for each scenario that is left out somewhere.
fn exclusions() -> String {
    let mut list = String::new();
    for (file, text) in files() {
        for (name, body) in functions(&text) {
            for mark in MARKS {
                for call in body.split(mark).skip(1) {
                    let reason = literal(call);
                    let reason = reason.unwrap_or_else(|| panic!("{file}: {name} has no reason"));
                    let mark = mark.trim_end_matches('(');
                    writeln!(list, "{file}: {name}: {mark}: {reason}").unwrap();
                }
            }
        }
    }
    list
}

/// The first argument, if it is a text.
fn literal(call: &str) -> Option<String> {
    let text = call.trim_start().strip_prefix('"')?;
    let reason = text.split_once('"')?.0;
    (!reason.is_empty()).then(|| reason.to_owned())
}

#[test]
fn the_scenarios_that_some_backends_do_not_run_are_the_agreed_ones() {
    checked_in::must_equal(LIST, &exclusions());
}

#[test]
fn what_only_containerd_has_is_used_by_scenarios_that_say_so() {
    let mut silent = Vec::new();
    for (file, text) in files() {
        let declares = text.contains(MARKS[0]);
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
