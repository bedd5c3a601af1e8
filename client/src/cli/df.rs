//! `wharf df`.

use clap::Args;
use wharf_client::v1::{DiskUsage, GetDiskUsageRequest, GetDiskUsageResponse};

use super::failure::Failure;
use super::human;
use super::json::Json;
use super::output::{Format, Table};
use super::session::Session;

/// Show what takes up the disk, and how much of it pruning would free
#[derive(Debug, Args)]
pub(crate) struct Df {
    /// How to show it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Df {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let client = session.connect().await?;
        let usage = client.call(GetDiskUsageRequest {}).await?;
        match self.format {
            Format::Json => session.output.json(&Json::of(&usage)?),
            Format::Table => table(usage).print(&mut session.output),
        }
    }
}

fn table(usage: GetDiskUsageResponse) -> Table {
    let mut table = Table::new(["TYPE", "TOTAL", "SIZE", "RECLAIMABLE"]);
    for (kind, usage) in [
        ("Images", usage.images),
        ("Containers", usage.containers),
        ("Logs", usage.logs),
        ("State", usage.state),
    ] {
        let usage = usage.unwrap_or_default();
        table.row([
            kind.to_owned(),
            usage.count.to_string(),
            human::size(usage.size_bytes),
            reclaimable(&usage),
        ]);
    }
    table
}

/// "1.2GB (34%)"; without a share where there is nothing.
fn reclaimable(usage: &DiskUsage) -> String {
    let size = human::size(usage.reclaimable_bytes);
    let percent = i128::from(usage.reclaimable_bytes) * 100;
    match percent.checked_div(usage.size_bytes.into()) {
        Some(percent) => format!("{size} ({percent}%)"),
        None => size,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::cli::output::tests::captured;

    #[test]
    fn each_kind_has_a_row_with_the_share_that_can_be_freed() {
        let usage = GetDiskUsageResponse {
            images: Some(DiskUsage {
                count: 3,
                size_bytes: 4_000_000_000,
                reclaimable_bytes: 1_500_000_000,
            }),
            ..Default::default()
        };
        let (mut output, out, _) = captured();
        table(usage).print(&mut output).unwrap();
        let want = "\
TYPE         TOTAL   SIZE   RECLAIMABLE
Images       3       4GB    1.5GB (37%)
Containers   0       0B     0B
Logs         0       0B     0B
State        0       0B     0B
";
        assert_eq!(out.text(), want);
    }
}
