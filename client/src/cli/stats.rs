//! `wharf stats`.

use std::time::Duration;

use clap::Args;
use wharf_client::Client;
use wharf_client::v1::{
    ContainerFilter, ContainerStats, ContainerView, CpuStats, GetContainerRequest, IoStats,
    MemoryStats, StreamStatsRequest,
};

use super::attached;
use super::failure::Failure;
use super::filters::{self, Pair};
use super::human::{self, Truncation, Width};
use super::json::Json;
use super::output::{Format, Output, Table};
use super::session::Session;
use super::values;

/// Show what running containers use
///
/// Of all that run, also later ones, or of those named. On a terminal the table is repainted; elsewhere
/// rows follow each other.
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Once instead of again and again
    #[arg(long)]
    no_stream: bool,
    /// From one time to the next, at least 100ms
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = values::duration)]
    interval: Duration,
    /// Only those: label=KEY[=VALUE], name=NAME, status=STATE, ancestor=IMAGE, id=PREFIX, health=STATE
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filters::pair, conflicts_with = "containers")]
    filter: Vec<Pair>,
    #[command(flatten)]
    truncation: Truncation,
    /// How to show it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Stats {
    /// What is asked for, of these ids if there are any.
    pub(crate) fn request(&self, ids: Vec<String>) -> Result<StreamStatsRequest, Failure> {
        let named = (!ids.is_empty()).then(|| ContainerFilter {
            id_prefixes: ids,
            ..Default::default()
        });
        let interval = self.interval.try_into();
        Ok(StreamStatsRequest {
            filter: named.or(filters::containers(&self.filter)?),
            interval: Some(
                interval.map_err(|_| {
                    Failure::Usage("--interval is longer than can be said".to_owned())
                })?,
            ),
        })
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        self.request(Vec::new())?;
        let client = session.connect().await?;
        let mut ids = Vec::new();
        for container in &self.containers {
            ids.push(id_of(&client, container).await?);
        }
        let mut rounds = client.stats(self.request(ids)?);
        let mut screen = Screen::of(self.format, self.no_stream);
        let width = self.truncation.width();
        if self.no_stream {
            // How much CPU is used shows from the second time on.
            rounds.next().await?;
            let round = rounds.next().await?.unwrap_or_default();
            return screen.show(&round, width, &mut session.output);
        }
        while let Some(round) = rounds.next().await? {
            screen.show(&round, width, &mut session.output)?;
        }
        Ok(())
    }
}

async fn id_of(client: &Client, container: &str) -> Result<String, Failure> {
    let get = GetContainerRequest {
        container: container.to_owned(),
        view: ContainerView::Basic.into(),
    };
    Ok(client.call(get).await?.container.unwrap_or_default().id)
}

/// How rounds follow each other.
enum Screen {
    /// Each in place of the last one.
    Repainted,
    /// Each below the last one; the heading before the first.
    Rows { heading: bool },
    /// An object for each container.
    Json,
}

impl Screen {
    fn of(format: Format, once: bool) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Table if !once && attached::is_stdout() => Self::Repainted,
            Format::Table => Self::Rows { heading: true },
        }
    }

    fn show(
        &mut self,
        round: &[ContainerStats],
        width: Width,
        output: &mut Output,
    ) -> Result<(), Failure> {
        match self {
            Self::Repainted => table(round, width).repaint(attached::size_or_default(), output),
            Self::Rows { heading } => {
                match std::mem::take(heading) {
                    true => table(round, width).print(output)?,
                    false => table(round, width).print_rows(output)?,
                }
                output.flush()
            }
            Self::Json => {
                for stats in round {
                    output.json(&Json::of(stats)?)?;
                }
                output.flush()
            }
        }
    }
}

