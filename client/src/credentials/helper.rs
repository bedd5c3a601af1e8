//! Credential helpers: programs that keep credentials, spoken to by docker's protocol.
//!
//! `docker-credential-NAME get|store|erase`: the registry's key on standard input (for `store` a
//! JSON object with the credentials), JSON on standard output. What they write to standard error is
//! for people and goes there.

use std::ffi::OsString;
use std::io;
use std::process::{Output, Stdio};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use wharf_api::v1::registry_auth::Credentials;
use wharf_api::v1::{BasicAuth, RegistryAuth};

use super::{CredentialsError, Erased};

/// In place of a user's name: the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// How all helpers say that there is nothing. The protocol has no other sign of it.
const NOT_FOUND: &[u8] = b"credentials not found";

/// One helper.
pub(super) struct Helper {
    program: String,
    search_path: Option<OsString>,
}

/// Not to be shown.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

impl Helper {
    pub(super) fn new(name: &str, search_path: Option<OsString>) -> Self {
        Self {
            program: format!("docker-credential-{name}"),
            search_path,
        }
    }

    pub(super) fn program(&self) -> &str {
        &self.program
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<RegistryAuth>, CredentialsError> {
        let Some(answer) = self.ask("get", key.as_bytes()).await? else {
            return Ok(None);
        };
        // What is wrong with the answer is not told: the answer would be in it.
        let kept: Kept =
            serde_json::from_slice(&answer).map_err(|_| CredentialsError::HelperAnswer {
                program: self.program.clone(),
            })?;
        let credentials = match kept.username.as_str() {
            TOKEN_USER => Credentials::IdentityToken(kept.secret),
            _ => Credentials::Basic(BasicAuth {
                username: kept.username,
                password: kept.secret,
            }),
        };
        Ok(Some(RegistryAuth {
            credentials: Some(credentials),
        }))
    }

    pub(super) async fn store(
        &self,
        key: &str,
        auth: &RegistryAuth,
    ) -> Result<(), CredentialsError> {
        let (username, secret) = match &auth.credentials {
            Some(Credentials::Basic(basic)) => (basic.username.clone(), basic.password.clone()),
            Some(Credentials::IdentityToken(token)) => (TOKEN_USER.to_owned(), token.clone()),
            Some(Credentials::RegistryToken(_)) | None => {
                return Err(CredentialsError::HelperCannotKeep {
                    program: self.program.clone(),
                });
            }
        };
        let kept = Kept {
            server_url: key.to_owned(),
            username,
            secret,
        };
        let kept = serde_json::to_vec(&kept).map_err(|source| self.cannot_run(source.into()))?;
        self.ask("store", &kept).await.map(drop)
    }

    pub(super) async fn erase(&self, key: &str) -> Result<Erased, CredentialsError> {
        Ok(match self.ask("erase", key.as_bytes()).await? {
            Some(_) => Erased::Credentials,
            None => Erased::Nothing,
        })
    }

    /// What it answers; `None` if it has nothing about what it is asked.
    async fn ask(
        &self,
        action: &'static str,
        input: &[u8],
    ) -> Result<Option<Vec<u8>>, CredentialsError> {
        let output = self.run(action, input).await;
        let output = output.map_err(|source| self.cannot_run(source))?;
        let said = output.stdout.trim_ascii();
        match output.status.success() {
            true => Ok(Some(output.stdout)),
            false if said.starts_with(NOT_FOUND) => Ok(None),
            false => Err(CredentialsError::HelperFailed {
                program: self.program.clone(),
                message: match said {
                    b"" => output.status.to_string(),
                    said => String::from_utf8_lossy(said).into_owned(),
                },
            }),
        }
    }

    async fn run(&self, action: &str, input: &[u8]) -> io::Result<Output> {
        let mut command = Command::new(&self.program);
        if let Some(path) = &self.search_path {
            command.env("PATH", path);
        }
        let mut child = command
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input).await {
                // It need not listen to the end; what it says counts.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                Err(_) | Ok(()) => {}
            }
        }
        child.wait_with_output().await
    }

    fn cannot_run(&self, source: io::Error) -> CredentialsError {
        CredentialsError::HelperStart {
            program: self.program.clone(),
            source,
        }
    }
}
