//! What keeps a container from the host and from other containers. Each scenario fails if the protection that
//! it is about is taken away.
//!
//! Shell asks where shell can; `isolation/probe.c` asks the rest, from inside.

mod descriptors;
mod hidden;
mod launcher;
mod links;
mod mounts;
mod namespaces;
mod neighbours;
mod privileges;
mod probe;
mod process;
mod view;

use std::fs;
use std::path::Path;

use wharf_api::v1::{
    self, BindMount, ContainerSpec, Mount, SeccompUnconfined, Security, TmpfsMount, mount::Source,
    security::SeccompProfile,
};

use crate::harness::streams::{Whole, exec};
use crate::harness::{Client, World, spec};

/// A program of the probe's image, without a network.
fn running(args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        image: probe::REFERENCE.to_owned(),
        ..spec::running(args)
    }
}

/// A script of the probe's image.
fn script(text: &str) -> ContainerSpec {
    running(&["sh", "-c", text])
}

/// What runs while it is looked at.
fn waiting() -> ContainerSpec {
    running(&["sleep", "3600"])
}

/// The server with the probe's image, too.
async fn up(world: &mut World) -> Client {
    let client = world.up().await;
    client.import(probe::image()).await.unwrap();
    client
}

/// Creates and starts.
async fn start(client: &Client, name: &str, spec: ContainerSpec) -> v1::Container {
    client.run_spec(name, spec).await.unwrap()
}

/// Runs a container to its end.
async fn run(client: &Client, spec: ContainerSpec) -> Whole {
    client.run_whole(spec).await.unwrap()
}

/// What it says on its way to a good end.
async fn said(client: &Client, spec: ContainerSpec) -> String {
    good(&run(client, spec).await)
}

/// The same of an exec.
async fn exec_said(client: &Client, container: &str, args: &[&str]) -> String {
    exec_spec_said(client, container, exec(args)).await
}

async fn exec_spec_said(client: &Client, container: &str, spec: v1::ExecSpec) -> String {
    let joined = client.run_exec(container, spec).await.unwrap();
    good(&joined.whole().await.unwrap())
}

fn good(whole: &Whole) -> String {
    assert_eq!(whole.exit.code, 0, "{}{}", whole.out(), whole.err());
    whole.out().to_owned()
}

fn bind(path: &Path, target: &str) -> Mount {
    Mount {
        target: target.to_owned(),
        source: Some(Source::Bind(BindMount {
            path: path.to_str().unwrap().to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// A file system in memory.
fn memory(target: &str) -> Mount {
    Mount {
        target: target.to_owned(),
        source: Some(Source::Tmpfs(TmpfsMount::default())),
        ..Default::default()
    }
}

/// A new directory of the scenario.
fn directory(world: &World, name: &str) -> std::path::PathBuf {
    let path = world.directory().join(name);
    fs::create_dir(&path).unwrap();
    path
}

fn with_capabilities(spec: ContainerSpec, add: &[&str], drop: &[&str]) -> ContainerSpec {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    ContainerSpec {
        security: Some(Security {
            capabilities_add: names(add),
            capabilities_drop: names(drop),
            ..Default::default()
        }),
        ..spec
    }
}

/// Without a seccomp profile.
fn unconfined(spec: ContainerSpec) -> ContainerSpec {
    let none = SeccompProfile::SeccompUnconfined(SeccompUnconfined {});
    ContainerSpec {
        security: Some(Security {
            seccomp_profile: Some(none),
            ..Default::default()
        }),
        ..spec
    }
}

/// The last field of each line that begins with its name, as /proc/PID/status has them.
fn field(status: &str, name: &str) -> String {
    let mut lines = status.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = value.unwrap_or_else(|| panic!("no {name} in {status}"));
    value.trim().to_owned()
}
