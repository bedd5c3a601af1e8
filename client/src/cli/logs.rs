//! `wharf logs`.

use std::collections::BTreeMap;

use clap::Args;
use prost_types::Timestamp;
use wharf_client::v1::stream_logs_request::Start;
use wharf_client::v1::{
    Container, ContainerFilter, ContainerView, FollowLogsRequest, GetContainerRequest, LogEntries,
    LogGap, StreamLogsRequest, follow_logs_response, stream_logs_response,
};
use wharf_client::{Client, Error};

use super::failure::Failure;
use super::filters::{self, Pair};
use super::log_lines::{Lines, Stamps};
use super::output::Output;
use super::session::Session;
use super::values;

/// Show what containers have written
///
/// With several containers, or a filter, each line begins with its container's name.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on as more is written: until the container's run ends; of several, for ever
    #[arg(short, long)]
    follow: bool,
    /// Only so many of the last entries; "all" for all
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all", value_parser = tail)]
    tail: Tail,
    /// From this time on: a date, seconds since 1970, or an age such as 10m
    #[arg(long, value_name = "TIME", value_parser = values::point_in_time)]
    since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = values::point_in_time)]
    until: Option<Timestamp>,
    /// Begin each line with the time at which it was read
    #[arg(short, long)]
    timestamps: bool,
    /// All containers that match, also later ones; needs --follow
    #[arg(long, value_name = "KEY=VALUE", value_parser = filters::pair, requires = "follow", conflicts_with = "containers")]
    filter: Vec<Pair>,
    /// Names or ids
    #[arg(required_unless_present = "filter", value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// How much of the past is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    All,
    Last(u64),
}

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail::All),
        _ => text
            .parse()
            .map(Tail::Last)
            .map_err(|_| format!("{text:?} is neither a number nor \"all\"")),
    }
}

impl Tail {
    fn entries(self) -> Option<u64> {
        match self {
            Self::All => None,
            Self::Last(count) => Some(count),
        }
    }
}

impl Logs {
    /// The log of one container.
    pub(crate) fn request(&self, container: String) -> StreamLogsRequest {
        StreamLogsRequest {
            container,
            start: self.since.map(Start::SinceTime),
            tail_entries: self.tail.entries(),
            until_time: self.until,
            follow: self.follow,
            stop_at_exit: self.follow,
            ..Default::default()
        }
    }

    /// The logs of all that match.
    pub(crate) fn follow_request(&self, filter: ContainerFilter) -> FollowLogsRequest {
        FollowLogsRequest {
            filter: Some(filter),
            since_time: self.since,
            tail_entries: self.tail.entries(),
            ..Default::default()
        }
    }

    fn stamps(&self) -> Stamps {
        match self.timestamps {
            true => Stamps::Shown,
            false => Stamps::Hidden,
        }
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let many = self.containers.len() != 1;
        if many && self.follow && self.until.is_some() {
            return Err(Failure::Usage(
                "--until with --follow takes one container".to_owned(),
            ));
        }
        let filter = filters::containers(&self.filter)?;
        let client = session.connect().await?;
        let output = &mut session.output;
        match &self.containers[..] {
            [one] => {
                self.show(&client, one, Lines::plain(self.stamps()), output)
                    .await
            }
            [] => {
                let names = Names::new(&client);
                self.follow_all(names, filter.unwrap_or_default(), output)
                    .await
            }
            several if self.follow => {
                let mut names = Names::new(&client);
                let mut filter = ContainerFilter::default();
                for container in several {
                    filter.id_prefixes.push(names.learn(container).await?);
                }
                self.follow_all(names, filter, output).await
            }
            several => {
                for container in several {
                    let lines = Lines::named(container, self.stamps());
                    self.show(&client, container, lines, output).await?;
                }
                Ok(())
            }
        }
    }

    async fn show(
        &self,
        client: &Client,
        container: &str,
        mut lines: Lines,
        output: &mut Output,
    ) -> Result<(), Failure> {
        use stream_logs_response::Response;
        let mut logs = client.logs(self.request(container.to_owned()));
        while let Some(message) = logs.next().await? {
            match message.response {
                Some(Response::Entries(batch)) => print(&mut lines, &batch, output)?,
                Some(Response::Gap(gap)) => output.warning(&missing(container, gap)),
                Some(Response::RunStarted(_) | Response::RunExited(_) | Response::Idle(_))
                | None => {}
            }
        }
        Ok(())
    }

    async fn follow_all(
        &self,
        mut names: Names<'_>,
        filter: ContainerFilter,
        output: &mut Output,
    ) -> Result<(), Failure> {
        use follow_logs_response::Response;
        let mut all = BTreeMap::new();
        let mut logs = names.client.follow_logs(self.follow_request(filter));
        while let Some(message) = logs.next().await? {
            let id = message.container_id;
            match message.response {
                Some(Response::Entries(batch)) => {
                    if !all.contains_key(&id) {
                        let name = names.of(&id).await;
                        all.insert(id.clone(), Lines::named(&name, self.stamps()));
                    }
                    if let Some(lines) = all.get_mut(&id) {
                        print(lines, &batch, output)?;
                    }
                }
                Some(Response::Gap(gap)) => output.warning(&missing(&names.of(&id).await, gap)),
                Some(Response::RunStarted(_) | Response::RunExited(_) | Response::Idle(_))
                | None => {}
            }
        }
        Ok(())
    }
}

/// Every batch is shown at once.
fn print(lines: &mut Lines, batch: &LogEntries, output: &mut Output) -> Result<(), Failure> {
    for entry in &batch.entries {
        output.data(entry.stream(), &lines.render(entry))?;
    }
    output.flush()
}

fn missing(container: &str, gap: LogGap) -> String {
    match gap.missed_bytes {
        0 => format!("{container}: older entries are missing here, lost to rotation"),
        bytes => format!("{container}: {bytes} bytes are missing here, lost to rotation"),
    }
}

/// Names of containers, by id.
struct Names<'a> {
    client: &'a Client,
    known: BTreeMap<String, String>,
}

impl<'a> Names<'a> {
    fn new(client: &'a Client) -> Self {
        Self {
            client,
            known: BTreeMap::new(),
        }
    }

    /// The id of the container with this name or id.
    async fn learn(&mut self, container: &str) -> Result<String, Error> {
        let Container { id, name, .. } = self.get(container).await?;
        self.known.insert(id.clone(), name);
        Ok(id)
    }

    /// The name, or the id of a container that is gone.
    async fn of(&mut self, id: &str) -> String {
        if !self.known.contains_key(id) {
            let name = self
                .get(id)
                .await
                .map_or_else(|_| id.to_owned(), |it| it.name);
            self.known.insert(id.to_owned(), name);
        }
        self.known.get(id).cloned().unwrap_or_default()
    }

    async fn get(&self, container: &str) -> Result<Container, Error> {
        let get = GetContainerRequest {
            container: container.to_owned(),
            view: ContainerView::Basic.into(),
        };
        Ok(self.client.call(get).await?.container.unwrap_or_default())
    }
}
