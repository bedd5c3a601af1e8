//! Images and registries: what is asked for, what is told of it where, whose credentials go along.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use wharf_client::v1::layer_progress::Phase;
use wharf_client::v1::registry_auth::Credentials;
use wharf_client::v1::*;

use crate::replies::*;
use crate::testing::{Server, Step, ok, send};
use crate::wharf::{Ran, Wharf, command, run};

const IMAGE: &str = "registry.example.com/app:1";

fn pulling(response: pull_image_response::Response) -> Step {
    send(&PullImageResponse {
        response: Some(response),
    })
}

fn at(phase: Phase) -> TransferProgress {
    TransferProgress {
        done_bytes: 1,
        total_bytes: 2_000_000,
        layers: vec![LayerProgress {
            digest: "sha256:0123456789abcdef".into(),
            phase: phase.into(),
            done_bytes: 1,
            total_bytes: 2_000_000,
        }],
    }
}

fn pulled() -> Vec<Step> {
    use pull_image_response::Response;
    let target = Descriptor {
        digest: "sha256:77".into(),
        ..Default::default()
    };
    vec![
        pulling(Response::Resolved(target.clone())),
        pulling(Response::Progress(at(Phase::Transferring))),
        pulling(Response::Progress(at(Phase::Done))),
        pulling(Response::Result(PullResult {
            image: Some(Image {
                target: Some(target),
                ..Default::default()
            }),
            changed: true,
        })),
        ok(),
    ]
}

fn refused(reason: &str) -> Vec<Step> {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "wharf", []);
    let status = Status::with_error_details(Code::NotFound, "it is not here", details);
    vec![Step::End(status)]
}

fn created(id: &str) -> Vec<Step> {
    answer(&CreateContainerResponse {
        container: Some(Container {
            id: id.into(),
            ..Default::default()
        }),
        ..Default::default()
    })
}

fn me() -> Option<Credentials> {
    Some(Credentials::Basic(BasicAuth {
        username: "me".into(),
        password: "secret".into(),
    }))
}

/// A home with a configuration that knows the image's registry.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        // printf me:secret | base64
        let config = r#"{"auths": {"registry.example.com": {"auth": "bWU6c2VjcmV0"}}}"#;
        fs::write(home.config(), config).unwrap();
        home
    }

    fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("config.json")
    }

    async fn run(&self, server: &Server, args: &[&str]) -> Ran {
        let mut command = command(server, args);
        command.env("DOCKER_CONFIG", self.0.path());
        Wharf::start(&mut command).output().await
    }

    /// With this on standard input.
    async fn told(&self, server: &Server, args: &[&str], input: &str) -> Ran {
        let mut command = command(server, args);
        command.env("DOCKER_CONFIG", self.0.path());
        // Not by a pipe: who refuses its arguments reads nothing.
        let mut stdin = tempfile::tempfile().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        stdin.rewind().unwrap();
        Wharf::start(command.stdin(stdin)).output().await
    }
}

#[tokio::test]
async fn a_pull_tells_of_phases_aside_and_answers_with_the_digest() {
    let server = Server::start(vec![pulled()]);
    let ran = Home::new()
        .run(&server, &["pull", "--platform", "linux/arm64/v8", IMAGE])
        .await;
    assert_eq!(ran.out, format!("{IMAGE}@sha256:77\n"));
    assert_eq!(
        ran.err,
        "0123456789ab: downloading 2MB\n0123456789ab: done\n"
    );
    assert_eq!(ran.code, 0);
    let request = server.calls()[0].message::<PullImageRequest>();
    assert_eq!(request.image, IMAGE);
    let platform = request.platform.unwrap();
    assert_eq!(
        (&platform.architecture[..], &platform.variant[..]),
        ("arm64", "v8")
    );
    assert_eq!(request.auth.unwrap().credentials, me());
}

#[tokio::test]
async fn a_quiet_pull_says_only_the_digest_and_as_json_says_every_message() {
    let server = Server::start(vec![pulled(), pulled()]);
    let ran = run(&server, &["pull", "-q", "alpine"]).await;
    assert_eq!((&ran.out[..], &ran.err[..]), ("alpine@sha256:77\n", ""));
    assert_eq!(server.calls()[0].message::<PullImageRequest>().auth, None);
    let ran = run(&server, &["pull", "--progress", "json", "alpine"]).await;
    let lines: Vec<serde_json::Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4, "{}", ran.out);
    assert_eq!(lines[0]["resolved"]["digest"], "sha256:77");
    let layer = &lines[1]["progress"]["layers"][0];
    assert_eq!(layer["phase"], "PHASE_TRANSFERRING");
    assert_eq!(lines[3]["result"]["changed"], true);
    assert_eq!(ran.err, "");
}

