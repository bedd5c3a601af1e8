//! What registries hold: images copied in by skopeo, and what skopeo would never make.

use std::fs;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::http::{Body, send, whole};
use super::{PASSWORD, Registry, USER};
use crate::harness::image::{self, Recipe};
use crate::harness::process;

const COPY: Duration = Duration::from_secs(240);

/// What skopeo makes of an image on its way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OCI's media types, with layers by gzip.
    Gzip,
    /// OCI's media types, with layers by zstd.
    Zstd,
    /// Docker's media types, with layers by gzip.
    Docker,
}

/// A manifest or an index, as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub digest: String,
    pub size: i64,
    pub content: Value,
}

impl Manifest {
    fn of(content: &[u8]) -> Self {
        Self {
            digest: image::digest(&Sha256::digest(content)),
            size: i64::try_from(content.len()).unwrap(),
            content: serde_json::from_slice(content).unwrap(),
        }
    }

    pub fn media_type(&self) -> &str {
        // OCI documents need not say what they are.
        let said = self.content["mediaType"].as_str();
        said.unwrap_or("application/vnd.oci.image.manifest.v1+json")
    }

    /// The digest of its config, which is the image's id.
    pub fn config(&self) -> &str {
        self.content["config"]["digest"].as_str().unwrap()
    }

    /// Digest and size of each layer, lowest first.
    pub fn layers(&self) -> Vec<(String, u64)> {
        descriptors(&self.content["layers"])
    }

    /// Digest and size of each manifest of an index.
    pub fn manifests(&self) -> Vec<(String, u64)> {
        descriptors(&self.content["manifests"])
    }

    /// Digest and size of every blob that it names.
    pub fn blobs(&self) -> Vec<(String, u64)> {
        let config = descriptors(&json!([self.content["config"]]));
        config.into_iter().chain(self.layers()).collect()
    }
}

fn descriptors(all: &Value) -> Vec<(String, u64)> {
    let all = all.as_array().unwrap().iter();
    all.map(|one| {
        let digest = one["digest"].as_str().unwrap().to_owned();
        (digest, one["size"].as_u64().unwrap())
    })
    .collect()
}

impl Registry {
    /// An image under a name: `app:1`.
    pub async fn push(&self, recipe: &Recipe, name: &str) -> Manifest {
        self.push_as(recipe, name, Form::Gzip).await
    }

    pub async fn push_as(&self, recipe: &Recipe, name: &str, form: Form) -> Manifest {
        let archive = recipe.oci_layout();
        let arguments: &[&str] = match form {
            Form::Gzip => &["--format", "oci", "--dest-compress-format", "gzip"],
            Form::Zstd => &["--format", "oci", "--dest-compress-format", "zstd"],
            Form::Docker => &["--format", "v2s2"],
        };
        self.push_archive(&archive, name, arguments).await
    }

    /// One image for each platform.
    pub async fn push_index(&self, recipes: &[Recipe], name: &str) -> Manifest {
        let archive = image::oci_index(recipes);
        self.push_archive(&archive, name, &["--all"]).await
    }

    /// What is in an OCI archive.
    pub async fn push_archive(&self, archive: &Bytes, name: &str, arguments: &[&str]) -> Manifest {
        let file = tempfile::NamedTempFile::new_in(self.directory()).unwrap();
        fs::write(file.path(), archive).unwrap();
        let mut command = self.skopeo("copy", "--dest-");
        command
            .args(arguments)
            .arg(format!("oci-archive:{}", file.path().display()))
            .arg(format!("docker://{}", self.reference(name)));
        skopeo(command).await;
        self.manifest(name).await
    }

    /// The manifest or index of a name, by tag or digest.
    pub async fn manifest(&self, name: &str) -> Manifest {
        let mut command = self.skopeo("inspect", "--");
        command
            .args(["--raw", "--no-tags"])
            .arg(format!("docker://{}", self.reference(name)));
        Manifest::of(&skopeo(command).await)
    }

    fn skopeo(&self, what: &str, prefix: &str) -> Command {
        let mut command = Command::new("skopeo");
        command.arg("--insecure-policy").arg(what);
        match &self.certificates {
            Some(certificates) => command
                .arg(format!("{prefix}cert-dir"))
                .arg(certificates.of_client()),
            None => command.arg(format!("{prefix}tls-verify=false")),
        };
        if self.access.wants_credentials() {
            command
                .arg(format!("{prefix}creds"))
                .arg(format!("{USER}:{PASSWORD}"));
        }
        command
    }

    /// Any content, as a descriptor of `media_type`; of an open registry.
    pub async fn put_blob(&self, repository: &str, media_type: &str, content: &[u8]) -> Value {
        let digest = image::digest(&Sha256::digest(content));
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let begun = self.send(Method::POST, &uploads, media_type, &[]).await;
        let place = begun.headers()[LOCATION].to_str().unwrap();
        let place = place.split_once(self.address()).unwrap().1;
        let place = format!("{place}&digest={digest}");
        let octets = "application/octet-stream";
        self.send(Method::PUT, &place, octets, content).await;
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Any manifest under a name; of an open registry.
    pub async fn put_manifest(&self, name: &str, content: &Value) -> Manifest {
        let (repository, tag) = name.split_once(':').unwrap();
        let path = format!("/v2/{repository}/manifests/{tag}");
        let media_type = content["mediaType"].as_str().unwrap();
        let text = content.to_string();
        self.send(Method::PUT, &path, media_type, text.as_bytes())
            .await;
        Manifest::of(text.as_bytes())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        content: &[u8],
    ) -> Response<Body> {
        let what = format!("{method} {path}");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, self.address())
            .header(CONTENT_TYPE, media_type)
            .body(whole(content.to_vec()))
            .unwrap();
        let response = send(self.address(), request).await.unwrap();
        if !response.status().is_success() {
            let status = response.status();
            let said = response.into_body().collect().await.unwrap().to_bytes();
            panic!("{what}: {status} {}", String::from_utf8_lossy(&said));
        }
        response
    }
}

async fn skopeo(command: Command) -> Vec<u8> {
    let what = format!("{command:?}");
    let output = process::run(command, COPY).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}");
    output.stdout
}
