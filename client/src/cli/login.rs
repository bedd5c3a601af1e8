//! `wharf login` and `wharf logout`.

use std::io::{self, Read as _};

use clap::Args;
use tokio::task::spawn_blocking;
use wharf_client::credentials::{DOCKER_IO, DockerConfig, Erased, Keeper};
use wharf_client::v1::registry_auth::Credentials;
use wharf_client::v1::{BasicAuth, RegistryAuth};

use super::attached::{Echoless, Proxy, Signals, is_stdin};
use super::failure::Failure;
use super::output::Output;
use super::session::Session;

/// Keep credentials of a registry for later pulls and pushes
///
/// They are kept where docker keeps them: in config.json of $DOCKER_CONFIG or ~/.docker, or with the credential
/// helper named there. The registry is not asked whether they are right; the first pull or push is.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// User; asked for by default
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// Read the password, or an access token, from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Registry, such as registry.example.com:5000
    #[arg(default_value = DOCKER_IO)]
    registry: String,
}

impl Login {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let config = DockerConfig::from_env()?;
        let output = &mut session.output;
        let basic = match (self.username, self.password_stdin) {
            (Some(username), true) => BasicAuth {
                username,
                password: password_of_stdin().await?,
            },
            (username, _) => asked_for(username, output).await?,
        };
        check(&basic)?;
        let auth = RegistryAuth {
            credentials: Some(Credentials::Basic(basic)),
        };
        let keeper = config.store(&self.registry, &auth).await?;
        match keeper {
            Keeper::File => {
                output.warning(&format!(
                    "the password is in {}, in the clear; a credential helper would keep it safe",
                    config.path().display()
                ));
                output.line(format_args!("Credentials of {} stored", self.registry))
            }
            Keeper::Helper(program) => output.line(format_args!(
                "Credentials of {} stored by {program}",
                self.registry
            )),
        }
    }
}

/// Forget the credentials of a registry
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// Registry, such as registry.example.com:5000
    #[arg(default_value = DOCKER_IO)]
    registry: String,
}

impl Logout {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let told = match DockerConfig::from_env()?.erase(&self.registry).await? {
            Erased::Credentials => format!("Credentials of {} removed", self.registry),
            Erased::Nothing => format!("Not logged in to {}", self.registry),
        };
        session.output.line(told)
    }
}

fn check(basic: &BasicAuth) -> Result<(), Failure> {
    match basic {
        it if it.username.is_empty() => Err(Failure::Usage("a user is needed".to_owned())),
        it if it.username.contains(':') => Err(Failure::Usage(
            "a user's name has no colon: it ends there for registries".to_owned(),
        )),
        it if it.password.is_empty() => Err(Failure::Usage("a password is needed".to_owned())),
        _ => Ok(()),
    }
}

/// All of it but the end of its line.
async fn password_of_stdin() -> Result<String, Failure> {
    let read = || {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text)?;
        Ok(text)
    };
    let text = joined(spawn_blocking(read).await).map_err(Failure::Stdin)?;
    Ok(without_line_end(&text).to_owned())
}

/// From who sits at the terminal. Whoever breaks off there gets it back as it was.
async fn asked_for(username: Option<String>, output: &mut Output) -> Result<BasicAuth, Failure> {
    if !is_stdin() {
        return Err(Failure::Usage(
            "nobody can be asked without a terminal; see --username and --password-stdin"
                .to_owned(),
        ));
    }
    let mut signals = Signals::new(Proxy::Leave).map_err(Failure::Runtime)?;
    let asking = async {
        let username = match username {
            Some(username) => username,
            None => {
                output.question("Username:")?;
                line().await?
            }
        };
        // Before it is asked for: who types fast is not seen either.
        let _hidden = Echoless::enter().map_err(Failure::Terminal)?;
        output.question("Password:")?;
        let password = line().await?;
        Ok(BasicAuth { username, password })
    };
    tokio::select! {
        answered = asking => answered,
        number = signals.next() => Err(Failure::Signaled(number)),
    }
}

async fn line() -> Result<String, Failure> {
    let read = || {
        let mut text = String::new();
        io::stdin().read_line(&mut text)?;
        Ok(text)
    };
    let text = joined(spawn_blocking(read).await).map_err(Failure::Stdin)?;
    Ok(without_line_end(&text).to_owned())
}

fn joined(result: Result<io::Result<String>, tokio::task::JoinError>) -> io::Result<String> {
    result.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}