#[tokio::test]
async fn bars_without_a_terminal_are_bad_usage() {
    let server = Server::start(vec![]);
    let ran = run(&server, &["pull", "--progress", "tty", "alpine"]).await;
    assert_eq!((ran.code, server.calls().len()), (125, 0));
}

#[tokio::test]
async fn a_push_takes_the_credentials_of_where_it_goes() {
    use push_image_response::Response;
    let message = |response| {
        send(&PushImageResponse {
            response: Some(response),
        })
    };
    let result = Descriptor {
        digest: "sha256:88".into(),
        ..Default::default()
    };
    let server = Server::start(vec![vec![
        message(Response::Progress(at(Phase::Transferring))),
        message(Response::Progress(at(Phase::Exists))),
        message(Response::Result(result)),
        ok(),
    ]]);
    let ran = Home::new().run(&server, &["push", "alpine", IMAGE]).await;
    assert_eq!((ran.code, &ran.out[..]), (0, "sha256:88\n"));
    assert_eq!(
        ran.err,
        "0123456789ab: uploading 2MB\n0123456789ab: already there\n"
    );
    let request = server.calls()[0].message::<PushImageRequest>();
    assert_eq!(
        (&request.image[..], &request.destination[..]),
        ("alpine", IMAGE)
    );
    assert_eq!(request.auth.unwrap().credentials, me());
}

#[tokio::test]
async fn a_container_whose_image_is_missing_is_created_once_it_is_pulled() {
    let server = Server::start(vec![refused("IMAGE_NOT_FOUND"), pulled(), created("c1")]);
    let ran = Home::new()
        .run(&server, &["create", "--platform", "linux/arm64", IMAGE])
        .await;
    assert_eq!((ran.code, &ran.out[..]), (0, "c1\n"), "{}", ran.err);
    assert!(ran.err.contains("0123456789ab: done"), "{}", ran.err);
    let calls = server.calls();
    let pull = calls[1].message::<PullImageRequest>();
    assert_eq!(pull.auth.unwrap().credentials, me());
    assert_eq!(pull.platform.unwrap().architecture, "arm64");
    let create = calls[2].message::<CreateContainerRequest>();
    assert_eq!(create, calls[0].message());
    assert_eq!(create.pull.unwrap().policy(), PullPolicy::Never);
}

#[tokio::test]
async fn an_image_is_pulled_at_first_always_or_never_as_asked() {
    let paths = |server: &Server| -> Vec<String> {
        let calls = server.calls().into_iter();
        calls
            .map(|call| call.path.rsplit('/').next().unwrap().to_owned())
            .collect()
    };
    let server = Server::start(vec![created("c1")]);
    let ran = run(&server, &["run", "-d", IMAGE]).await;
    assert_eq!(
        (ran.code, paths(&server)),
        (0, vec!["CreateContainer".into()])
    );
    let server = Server::start(vec![pulled(), created("c1")]);
    let ran = run(&server, &["run", "-dq", "--pull", "always", IMAGE]).await;
    assert_eq!((ran.code, &ran.err[..]), (0, ""));
    assert_eq!(paths(&server), ["PullImage", "CreateContainer"]);
    let server = Server::start(vec![refused("IMAGE_NOT_FOUND")]);
    let ran = run(&server, &["run", "-d", "--pull=never", IMAGE]).await;
    assert_eq!(
        (ran.code, paths(&server)),
        (125, vec!["CreateContainer".into()])
    );
}

fn run_progress() -> Step {
    send(&RunContainerResponse {
        response: Some(run_container_response::Response::Progress(at(
            Phase::Extracting,
        ))),
    })
}

fn run_created() -> Step {
    let created = ContainerCreated::default();
    send(&RunContainerResponse {
        response: Some(run_container_response::Response::Created(Box::new(created))),
    })
}

