//! Containers that a real runtime cannot start, each for its own reason.

use wharf_api::v1::{
    self, BindMount, ContainerSpec, Mount, NetworkSpec, Security, mount, network_spec, security,
};

use crate::harness::{Client, Refusal, spec};

/// What comes of a container that is created and started with one thing changed. Nothing remains of it.
async fn launch(client: &Client, change: impl FnOnce(&mut ContainerSpec)) -> Refusal {
    let mut spec = spec::running(&["true"]);
    change(&mut spec);
    let before = client.list().await.unwrap();
    let refusal = client.run_spec("launch", spec).await.unwrap_err();
    assert_eq!(client.list().await.unwrap(), before, "something remains");
    if let Some(container) = refusal.metadata.get("container") {
        assert_eq!(container, "launch");
    }
    refusal
}

fn process(spec: &mut ContainerSpec) -> &mut v1::ProcessSpec {
    spec.process.as_mut().unwrap()
}

async fn program(client: &Client, path: &str) -> Refusal {
    let refusal = launch(client, |spec| process(spec).args = vec![path.to_owned()]).await;
    assert_eq!(refusal.metadata["path"], path);
    refusal
}

pub async fn executable_not_found(client: &Client) -> Refusal {
    program(client, "/bin/nowhere").await;
    program(client, "nowhere-in-the-path").await
}

pub async fn executable_not_permitted(client: &Client) -> Refusal {
    program(client, "/bin/not-executable").await
}

pub async fn executable_format(client: &Client) -> Refusal {
    program(client, "/bin/other-platform").await
}

pub async fn user_not_found(client: &Client) -> Refusal {
    let refusal = launch(client, |spec| process(spec).user = "nobody-here".to_owned()).await;
    assert_eq!(refusal.metadata["user"], "nobody-here");
    refusal
}

pub async fn working_dir_invalid(client: &Client) -> Refusal {
    let file = "/bin/busybox";
    let refusal = launch(client, |spec| process(spec).working_dir = file.to_owned()).await;
    assert_eq!(refusal.metadata["path"], file);
    refusal
}

pub async fn mount_failed(client: &Client) -> Refusal {
    let refusal = launch(client, |spec| {
        spec.mounts.push(Mount {
            target: "/in".to_owned(),
            source: Some(mount::Source::Bind(BindMount {
                path: "/nowhere/at/all".to_owned(),
                ..Default::default()
            })),
            ..Default::default()
        });
    })
    .await;
    assert_eq!(refusal.metadata["source"], "/nowhere/at/all");
    assert_eq!(refusal.metadata["errno"], "ENOENT");
    refusal
}

pub async fn security_profile_invalid(client: &Client) -> Refusal {
    for profile in ["{}", r#"{"defaultAction": "SCMP_ACT_NONSENSE"}"#, "no JSON"] {
        let refusal = seccomp(client, profile).await;
        assert_eq!(refusal.metadata["kind"], "seccomp", "{profile}: {refusal}");
    }
    seccomp(client, "[]").await
}

async fn seccomp(client: &Client, profile: &str) -> Refusal {
    launch(client, |spec| {
        spec.security = Some(Security {
            seccomp_profile: Some(security::SeccompProfile::SeccompJson(profile.to_owned())),
            ..Default::default()
        });
    })
    .await
}

pub async fn runtime_not_found(client: &Client) -> Refusal {
    let refusal = launch(client, |spec| spec.runtime = "nowhere".to_owned()).await;
    assert_eq!(refusal.metadata["runtime"], "nowhere");
    refusal
}

/// A namespace to join that is none.
pub async fn runtime_start_failed(client: &Client) -> Refusal {
    launch(client, |spec| {
        spec.network = Some(NetworkSpec {
            mode: Some(network_spec::Mode::NamespacePath("/etc/passwd".to_owned())),
        });
    })
    .await
}
