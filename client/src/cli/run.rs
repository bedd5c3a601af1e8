//! `wharf run`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::time::timeout;
use wharf_client::v1::pull_image_response::Response;
use wharf_client::v1::wait_container_request::Condition;
use wharf_client::v1::{
    AttachOptions, CreateContainerRequest, OutputStream, PullImageResponse, RunContainerStart,
    WaitContainerRequest,
};
use wharf_client::{Client, Output as Happening};

use super::attached::{Listener, Parting, Screen, Stdin, Wiring, conduct};
use super::container_flags::{ContainerFlags, Then};
use super::create::{create, image_of};
use super::failure::Failure;
use super::output::Output;
use super::progress::{Direction, Progress, ProgressFlags};
use super::registry_auth::add_registry_auth;
use super::session::Session;
use super::wiring_flags::{LeaveFlags, ProxyFlags};

/// A deletion that takes longer is not waited for.
const LONGEST_DELETION: Duration = Duration::from_secs(10);

/// Create a container and run it, attached to its process
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "wharf run [OPTIONS] IMAGE [COMMAND]..."
)]
pub(crate) struct Run {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Attach to these only: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM", conflicts_with = "detach")]
    attach: Vec<Stream>,
    /// Write the container's id to a file that is not there yet
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    #[command(flatten)]
    progress: ProgressFlags,
    #[command(flatten)]
    proxy: ProxyFlags,
    #[command(flatten)]
    leave: LeaveFlags,
    #[command(flatten)]
    flags: ContainerFlags,
}

/// What can be attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Plan {
    Background(Box<CreateContainerRequest>),
    Attached(Box<RunContainerStart>, Wiring),
}

impl Run {
    pub(crate) fn plan(self) -> Result<Plan, Failure> {
        if self.detach {
            let request = self.flags.request(Then::Start)?;
            return Ok(Plan::Background(Box::new(request)));
        }
        let attach = self.attach_options();
        let wiring = Wiring {
            stdin: match attach.stdin {
                true => Stdin::Forward,
                false => Stdin::Leave,
            },
            screen: match self.flags.has_terminal() {
                true => Screen::Terminal,
                false => Screen::Pipes,
            },
            signals: self.proxy.proxy(),
            detach_keys: self.leave.detach_keys,
        };
        let create = self.flags.request(Then::Start)?;
        let start = RunContainerStart {
            name: create.name,
            spec: create.spec,
            labels: create.labels,
            pull: create.pull,
            attach: Some(attach),
            idempotency_key: create.idempotency_key,
        };
        Ok(Plan::Attached(Box::new(start), wiring))
    }

    fn attach_options(&self) -> AttachOptions {
        let output = |stream: &Stream| match stream {
            Stream::Stdin => None,
            Stream::Stdout => Some(OutputStream::Stdout.into()),
            Stream::Stderr => Some(OutputStream::Stderr.into()),
        };
        let wants_stdin = self.attach.is_empty() || self.attach.contains(&Stream::Stdin);
        AttachOptions {
            stdin: self.flags.is_interactive() && wants_stdin,
            streams: self.attach.iter().filter_map(output).collect(),
            on_disconnect: self.leave.on_disconnect().into(),
            ..Default::default()
        }
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let mut birth = Birth {
            cidfile: self.cidfile.clone(),
            progress: self
                .progress
                .progress(Direction::Pull, OutputStream::Stderr)?,
            id: String::new(),
        };
        birth.check()?;
        match self.plan()? {
            Plan::Background(request) => {
                let progress = std::mem::replace(&mut birth.progress, Progress::Silent);
                birth.note(&create(*request, progress, session).await?)
            }
            Plan::Attached(mut start, wiring) => {
                let removes = start.spec.as_ref().is_some_and(|spec| spec.auto_delete);
                let client = session.connect().await?;
                if let Some(pull) = &mut start.pull {
                    let image = image_of(start.spec.as_ref());
                    add_registry_auth(pull, image, &client, &mut session.output).await;
                }
                let run = client.run_container(*start);
                let parting = conduct(run, wiring, &mut birth, &mut session.output).await?;
                session.exit_code = parting.exit_code();
                match parting {
                    Parting::Ended(_) if removes => until_gone(&client, birth.id, session).await,
                    Parting::Ended(_) | Parting::Detached => {}
                }
                Ok(())
            }
        }
    }
}

/// Whoever has a container deleted after its run finds it gone when the command has ended. The exit code
/// is known by then, so nothing that goes wrong here counts for more than a warning.
async fn until_gone(client: &Client, container: String, session: &mut Session) {
    let deleted = WaitContainerRequest {
        container,
        conditions: vec![Condition::Deleted.into()],
        ..Default::default()
    };
    if !matches!(
        timeout(LONGEST_DELETION, client.wait(deleted)).await,
        Ok(Ok(_))
    ) {
        let warning = "the container is still being deleted";
        session.output.warning(warning);
    }
}

/// What is told and noted while a container comes into being.
struct Birth {
    cidfile: Option<PathBuf>,
    progress: Progress,
    /// The container's, once there is one.
    id: String,
}

impl Birth {
    /// Another container's id must stay where it is.
    fn check(&self) -> Result<(), Failure> {
        match &self.cidfile {
            Some(path) if path.exists() => Err(Failure::Usage(format!(
                "{} is there already, perhaps with another container's id",
                path.display()
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn note(&self, id: &str) -> Result<(), Failure> {
        let write = |path: &Path| {
            fs::write(path, id).map_err(|source| Failure::Write {
                path: path.to_owned(),
                source,
            })
        };
        self.cidfile.as_deref().map_or(Ok(()), write)
    }
}

impl Listener for Birth {
    fn hear(&mut self, happening: &Happening, output: &mut Output) -> Result<(), Failure> {
        match happening {
            Happening::Progress(at) => {
                let message = PullImageResponse {
                    response: Some(Response::Progress(at.clone())),
                };
                self.progress.message(&message, output)?;
                self.progress.show(at, output)?;
            }
            Happening::Created(created) => {
                self.progress = Progress::Silent;
                for warning in &created.warnings {
                    output.warning(&warning.message);
                }
                let container = created.container.as_ref();
                self.id = container.map_or_else(String::new, |container| container.id.clone());
                return self.note(&self.id);
            }
            _ => {}
        }
        Ok(())
    }
}