#[tokio::test]
async fn an_attached_run_pulls_what_is_missing_and_keeps_its_output_clean() {
    let script = || {
        let mut script = vec![run_progress(), run_created()];
        script.extend(session(false, vec![stdout(0, "out")], 3));
        script
    };
    let server = Server::start(vec![script(), script()]);
    let home = Home::new();
    let ran = home.run(&server, &["run", IMAGE]).await;
    assert_eq!((ran.code, &ran.out[..]), (3, "out"));
    assert_eq!(ran.err, "0123456789ab: extracting\n");
    let pull = run_container(&server.calls()[0]).pull.unwrap();
    assert_eq!(pull.policy(), PullPolicy::IfMissing);
    assert_eq!(pull.auth.unwrap().credentials, me());
    let ran = home.run(&server, &["run", "--progress=json", IMAGE]).await;
    assert_eq!(ran.out, "out");
    let told: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(told["progress"]["doneBytes"], "1");
}

#[tokio::test]
async fn a_helper_is_left_alone_while_the_image_is_here() {
    let home = Home::empty();
    // Nothing of that name is there, so whoever looks for it says so.
    fs::write(home.config(), r#"{"credsStore": "not-there"}"#).unwrap();
    let here = answer(&GetImageResponse::default());
    let server = Server::start(vec![
        here,
        session(false, vec![], 0),
        refused("IMAGE_NOT_FOUND"),
        session(false, vec![], 0),
    ]);
    let ran = home.run(&server, &["run", IMAGE]).await;
    assert_eq!((ran.code, &ran.err[..]), (0, ""));
    let ran = home.run(&server, &["run", IMAGE]).await;
    assert_eq!(ran.code, 0);
    assert!(
        ran.err.starts_with(
            "wharf: warning: going on without credentials of registry.example.com: \
             cannot run docker-credential-not-there"
        ),
        "{}",
        ran.err
    );
    assert_eq!(run_container(&server.calls()[3]).pull.unwrap().auth, None);
}

fn exported(last: Vec<Step>) -> Vec<Step> {
    use export_image_response::Response;
    let data = ExportImageResponse {
        response: Some(Response::Data("archive".into())),
    };
    let mut script = vec![send(&data)];
    script.extend(last);
    script
}

fn whole() -> Vec<Step> {
    // printf archive | sha256sum
    let digest = "sha256:0eb3e36bfb24dcd9bb1d1bece1531216b59539a8fde17ee80224af0653c92aa3";
    exported(vec![
        send(&ExportImageResponse {
            response: Some(export_image_response::Response::End(TransferEnd {
                size_bytes: 7,
                digest: digest.into(),
            })),
        }),
        ok(),
    ])
}

#[tokio::test]
async fn a_saved_archive_is_there_once_it_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("images.tar");
    let path = file.to_str().unwrap();
    let server = Server::start(vec![exported(vec![ok()]), whole(), whole(), whole()]);
    let ran = run(&server, &["save", "-o", path, "a", "b"]).await;
    assert_eq!(ran.code, 1);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    let ran = run(&server, &["save", "-o", path, "a", "b"]).await;
    assert_eq!((ran.code, &ran.out[..], &ran.err[..]), (0, "", ""));
    assert_eq!(fs::read(&file).unwrap(), b"archive");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    let ran = run(&server, &["save", "a", "b"]).await;
    assert_eq!((ran.code, &ran.out[..]), (0, "archive"));
    let ran = run(&server, &["save", "-o", "/dev/null", "a", "b"]).await;
    assert_eq!((ran.code, &ran.err[..]), (0, ""));
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    for call in server.calls() {
        assert_eq!(call.message::<ExportImageRequest>().images, ["a", "b"]);
    }
}

#[tokio::test]
async fn a_save_that_is_interrupted_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("images.tar");
    let server = Server::start(vec![exported(vec![Step::Hang])]);
    let args = ["save", "-o", file.to_str().unwrap(), "a"];
    let mut wharf = Wharf::start(&mut command(&server, &args));
    server.until(|calls| !calls.is_empty()).await;
    wharf.signal(rustix::process::Signal::TERM);
    assert_eq!(wharf.output().await.code, 128 + 15);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

