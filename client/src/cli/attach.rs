//! `wharf attach`.

use clap::Args;
use wharf_client::v1::{
    AttachContainerStart, AttachOptions, Container, ContainerView, GetContainerRequest,
};

use super::attached::{Screen, Stdin, Wiring, conduct};
use super::failure::Failure;
use super::session::Session;
use super::wiring_flags::{LeaveFlags, ProxyFlags};

/// Attach to a container's process until it ends
///
/// A container that does not run is waited for.
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// Send no standard input
    #[arg(long)]
    no_stdin: bool,
    #[command(flatten)]
    proxy: ProxyFlags,
    #[command(flatten)]
    leave: LeaveFlags,
    /// Name or id
    container: String,
}

impl Attach {
    /// What is asked of `container`: input is sent only to who takes it, as docker has it.
    pub(crate) fn plan(self, container: &Container) -> (AttachContainerStart, Wiring) {
        let spec = container.spec.as_ref();
        let stdin = spec.is_some_and(|spec| spec.stdin_open) && !self.no_stdin;
        let process = spec.and_then(|spec| spec.process.as_ref());
        let terminal = process.is_some_and(|process| process.terminal.is_some());
        let start = AttachContainerStart {
            container: container.id.clone(),
            options: Some(AttachOptions {
                stdin,
                on_disconnect: self.leave.on_disconnect().into(),
                ..Default::default()
            }),
            expected_run: None,
        };
        let wiring = Wiring {
            stdin: match stdin {
                true => Stdin::Forward,
                false => Stdin::Leave,
            },
            screen: match terminal {
                true => Screen::Rejoined,
                false => Screen::Pipes,
            },
            signals: self.proxy.proxy(),
            detach_keys: self.leave.detach_keys.clone(),
        };
        (start, wiring)
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let client = session.connect().await?;
        let get = GetContainerRequest {
            container: self.container.clone(),
            view: ContainerView::Full.into(),
        };
        let container = client.call(get).await?.container.unwrap_or_default();
        let (start, wiring) = self.plan(&container);
        let attached = client.attach_container(start);
        let parting = conduct(attached, wiring, &mut (), &mut session.output).await?;
        session.exit_code = parting.exit_code();
        Ok(())
    }
}
