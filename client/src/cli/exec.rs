//! `wharf exec`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use wharf_client::v1::{
    AttachOptions, CreateExecRequest, ExecSpec, ProcessSpec, RunExecStart, StartExecRequest,
};

use super::attached::{self, Proxy, Screen, Stdin, Wiring, conduct};
use super::container_flags::environment;
use super::failure::Failure;
use super::session::{Session, idempotency_key};
use super::values;
use super::wiring_flags::LeaveFlags;

/// Run a further process in a container
///
/// Its exit code is that of the command. --timeout ends the process, not only the command.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Run in the background and print the exec's id
    #[arg(short, long, conflicts_with_all = ["interactive", "on_disconnect"])]
    detach: bool,
    /// Send standard input
    #[arg(short, long)]
    interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    tty: bool,
    /// Environment variable; without a value, the present one
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// User: NAME, NAME:GROUP, UID or UID:GID
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// All capabilities
    #[arg(long)]
    privileged: bool,
    #[command(flatten)]
    leave: LeaveFlags,
    /// Name or id, then the command and its arguments
    // One list, so that everything after the container belongs to the command, flags too.
    #[arg(
        required = true,
        num_args = 2..,
        trailing_var_arg = true,
        value_name = "CONTAINER COMMAND"
    )]
    container_and_command: Vec<String>,
}

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Plan {
    Background(Box<CreateExecRequest>),
    Attached(Box<RunExecStart>, Wiring),
}

impl Exec {
    /// `time_limit` is that of the process.
    pub(crate) fn plan(self, time_limit: Option<Duration>) -> Plan {
        let spec = self.spec(time_limit);
        let container = self.container_and_command.first().cloned();
        let container = container.unwrap_or_default();
        if self.detach {
            return Plan::Background(Box::new(CreateExecRequest {
                container,
                spec: Some(spec),
                labels: BTreeMap::new(),
                idempotency_key: idempotency_key(),
            }));
        }
        let start = RunExecStart {
            container,
            spec: Some(spec),
            attach: Some(AttachOptions {
                stdin: self.interactive,
                on_disconnect: self.leave.on_disconnect().into(),
                ..Default::default()
            }),
            idempotency_key: idempotency_key(),
            ..Default::default()
        };
        Plan::Attached(Box::new(start), self.wiring())
    }

    fn spec(&self, time_limit: Option<Duration>) -> ExecSpec {
        let process = ProcessSpec {
            args: self
                .container_and_command
                .get(1..)
                .unwrap_or_default()
                .to_vec(),
            env: environment(&self.env),
            working_dir: self.workdir.clone().unwrap_or_default(),
            user: self.user.clone().unwrap_or_default(),
            terminal: self.tty.then(attached::size_or_default),
            ..Default::default()
        };
        ExecSpec {
            process: Some(process),
            stdin_open: self.interactive,
            timeout: time_limit.map(values::proto_duration),
            privileged: self.privileged,
        }
    }

    fn wiring(self) -> Wiring {
        Wiring {
            stdin: match self.interactive {
                true => Stdin::Forward,
                false => Stdin::Leave,
            },
            screen: match self.tty {
                true => Screen::Terminal,
                false => Screen::Pipes,
            },
            signals: Proxy::Forward,
            detach_keys: self.leave.detach_keys,
        }
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        // A deadline would leave its end to the connection's; the process's own limit says how it was.
        let client = session.connect_unlimited().await?;
        match self.plan(session.time_limit()) {
            Plan::Background(request) => {
                let exec = client.call(*request).await?.exec.unwrap_or_default();
                let start = StartExecRequest {
                    exec_id: exec.id.clone(),
                };
                client.call(start).await?;
                session.output.line(exec.id)
            }
            Plan::Attached(start, wiring) => {
                let run = client.run_exec(*start);
                let parting = conduct(run, wiring, &mut (), &mut session.output).await?;
                session.exit_code = parting.exit_code();
                Ok(())
            }
        }
    }
}
