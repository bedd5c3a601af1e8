//! Clients in other languages, as their users would write them: default options, over the Unix socket.

mod streams;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use serde_json::{Value, json};
use wharf_api::v1::ImportImageStart;
use wharf_api::v1::import_image_request::Request;

use crate::harness::client::import_messages;
use crate::harness::{World, image, process, scenario};

/// Where `make setup` puts tools that no package has.
pub fn tool(name: &str, below: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/tools")
        .join(below)
        .join(name);
    if own.exists() { own } else { name.into() }
}

/// Runs a program of `tests/clients` to its end, which must be a good one.
async fn python(world: &World, program: &str, argument: impl AsRef<OsStr>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new(tool("python", "python/bin"));
    python
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(root.join("tests/clients").join(program))
        .arg(root.join("proto"))
        .arg(world.wharfd.socket())
        .arg(argument);
    let output = process::run(python, Duration::from_secs(180)).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n");
}

#[test]
fn a_python_program_leads_a_full_lifecycle_and_reads_the_errors_details() {
    scenario(async |world| {
        world.start_backend().await;
        world.wharfd.start().await;
        let archive = world.directory().join("busybox.tar");
        fs::write(&archive, image::busybox()).unwrap();

        python(world, "lifecycle.py", archive).await;
    });
}

/// `grpcurl`, with nothing to know the API from but the server's reflection.
struct Grpcurl<'a>(&'a World);

impl Grpcurl<'_> {
    /// Its standard output and standard error.
    async fn run(&self, arguments: &[&str], input: &str) -> (bool, String, String) {
        let file = self.0.directory().join("grpcurl-input");
        fs::write(&file, input).unwrap();
        let mut command = Command::new(tool("grpcurl", "bin"));
        command
            .args(["-plaintext", "-unix"])
            .args(arguments)
            .stdin(Stdio::from(fs::File::open(&file).unwrap()));
        let output = process::run_with_input(command, Duration::from_secs(60)).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    /// One call; the only message that came back.
    async fn call(&self, method: &str, request: Value) -> Value {
        let mut answers = self.stream(method, &[request]).await;
        assert_eq!(answers.len(), 1, "{method}: {answers:?}");
        answers.remove(0)
    }

    /// One call with all these messages, and then no more; every message that came back.
    async fn stream(&self, method: &str, requests: &[Value]) -> Vec<Value> {
        let socket = self.0.wharfd.socket();
        let arguments = ["-d", "@", socket.to_str().unwrap(), method];
        let lines: Vec<_> = requests.iter().map(Value::to_string).collect();
        let (ok, answer, problem) = self.run(&arguments, &lines.join("\n")).await;
        assert!(ok, "{method}: {problem}");
        let answers = serde_json::Deserializer::from_str(&answer).into_iter();
        let answers: Result<_, _> = answers.collect();
        answers.unwrap_or_else(|error| panic!("{method}: {error}: {answer}"))
    }

    /// A call that is refused; what grpcurl says of it.
    async fn refused(&self, method: &str, request: Value) -> String {
        let socket = self.0.wharfd.socket();
        let arguments = ["-d", "@", socket.to_str().unwrap(), method];
        let (ok, answer, problem) = self.run(&arguments, &request.to_string()).await;
        assert!(!ok, "{method}: {answer}");
        problem
    }

    async fn import(&self) -> Value {
        let messages = import_messages(ImportImageStart::default(), &image::busybox());
        let messages: Vec<_> = messages
            .into_iter()
            .map(|message| to_json(message.request))
            .collect();
        let method = "wharf.v1.ImageService/ImportImage";
        self.stream(method, &messages).await.remove(0)
    }
}

/// A message of an import in proto's JSON.
fn to_json(request: Option<Request>) -> Value {
    match request.unwrap() {
        Request::Start(_) => json!({"start": {}}),
        Request::Data(data) => json!({"data": STANDARD.encode(&data)}),
        Request::End(end) => json!({"end": {"sizeBytes": end.size_bytes, "digest": end.digest}}),
    }
}

#[test]
fn grpcurl_leads_a_full_lifecycle_by_reflection_alone() {
    scenario(async |world| {
        world.start_backend().await;
        world.wharfd.start().await;
        let grpcurl = Grpcurl(world);
        let socket = world.wharfd.socket();
        let (ok, services, _) = grpcurl.run(&[socket.to_str().unwrap(), "list"], "").await;
        assert!(
            ok && services.contains("wharf.v1.ContainerService"),
            "{services}"
        );
        assert!(services.contains("grpc.health.v1.Health"), "{services}");

        let imported = grpcurl.import().await;
        assert_eq!(imported["images"][0]["references"][0], image::REFERENCE);
        let spec = json!({
            "image": image::REFERENCE,
            "process": {"args": ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 1; done"]},
            "network": {"none": {}},
        });
        let create = json!({"name": "curly", "spec": spec});
        let created = grpcurl
            .call("wharf.v1.ContainerService/CreateContainer", create)
            .await;
        assert_eq!(created["container"]["state"], "STATE_CREATED");
        let curly = json!({"container": "curly"});
        let started = grpcurl
            .call("wharf.v1.ContainerService/StartContainer", curly.clone())
            .await;
        assert_eq!(started["changed"], true);

        let refused = grpcurl
            .refused("wharf.v1.ContainerService/DeleteContainer", curly.clone())
            .await;
        for told in [
            "FailedPrecondition",
            "CONTAINER_RUNNING",
            "google.rpc.PreconditionFailure",
        ] {
            assert!(refused.contains(told), "no {told} in {refused}");
        }
        let stopped = grpcurl
            .call("wharf.v1.ContainerService/StopContainer", curly.clone())
            .await;
        assert_eq!(stopped["exitStatus"]["code"], 3);
        let deleted = grpcurl
            .call("wharf.v1.ContainerService/DeleteContainer", curly.clone())
            .await;
        assert_eq!(deleted["changed"], true);
        let refused = grpcurl
            .refused("wharf.v1.ContainerService/GetContainer", curly)
            .await;
        assert!(refused.contains("CONTAINER_NOT_FOUND"), "{refused}");
        // grpcurl shows a detail that it cannot decode as bytes, and says so.
        assert!(!refused.contains("not recognized"), "{refused}");
    });
}
