//! An authority that nobody else knows, and what it has signed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::process;

const KEY: &[&str] = &[
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];
pub const RSA: &[&str] = &["-newkey", "rsa:2048", "-nodes"];

/// Files in a directory. What a client needs is in one of its own, as containers' tools want it.
#[derive(Debug)]
pub struct Certificates(PathBuf);

impl Certificates {
    /// The authority, a server's certificate for 127.0.0.1, and a client's.
    pub async fn make(place: &Path) -> Self {
        let this = Self(place.to_owned());
        fs::create_dir(this.of_client()).unwrap();
        self_signed(place, "ca", KEY).await;
        fs::rename(place.join("ca.cert"), this.authority()).unwrap();
        this.sign("server", "subjectAltName=IP:127.0.0.1").await;
        this.sign("client", "extendedKeyUsage=clientAuth").await;
        for file in ["client.cert", "client.key"] {
            fs::rename(place.join(file), this.of_client().join(file)).unwrap();
        }
        this
    }

    /// Has `ca.crt`, `client.cert` and `client.key`.
    pub fn of_client(&self) -> PathBuf {
        self.0.join("client")
    }

    pub fn authority(&self) -> PathBuf {
        self.of_client().join("ca.crt")
    }

    /// The server's `cert` or `key`.
    pub fn server(&self, which: &str) -> PathBuf {
        self.0.join(format!("server.{which}"))
    }

    async fn sign(&self, name: &str, extension: &str) {
        let place = &self.0;
        let file = |end: &str| place.join(format!("{name}.{end}"));
        fs::write(
            file("ext"),
            format!("basicConstraints=CA:FALSE\n{extension}\n"),
        )
        .unwrap();
        let mut request = Command::new("openssl");
        request
            .arg("req")
            .args(KEY)
            .args(["-subj", &format!("/CN={name}")])
            .arg("-keyout")
            .arg(file("key"))
            .arg("-out")
            .arg(file("csr"));
        openssl(request).await;
        let mut signing = Command::new("openssl");
        signing
            .args(["x509", "-req", "-days", "2", "-CAcreateserial", "-in"])
            .arg(file("csr"))
            .arg("-CA")
            .arg(self.authority())
            .arg("-CAkey")
            .arg(place.join("ca.key"))
            .arg("-extfile")
            .arg(file("ext"))
            .arg("-out")
            .arg(file("cert"));
        openssl(signing).await;
    }
}

/// `NAME.cert` and `NAME.key`, by themselves.
pub async fn self_signed(place: &Path, name: &str, key: &[&str]) {
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-days", "2"])
        .args(key)
        .args(["-subj", &format!("/CN={name} of a test")])
        .arg("-keyout")
        .arg(place.join(format!("{name}.key")))
        .arg("-out")
        .arg(place.join(format!("{name}.cert")));
    openssl(command).await;
}

async fn openssl(command: Command) {
    let output = process::run(command, Duration::from_secs(60)).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl: {said}");
}
