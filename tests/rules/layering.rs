//! transport -> engine -> (store, backend, registry) -> (journal, stdio, oci, files, cgroup) -> (model, tarball), and who
//! may name what.

use crate::source::{self, Source};

/// A layer may name those after it, and itself. The store writes the journal's rows.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "transport",
        &[
            "engine", "journal", "store", "stdio", "backend", "registry", "oci", "files", "model",
        ],
    ),
    (
        "engine",
        &[
            "journal", "store", "stdio", "backend", "registry", "oci", "files", "model",
        ],
    ),
    ("store", &["journal", "oci", "model"]),
    ("journal", &["model"]),
    ("stdio", &["model"]),
    (
        "backend",
        &["stdio", "oci", "files", "cgroup", "tarball", "model"],
    ),
    ("cgroup", &["model"]),
    ("registry", &["oci", "model"]),
    ("oci", &["tarball", "model"]),
    ("files", &["tarball", "model"]),
    ("tarball", &[]),
    ("model", &[]),
];

fn layer(name: &str) -> Option<&'static [&'static str]> {
    LAYERS
        .iter()
        .find(|(layer, _)| *layer == name)
        .map(|(_, below)| *below)
}

/// Fails with every offence, so that one run shows all of them.
fn none_may(what: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{what}:\n  {}", offences.join("\n  "));
}

fn in_module(source: &Source, module: &[&str]) -> bool {
    source.module.len() >= module.len() && source.module.iter().zip(module).all(|(a, b)| a == b)
}

#[test]
fn no_arrow_points_up() {
    let mut offences = Vec::new();
    for source in source::server() {
        let Some(below) = source.module.first().and_then(|name| layer(name)) else {
            continue;
        };
        for path in source.paths().iter().filter(|path| path[0] == "crate") {
            let Some(target) = path.get(1) else { continue };
            let own = source.module.first() == Some(target);
            if !own && !below.contains(&target.as_str()) {
                offences.push(format!("{} names {}", source.file, path.join("::")));
            }
        }
    }
    none_may("a layer names what is not below it", offences);
}

#[test]
fn every_file_belongs_to_a_layer_or_to_the_composition_root() {
    const ROOT: &[&str] = &["config", "daemon", "telemetry"];
    let offences = source::server()
        .iter()
        .filter_map(|source| source.module.first().map(|module| (source, module)))
        .filter(|(_, module)| layer(module).is_none() && !ROOT.contains(&module.as_str()))
        .map(|(source, _)| source.file.clone())
        .collect();
    none_may("files that are in no layer", offences);
}

#[test]
fn only_transport_and_the_containerd_backend_name_tonic() {
    let mut offences = Vec::new();
    for source in source::server() {
        let allowed =
            in_module(&source, &["transport"]) || in_module(&source, &["backend", "containerd"]);
        let names_it = |path: &&Vec<String>| {
            path.len() > 1
                && (path[0].starts_with("tonic") || path[0] == "tower" || path[0] == "tower_http")
        };
        if !allowed {
            offences.extend(
                source
                    .paths()
                    .iter()
                    .filter(names_it)
                    .map(|path| format!("{} names {}", source.file, path.join("::"))),
            );
        }
    }
    none_may("tonic or tower outside transport", offences);
}

#[test]
fn generated_messages_stay_in_transport() {
    let mut offences = Vec::new();
    for source in source::server() {
        if in_module(&source, &["transport"]) {
            continue;
        }
        for path in source.paths() {
            if path[0] == "wharf_api" && path.get(1).is_some_and(|part| part == "v1") {
                offences.push(format!("{} names {}", source.file, path.join("::")));
            }
        }
    }
    none_may("the domain names messages of the API", offences);
}

#[test]
fn only_the_engine_makes_events() {
    let mut offences = Vec::new();
    for source in source::server() {
        if in_module(&source, &["engine"]) {
            continue;
        }
        for at in source.sequences(&["NewEvent", "{"]) {
            let before = at.checked_sub(1).map(|at| &source.tokens[at]);
            let declares = before.is_some_and(|token| {
                ["struct", "impl", "for", ">", "let"]
                    .iter()
                    .any(|word| token.is(word))
            });
            if !declares {
                offences.push(source.file.clone());
            }
        }
    }
    none_may("events made outside the engine", offences);
}

/// A task that somebody joins by hand says so, in the words of the lint that would refuse it.
#[test]
fn every_task_has_an_owner() {
    const DETACHED: &[&[&str]] = &[
        &["tokio", ":", ":", "spawn"],
        &["task", ":", ":", "spawn", "("],
        &["thread", ":", ":", "sleep"],
    ];
    const EXPLAINED: &[&str] = &["expect", "(", "clippy", ":", ":", "disallowed_methods"];
    let mut offences = Vec::new();
    for source in source::server() {
        let detached: usize = DETACHED
            .iter()
            .map(|words| source.sequences(words).count())
            .sum();
        let explained = source.sequences(EXPLAINED).count();
        if detached > explained {
            offences.push(format!(
                "{}: {detached}, of which {explained} are explained",
                source.file
            ));
        }
    }
    none_may("detached tasks", offences);
}

#[test]
fn a_path_is_seen_however_it_is_written() {
    let source = Source {
        file: "engine/wait.rs".to_owned(),
        module: vec!["engine".to_owned(), "wait".to_owned()],
        tokens: Vec::new(),
    };
    let seen = |text: &str| source.with(text).paths();
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();

    assert_eq!(
        seen("use crate::{model::{Run, State}, store::*};"),
        [
            path("use"),
            path("crate::model::Run"),
            path("crate::model::State"),
            path("crate::store::*")
        ]
    );
    assert!(
        seen("let x = super::super::transport::parse();")
            .contains(&path("crate::transport::parse"))
    );
    assert!(seen("self::a::b").contains(&path("crate::engine::wait::a::b")));
    assert!(seen("Vec::<crate::transport::X>::new()").contains(&path("crate::transport::X")));
    assert!(seen("#[cfg(test)] mod tests { use crate::transport::X; }").is_empty());
}
