//! `wharf ps`.

use clap::Args;
use wharf_client::v1::container::State;
use wharf_client::v1::{
    Container, ContainerFilter, ContainerView, ExitStatus, ListContainersRequest, health,
};

use super::failure::Failure;
use super::filters::{self, Pair, RUNNING};
use super::human::{self, Truncation, Width, familiar};
use super::json::Json;
use super::output::{Format, Table};
use super::session::Session;

const MOST_PER_PAGE: i32 = 1000;
const COMMAND_WIDTH: usize = 20;

/// List containers
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Those that do not run, too
    #[arg(short, long)]
    all: bool,
    /// Only those: label=KEY[=VALUE], name=NAME, status=STATE, ancestor=IMAGE, id=PREFIX, health=STATE
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filters::pair)]
    filter: Vec<Pair>,
    /// Only ids, whole ones: what the other commands take
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    truncation: Truncation,
    /// How to show them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Ps {
    pub(crate) fn request(&self) -> Result<ListContainersRequest, Failure> {
        let filter = filters::containers(&self.filter)?;
        Ok(ListContainersRequest {
            page_size: MOST_PER_PAGE,
            filter: match self.all {
                true => filter,
                false => Some(running(filter.unwrap_or_default())),
            },
            // The command is part of the spec.
            view: match self.quiet {
                true => ContainerView::Basic,
                false => ContainerView::Full,
            }
            .into(),
            ..Default::default()
        })
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let request = self.request()?;
        let mut containers = session.connect().await?.pages(request).collect().await?;
        // The newest first, as docker has it.
        containers.reverse();
        let width = self.truncation.width();
        let output = &mut session.output;
        match self.format {
            _ if self.quiet => containers
                .iter()
                .try_for_each(|container| output.line(&container.id)),
            Format::Json => containers
                .iter()
                .try_for_each(|container| output.json(&Json::of(container)?)),
            Format::Table => table(&containers, width).print(output),
        }
    }
}

/// Only what has a process, unless the filter names states itself.
fn running(mut filter: ContainerFilter) -> ContainerFilter {
    if filter.states.is_empty() {
        filter.states = RUNNING.iter().map(|&state| state.into()).collect();
    }
    filter
}

fn table(containers: &[Container], width: Width) -> Table {
    let mut table = Table::new([
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "NAMES",
    ]);
    for container in containers {
        table.row([
            width.id(&container.id),
            familiar(&container.image).to_owned(),
            command(container, width),
            human::ago(container.create_time.as_ref()),
            status(container),
            container.name.clone(),
        ]);
    }
    table
}

/// The program and its arguments, in quotes.
fn command(container: &Container, width: Width) -> String {
    let process = container.spec.as_ref().and_then(|s| s.process.as_ref());
    let words = process.map(|p| [&p.entrypoint[..], &p.args[..]].concat());
    let line = words.unwrap_or_default().join(" ");
    format!("\"{}\"", width.text(&line, COMMAND_WIDTH))
}

/// Where it is, in docker's words.
pub(crate) fn status(container: &Container) -> String {
    let up = || format!("Up {}", human::for_how_long(container.start_time.as_ref()));
    match container.state() {
        State::Running => format!("{}{}", up(), health_note(container)),
        State::Paused => format!("{} (Paused)", up()),
        State::Stopping => format!("{} (Stopping)", up()),
        State::Exited => exited("Exited", container.exit_status.as_ref()),
        State::BackingOff => exited("Restarting", container.exit_status.as_ref()),
        State::Creating => "Creating".to_owned(),
        State::Created => format!("Created{}", failure_note(container)),
        State::Starting => "Starting".to_owned(),
        State::Deleting => "Removal In Progress".to_owned(),
        State::Failed => format!("Failed{}", failure_note(container)),
        State::Unspecified => "Unknown".to_owned(),
    }
}

fn exited(verb: &str, status: Option<&ExitStatus>) -> String {
    let Some(status) = status else {
        return verb.to_owned();
    };
    let ago = human::ago(status.exit_time.as_ref());
    format!("{verb} ({}) {ago}", status.code)
        .trim_end()
        .to_owned()
}

fn health_note(container: &Container) -> &'static str {
    match container.health.as_ref().map(|health| health.state()) {
        Some(health::State::Starting) => " (health: starting)",
        Some(health::State::Healthy) => " (healthy)",
        Some(health::State::Unhealthy) => " (unhealthy)",
        Some(health::State::Unspecified) | None => "",
    }
}

fn failure_note(container: &Container) -> String {
    let failure = container.failure.as_ref();
    failure.map_or_else(String::new, |failure| format!(" ({})", failure.reason))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::cli::output::tests::captured;
    use std::time::{Duration, SystemTime};
    use wharf_client::v1::{ContainerSpec, Failure as Cause, ProcessSpec};

    fn container(state: State) -> Container {
        let then = |seconds| Some((SystemTime::now() - Duration::from_secs(seconds)).into());
        Container {
            id: "0123456789abcdef0123456789abcdef".into(),
            name: "web".into(),
            image: "docker.io/library/busybox:1.36".into(),
            state: state.into(),
            create_time: then(400),
            start_time: then(310),
            exit_status: Some(ExitStatus {
                code: 137,
                exit_time: then(130),
                ..Default::default()
            }),
            failure: Some(Cause {
                reason: "EXECUTABLE_NOT_FOUND".into(),
                ..Default::default()
            }),
            spec: Some(ContainerSpec {
                process: Some(ProcessSpec {
                    args: ["sh", "-c", "sleep 1000; exit 3"]
                        .map(str::to_owned)
                        .to_vec(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn every_state_has_dockers_words() {
        let shown = [
            (State::Running, "Up 5 minutes"),
            (State::Paused, "Up 5 minutes (Paused)"),
            (State::Stopping, "Up 5 minutes (Stopping)"),
            (State::Exited, "Exited (137) 2 minutes ago"),
            (State::BackingOff, "Restarting (137) 2 minutes ago"),
            (State::Created, "Created (EXECUTABLE_NOT_FOUND)"),
            (State::Failed, "Failed (EXECUTABLE_NOT_FOUND)"),
            (State::Deleting, "Removal In Progress"),
        ];
        for (state, text) in shown {
            assert_eq!(status(&container(state)), text);
        }
    }

    #[test]
    fn the_table_is_dockers() {
        let (mut output, out, _) = captured();
        table(&[container(State::Running)], Width::Short)
            .print(&mut output)
            .unwrap();
        let want = "\
CONTAINER ID   IMAGE          COMMAND                  CREATED         STATUS         NAMES
0123456789ab   busybox:1.36   \"sh -c sleep 1000; e…\"   6 minutes ago   Up 5 minutes   web
";
        assert_eq!(out.text(), want);
    }
}
