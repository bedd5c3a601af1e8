//! `wharf prune`.

use std::io::BufRead as _;

use clap::Args;
use wharf_client::v1::PruneContainersRequest;

use super::failure::Failure;
use super::filters::{self, Pair};
use super::human;
use super::json::Json;
use super::output::{Format, Output};
use super::session::Session;

/// Delete all containers that have exited or failed
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Ask no question
    #[arg(short, long)]
    force: bool,
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Only those: label=KEY[=VALUE], name=NAME, status=exited|failed, ancestor=IMAGE, id=PREFIX
    #[arg(long, value_name = "KEY=VALUE", value_parser = filters::pair)]
    filter: Vec<Pair>,
    /// How to show them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Prune {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let request = PruneContainersRequest {
            filter: filters::containers(&self.filter)?,
            dry_run: self.dry_run,
        };
        if !self.force && !self.dry_run {
            confirm(&mut session.output)?;
        }
        let mut deleted = session.connect().await?.stream(request).await?;
        let mut reclaimed: i64 = 0;
        while let Some(container) = deleted.next().await? {
            reclaimed = reclaimed.saturating_add(container.reclaimed_bytes);
            match self.format {
                Format::Json => session.output.json(&Json::of(&container)?)?,
                Format::Table => session.output.line(&container.container_id)?,
            }
            session.output.flush()?;
        }
        match self.format {
            Format::Json => Ok(()),
            Format::Table => session.output.line(total(reclaimed)),
        }
    }
}

fn total(reclaimed: i64) -> String {
    format!("Total reclaimed space: {}", human::size(reclaimed))
}

/// Anything but a yes, an end of input too, is a no.
fn confirm(output: &mut Output) -> Result<(), Failure> {
    output.question("This deletes all containers that have exited or failed. Go on? [y/N]")?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::NotConfirmed),
    }
}
