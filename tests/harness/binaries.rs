//! The programs under test: built once for each run of the tests, found where cargo says they are.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

static BUILT: LazyLock<HashMap<String, PathBuf>> = LazyLock::new(|| build("--bins", "bin"));
static EXAMPLES: LazyLock<HashMap<String, PathBuf>> =
    LazyLock::new(|| build("--examples", "example"));

/// The server.
pub fn wharfd() -> PathBuf {
    find("wharfd")
}

/// The command line.
pub fn wharf() -> PathBuf {
    find("wharf")
}

/// One of the examples.
pub fn example(name: &str) -> PathBuf {
    find_among(&EXAMPLES, name)
}

fn find(name: &str) -> PathBuf {
    find_among(&BUILT, name)
}

fn find_among(built: &HashMap<String, PathBuf>, name: &str) -> PathBuf {
    built
        .get(name)
        .unwrap_or_else(|| panic!("cargo built no {name}"))
        .clone()
}

/// With a test, because the features of dependencies are then those of the tests themselves and
/// nothing is compiled twice.
fn build(which: &str, kind: &str) -> HashMap<String, PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--workspace", which])
        .args(["--test", env!("CARGO_CRATE_NAME")])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo");
    assert!(output.status.success(), "the programs do not build");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter_map(|message| program(&message, kind))
        .collect()
}

/// The name and path of a program, if that is what the message is about.
fn program(message: &Value, kind: &str) -> Option<(String, PathBuf)> {
    let is_program = message["target"]["kind"] == serde_json::json!([kind])
        && message["profile"]["test"] == false;
    let name = message["target"]["name"].as_str()?;
    let path = message["executable"].as_str()?;
    is_program.then(|| (name.to_owned(), path.into()))
}
