//! The examples, run as their readers run them, against a real server.

mod streams;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::clients::tool;
use crate::harness::image::Recipe;
use crate::harness::process::Daemon;
use crate::harness::registry::{Access, Registry};
use crate::harness::wait::so;
use crate::harness::{Backend, World, binaries, image, process, scenario, until};

const LONGEST: Duration = Duration::from_secs(120);
const IMAGE: &str = "busybox:test";

/// Every example, each of which has a scenario here.
const RUN: [&str; 15] = [
    "errors.rs",
    "events.rs",
    "exec.rs",
    "files.rs",
    "grpcurl/lifecycle.sh",
    "grpcurl/streams.sh",
    "images.rs",
    "lifecycle.rs",
    "logs.rs",
    "pull.rs",
    "python/exec.py",
    "python/lifecycle.py",
    "python/logs.py",
    "stats.rs",
    "system.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn host(world: &World) -> String {
    format!("unix://{}", world.wharfd.socket().display())
}

/// A Rust example that finds the world's server by its environment.
fn example(world: &World, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries::example(name));
    command
        .env_clear()
        .env("WHARF_HOST", host(world))
        .current_dir(world.directory())
        .args(arguments);
    command
}

/// Stubs for the Python examples, made as their README says.
async fn python_stubs(world: &World) -> PathBuf {
    let stubs = world.directory().join("stubs");
    fs::create_dir(&stubs).unwrap();
    let protos = fs::read_dir(root().join("proto/wharf/v1")).unwrap();
    let protos: Vec<_> = protos.map(|entry| entry.unwrap().path()).collect();
    let mut generate = python();
    generate
        .args(["-m", "grpc_tools.protoc", "-I"])
        .arg(root().join("proto"))
        .arg(format!("--python_out={}", stubs.display()))
        .arg(format!("--grpc_python_out={}", stubs.display()))
        .args(protos);
    assert_eq!(printed(generate).await, "");
    stubs
}

fn python() -> Command {
    Command::new(tool("python", "python/bin"))
}

fn python_example(stubs: &Path, name: &str, arguments: &[&str]) -> Command {
    let mut command = python();
    command
        .env("PYTHONPATH", stubs)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(root().join("examples/python").join(name))
        .args(arguments);
    command
}

/// A script that finds grpcurl in its path.
fn grpcurl_script(world: &World, name: &str, argument: &str) -> Command {
    let own = root().join("target/tools/bin");
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new(root().join("examples/grpcurl").join(name));
    command
        .env("PATH", format!("{}:{path}", own.display()))
        .arg(argument)
        .arg(world.wharfd.socket());
    command
}

/// Runs it to its end, which must be a good one, without a word on standard error; what it prints.
async fn printed(command: Command) -> String {
    let output = process::run(command, LONGEST).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    assert_eq!(said, "");
    String::from_utf8(output.stdout).unwrap()
}

fn must_say(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn every_example_is_run_here() {
    let mut found = BTreeSet::new();
    collect(&root().join("examples"), &mut found);
    let run: BTreeSet<_> = RUN.map(str::to_owned).into();
    assert_eq!(found, run);
}

/// Programs and scripts below `directory`, stubs that a reader has made aside.
fn collect(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() && !path.ends_with("stubs") {
            collect(&path, found);
        } else if matches!(kind, Some("rs" | "py" | "sh" | "go" | "ts")) {
            let name = path.strip_prefix(root().join("examples")).unwrap();
            found.insert(name.display().to_string());
        }
    }
}

#[test]
fn lifecycle_leads_a_container_through_its_life_under_one_request_id() {
    scenario(async |world| {
        let client = world.up().await;
        let text = printed(example(world, "lifecycle", &[IMAGE])).await;
        must_say(
            &text,
            &[
                "created ",
                "started run 1",
                "REASON_EXITED 7",
                "deleted; see `wharf trace ",
            ],
        );
        let id = text
            .split('`')
            .nth(1)
            .unwrap()
            .strip_prefix("wharf trace ")
            .unwrap();
        let filter = wharf_api::v1::EventFilter {
            request_ids: vec![id.to_owned()],
            ..Default::default()
        };
        assert_eq!(
            client.events_where(filter).await.len(),
            3,
            "created, started, deleted"
        );
    });
}

#[test]
fn files_go_in_and_out_of_a_container() {
    scenario(async |world| {
        let client = world.up().await;
        client.create("web", &["true"]).await.unwrap();
        let text = printed(example(world, "files", &["web"])).await;
        must_say(
            &text,
            &[
                "wrote 14 bytes, mode 640",
                "read colour = blue",
                "bytes of tar",
                "not there: ",
            ],
        );
    });
}

#[test]
fn images_brings_an_archive_in_under_a_name() {
    scenario(async |world| {
        world.start_backend().await;
        let client = world.wharfd.start().await;
        let archive = world.directory().join("busybox.tar");
        fs::write(&archive, image::busybox()).unwrap();
        let arguments = [archive.to_str().unwrap(), "mine:1"];
        let text = printed(example(world, "images", &arguments)).await;
        must_say(
            &text,
            &["imported sha256:", "docker.io/library/mine:1", " bytes"],
        );
        client.create("web", &["true"]).await.unwrap();
    });
}