#[tokio::test]
async fn an_archive_is_loaded_from_a_file_or_from_standard_input() {
    let loaded = || {
        answer(&ImportImageResponse {
            images: vec![Image {
                references: vec!["docker.io/library/a:1".into()],
                ..Default::default()
            }],
        })
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("images.tar");
    fs::write(&file, "archive").unwrap();
    let file = file.to_str().unwrap();
    let server = Server::start(vec![loaded(), loaded(), loaded(), loaded()]);
    let home = Home::empty();
    for (args, input) in [
        (&["load", "-i", file][..], ""),
        (&["import", file], ""),
        (&["load"], "archive"),
        (&["import", "-"], "archive"),
    ] {
        let ran = home.told(&server, args, input).await;
        assert_eq!((ran.code, &ran.out[..]), (0, "a:1\n"), "{args:?}");
    }
    for call in server.calls() {
        let parts = call.rest::<ImportImageRequest>();
        let data = import_image_request::Request::Data("archive".into());
        assert_eq!(parts[0].request, Some(data));
    }
}

#[tokio::test]
async fn pruning_images_counts_what_it_frees() {
    let pruned = |id: &str, references: &[&str]| {
        let references = references.iter().map(|it| (*it).to_owned());
        vec![
            send(&PruneImagesResponse {
                image_id: id.into(),
                references: references.collect(),
                reclaimed_bytes: 1_500_000,
            }),
            ok(),
        ]
    };
    let server = Server::start(vec![
        pruned("sha256:1", &[]),
        pruned("sha256:2", &["docker.io/library/a:1"]),
        pruned("sha256:3", &[]),
    ]);
    let ran = run(&server, &["prune", "--images", "--dry-run"]).await;
    assert_eq!(ran.out, "sha256:1\nTotal reclaimed space: 1.5MB\n");
    let ran = run(&server, &["prune", "--images", "-af"]).await;
    assert_eq!(
        ran.out,
        "sha256:2 a:1\nsha256:3\nTotal reclaimed space: 3MB\n"
    );
    let calls = server.calls();
    let requests = calls.iter().map(|call| {
        let request = call.message::<PruneImagesRequest>();
        (request.dry_run, request.filter.unwrap().dangling)
    });
    let requests: Vec<_> = requests.collect();
    assert_eq!(
        requests,
        [(true, None), (false, Some(false)), (false, Some(true))]
    );
    let ran = run(&server, &["prune", "--images"]).await;
    assert_eq!((ran.code, server.calls().len()), (1, 3));
}

#[tokio::test]
async fn the_use_of_the_disk_is_a_table_or_one_object() {
    let usage = || {
        answer(&GetDiskUsageResponse {
            images: Some(DiskUsage {
                count: 2,
                size_bytes: 1000,
                reclaimable_bytes: 500,
            }),
            ..Default::default()
        })
    };
    let server = Server::start(vec![usage(), usage()]);
    let ran = run(&server, &["df"]).await;
    assert!(
        ran.out
            .contains("\nImages       2       1kB    500B (50%)\n"),
        "{}",
        ran.out
    );
    let ran = run(&server, &["df", "--format", "json"]).await;
    let shown: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(shown["images"]["reclaimableBytes"], "500");
}

#[tokio::test]
async fn a_login_is_kept_for_later_pulls_until_the_logout() {
    let server = Server::start(vec![pulled(), pulled()]);
    let home = Home::empty();
    let login = [
        "login",
        "-u",
        "me",
        "--password-stdin",
        "registry.example.com",
    ];
    let ran = home.told(&server, &login, "secret\n").await;
    assert_eq!(ran.out, "Credentials of registry.example.com stored\n");
    assert!(ran.err.contains("in the clear") && !ran.err.contains("secret"));
    let mode = fs::metadata(home.config()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    home.run(&server, &["pull", "-q", IMAGE]).await;
    let logout = ["logout", "registry.example.com"];
    let ran = home.run(&server, &logout).await;
    assert_eq!(ran.out, "Credentials of registry.example.com removed\n");
    let ran = home.run(&server, &logout).await;
    assert_eq!(
        (ran.code, &ran.out[..]),
        (0, "Not logged in to registry.example.com\n")
    );
    home.run(&server, &["pull", "-q", IMAGE]).await;
    let auths = server.calls().into_iter().map(|call| {
        let auth = call.message::<PullImageRequest>().auth;
        auth.and_then(|auth| auth.credentials)
    });
    assert_eq!(auths.collect::<Vec<_>>(), [me(), None]);
}

#[tokio::test]
async fn a_login_that_lacks_something_keeps_nothing() {
    let server = Server::start(vec![]);
    let home = Home::empty();
    for (args, input) in [
        (&["login", "--password-stdin"][..], "secret"),
        (&["login", "-u", "me", "--password-stdin"], "\n"),
        (&["login", "-u", "me:too", "--password-stdin"], "secret"),
        (&["login", "-u", "me"], "secret"),
    ] {
        let ran = home.told(&server, args, input).await;
        assert_eq!(ran.code, 125, "{args:?}: {}", ran.err);
        assert!(!home.config().exists(), "{args:?}");
    }
}