fn table(round: &[ContainerStats], width: Width) -> Table {
    let mut table = Table::new([
        "CONTAINER ID",
        "NAME",
        "CPU %",
        "MEM USAGE / LIMIT",
        "MEM %",
        "NET I/O",
        "BLOCK I/O",
        "PIDS",
    ]);
    for stats in round {
        let memory = stats.memory.unwrap_or_default();
        table.row([
            width.id(&stats.container_id),
            stats.container_name.clone(),
            cpu(stats.cpu.as_ref()),
            format!(
                "{} / {}",
                human::size(memory.working_set_bytes),
                memory.limit_bytes.map_or("-".to_owned(), human::size)
            ),
            share(&memory),
            network(stats),
            io(&stats.io.unwrap_or_default()),
            stats.pids.to_string(),
        ]);
    }
    table
}

/// Of one processor, as docker has it: two busy ones are 200 %.
fn cpu(cpu: Option<&CpuStats>) -> String {
    let cores = cpu.and_then(|cpu| cpu.cores);
    cores.map_or("-".to_owned(), |cores| percent(cores * 100.0))
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn share(memory: &MemoryStats) -> String {
    match memory.limit_bytes {
        Some(limit) if limit > 0 => percent(memory.working_set_bytes as f64 * 100.0 / limit as f64),
        Some(_) | None => "-".to_owned(),
    }
}

fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

/// Received and sent by all interfaces but the loopback's; nothing with the host's network.
fn network(stats: &ContainerStats) -> String {
    if stats.networks.is_empty() {
        return "-".to_owned();
    }
    let outer = stats.networks.iter().filter(|one| one.interface != "lo");
    let (received, sent) = outer.fold((0_i64, 0_i64), |(received, sent), one| {
        (
            received.saturating_add(one.receive_bytes),
            sent.saturating_add(one.transmit_bytes),
        )
    });
    format!("{} / {}", human::size(received), human::size(sent))
}

fn io(io: &IoStats) -> String {
    format!(
        "{} / {}",
        human::size(io.read_bytes),
        human::size(io.write_bytes)
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::cli::output::tests::captured;
    use wharf_client::v1::NetworkStats;

    fn stats(cores: Option<f64>) -> ContainerStats {
        let interface = |name: &str, bytes| NetworkStats {
            interface: name.to_owned(),
            receive_bytes: bytes,
            transmit_bytes: 2 * bytes,
            ..Default::default()
        };
        ContainerStats {
            container_id: "0123456789abcdef0123456789abcdef".into(),
            container_name: "web".into(),
            cpu: Some(CpuStats {
                cores,
                ..Default::default()
            }),
            memory: Some(MemoryStats {
                usage_bytes: 99_000_000,
                working_set_bytes: 32_000_000,
                limit_bytes: Some(64_000_000),
                ..Default::default()
            }),
            io: Some(IoStats {
                read_bytes: 4_096,
                write_bytes: 1_000_000,
                ..Default::default()
            }),
            networks: vec![interface("lo", 7_777), interface("eth0", 1_000)],
            pids: 3,
            ..Default::default()
        }
    }

    #[test]
    fn the_table_is_dockers() {
        let (mut output, out, _) = captured();
        let unlimited = ContainerStats {
            container_name: "batch".into(),
            memory: Some(MemoryStats {
                working_set_bytes: 5_000,
                ..Default::default()
            }),
            networks: Vec::new(),
            ..stats(None)
        };
        table(&[stats(Some(1.5)), unlimited], Width::Short)
            .print(&mut output)
            .unwrap();
        let want = "\
CONTAINER ID   NAME    CPU %     MEM USAGE / LIMIT   MEM %    NET I/O     BLOCK I/O     PIDS
0123456789ab   web     150.00%   32MB / 64MB         50.00%   1kB / 2kB   4.1kB / 1MB   3
0123456789ab   batch   -         5kB / -             -        -           4.1kB / 1MB   3
";
        assert_eq!(out.text(), want);
    }

    #[test]
    fn where_no_terminal_is_the_heading_comes_once() {
        let (mut output, out, _) = captured();
        let mut screen = Screen::Rows { heading: true };
        for round in [&[][..], &[stats(Some(0.1))], &[stats(Some(0.2))]] {
            screen.show(round, Width::Short, &mut output).unwrap();
        }
        let text = out.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("CONTAINER ID"));
        assert!(lines[1].contains("10.00%") && lines[2].contains("20.00%"));
    }
}
