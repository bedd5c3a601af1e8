//! `wharf info`.

use clap::Args;
use wharf_client::v1::{GetInfoRequest, GetInfoResponse, ServerCondition};

use super::failure::Failure;
use super::human;
use super::json::Json;
use super::output::{Format, Output};
use super::session::Session;

/// Show the state of server, backend and host
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// How to show it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Info {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let info = session.connect().await?.call(GetInfoRequest {}).await?;
        match self.format {
            Format::Json => session.output.json(&Json::of(&info)?),
            Format::Table => text(&info, &mut session.output),
        }
    }
}

fn text(info: &GetInfoResponse, output: &mut Output) -> Result<(), Failure> {
    let total: u32 = info.containers.values().sum();
    let lines = [
        ("Server ID", info.server_id.clone()),
        ("Up", human::for_how_long(info.start_time.as_ref())),
        ("Backend", info.backend.clone()),
        ("Containers", total.to_string()),
    ];
    print(&lines, output)?;
    for (state, count) in info.containers.iter().filter(|(_, count)| **count > 0) {
        output.line(format_args!(" {}: {count}", state_name(state)))?;
    }
    let lines = [
        ("Kernel", info.kernel.clone()),
        ("Architecture", info.architecture.clone()),
        ("Cgroup Version", info.cgroup_version.to_string()),
        ("CPUs", info.cpus.to_string()),
        ("Memory", human::size(info.memory_bytes)),
        ("Principal", info.principal.clone()),
        ("Oldest Cursor", info.oldest_cursor.clone()),
        ("Newest Cursor", info.newest_cursor.clone()),
    ];
    print(&lines, output)?;
    output.line("Conditions:")?;
    info.conditions
        .iter()
        .try_for_each(|condition| output.line(condition_line(condition)))
}

fn print(lines: &[(&str, String)], output: &mut Output) -> Result<(), Failure> {
    lines
        .iter()
        .try_for_each(|(name, value)| output.line(format_args!("{name}: {value}")))
}

/// "STATE_BACKING_OFF" is "Backing off".
fn state_name(state: &str) -> String {
    let name = state.strip_prefix("STATE_").unwrap_or(state);
    let words = name.to_ascii_lowercase().replace('_', " ");
    let mut characters = words.chars();
    let first = characters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

fn condition_line(condition: &ServerCondition) -> String {
    let name = &condition.r#type;
    match condition.status {
        true => format!(" {name}: true"),
        false => format!(
            " {name}: false ({}) {}",
            condition.reason, condition.message
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_words() {
        assert_eq!(state_name("STATE_BACKING_OFF"), "Backing off");
    }
}