#[test]
fn pull_tells_how_it_goes() {
    scenario(async |world| {
        let registry = Registry::start(Access::Open).await;
        registry.known_to(&world.wharfd);
        let pushed = registry.push(&Recipe::busybox(""), "app:1").await;
        world.start_backend().await;
        let client = world.wharfd.start().await;
        let image = registry.reference("app:1");
        let text = printed(example(world, "pull", &[&image])).await;
        let resolved = format!("resolved {}", pushed.digest);
        let pulled = format!("pulled {} [{image:?}]", pushed.config());
        must_say(&text, &[&resolved, &pulled]);
        assert_eq!(client.every_image().await.len(), 1);
    });
}

#[test]
fn errors_shows_what_a_program_decides_by() {
    scenario(async |world| {
        world.up().await;
        let text = printed(example(world, "errors", &[])).await;
        must_say(
            &text,
            &[
                "CONTAINER_NOT_FOUND (NotFound)",
                "container = no-such-container",
                "  request ",
                "INVALID_FIELD (InvalidArgument)",
                "  name: ",
                "  spec.process.working_dir: ",
                "  spec.mounts[0]",
            ],
        );
        assert!(!text.contains("unexpected"), "{text}");
    });
}

#[test]
fn stats_shows_what_runs_round_by_round() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("idle", &["sleep", "3600"]).await.unwrap();
        let shown = printed(example(world, "stats", &["2"])).await;
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 4, "{shown}");
        assert_eq!([lines[0], lines[2]], ["round 1 of 2", "round 2 of 2"]);
        assert!(lines[1].starts_with("idle: since its start, "), "{shown}");
        assert!(lines[3].starts_with("idle: 0.0"), "{shown}");
        assert!(lines[3].ends_with(", 1 processes and threads"), "{shown}");
    });
}

#[test]
fn system_tells_what_the_server_is_and_can_do() {
    scenario(async |world| {
        world.up().await;
        let text = printed(example(world, "system", &[])).await;
        must_say(
            &text,
            &[
                &format!("wharfd 0.1.0 on {}", Backend::of_this_run().name()),
                "can ",
                "limit ",
                "you are uid:",
                "BackendReady is true",
            ],
        );
    });
}

#[test]
fn events_goes_on_where_it_stopped() {
    scenario(async |world| {
        let client = world.up().await;
        client.create("first", &["true"]).await.unwrap();
        let told = following(world, "one", "1 containers").await;
        must_say(&told, &["there is first (Created)"]);

        client
            .with_id("meanwhile")
            .create("second", &["true"])
            .await
            .unwrap();
        let told = following(world, "two", "TYPE_CONTAINER_CREATED second by meanwhile").await;
        assert!(!told.contains("there is"), "it begins anew: {told}");
        let told = following_while(world, "three", "TYPE_CONTAINER_DELETED first", async || {
            client.delete("first").await.unwrap();
        })
        .await;
        assert!(!told.contains("second"), "it repeats itself: {told}");
    });
}

async fn following(world: &World, log: &str, last: &str) -> String {
    following_while(world, log, last, async || ()).await
}

/// Runs the example until it has said `last`, then ends it as ^C does; all that it said.
async fn following_while(world: &World, log: &str, last: &str, act: impl AsyncFn()) -> String {
    let log = world.directory().join(log);
    let mut program = Daemon::spawn("events", example(world, "events", &["cursor"]), &log);
    let said = || fs::read_to_string(&log).unwrap_or_default();
    act().await;
    until(last, LONGEST, async || so(said().contains(last), said)).await;
    // The cursor is saved after the line is printed.
    until("its cursor is saved", LONGEST, async || {
        let saved = fs::read_to_string(world.directory().join("cursor"));
        so(saved.is_ok_and(|cursor| !cursor.is_empty()), || {
            "it is not".to_owned()
        })
    })
    .await;
    program.signal(Signal::INT);
    let status = program.end(LONGEST).await;
    assert!(status.success(), "{status}: {}", said());
    said()
}

#[test]
fn python_needs_no_option_and_no_text_of_an_error() {
    scenario(async |world| {
        world.up().await;
        let stubs = python_stubs(world).await;
        let command = python_example(&stubs, "lifecycle.py", &[IMAGE, &host(world)]);
        let text = printed(command).await;
        must_say(
            &text,
            &[
                "created ",
                "exit code 7",
                "NOT_FOUND CONTAINER_NOT_FOUND {'container': ",
                "TYPE_CONTAINER_CREATED",
                "TYPE_CONTAINER_STARTED",
                "TYPE_CONTAINER_DELETED",
            ],
        );
    });
}

#[test]
fn grpcurl_needs_nothing_but_reflection() {
    scenario(async |world| {
        world.up().await;
        let command = grpcurl_script(world, "lifecycle.sh", IMAGE);
        let output = process::run(command, LONGEST).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", output.status);
        // What grpcurl says of the error that the script provokes.
        must_say(
            &said,
            &["NotFound", "CONTAINER_NOT_FOUND", "google.rpc.ResourceInfo"],
        );
        let text = String::from_utf8_lossy(&output.stdout);
        must_say(
            &text,
            &[
                "wharf.v1.ContainerService",
                "\"registered\"",
                "\"code\": 7",
                "\"changed\": true",
                "TYPE_CONTAINER_CREATED grpcurl-",
                "TYPE_CONTAINER_DELETED grpcurl-",
            ],
        );
    });
}
