//! `wharf top`.

use clap::Args;
use wharf_client::v1::{ListContainerProcessesRequest, ProcessInfo};

use super::failure::Failure;
use super::human;
use super::json::Json;
use super::output::{Format, Table};
use super::session::Session;

/// List the processes of a container
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// How to show them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Name or id
    container: String,
}

impl Top {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let request = ListContainerProcessesRequest {
            container: self.container,
            ..Default::default()
        };
        let processes = session.connect().await?.pages(request).collect().await?;
        match self.format {
            Format::Json => processes
                .iter()
                .try_for_each(|process| session.output.json(&Json::of(process)?)),
            Format::Table => table(&processes).print(&mut session.output),
        }
    }
}

fn table(processes: &[ProcessInfo]) -> Table {
    let mut table = Table::new(["UID", "PID", "PPID", "TIME", "RSS", "CMD"]);
    for process in processes {
        table.row([
            process.uid.to_string(),
            process.pid.to_string(),
            process.parent_pid.to_string(),
            clock(process.cpu_time.map_or(0, |time| time.seconds)),
            human::size(process.resident_bytes),
            process.args.join(" "),
        ]);
    }
    table
}

/// "hours:minutes:seconds", as ps has it.
fn clock(seconds: i64) -> String {
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    format!("{:02}:{:02}:{seconds:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_a_clock() {
        assert_eq!(
            [0, 61, 360_000].map(clock),
            ["00:00:00", "00:01:01", "100:00:00"]
        );
    }
}
