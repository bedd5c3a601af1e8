//! `wharf version`.

use clap::Args;
use serde::Serialize;
use wharf_client::v1::{GetVersionRequest, GetVersionResponse};

use super::failure::Failure;
use super::json::Json;
use super::output::{Format, Output};
use super::session::Session;

/// Show the versions of client and server
#[derive(Debug, Args)]
pub(crate) struct Version {
    /// How to show them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Report {
    client: ClientVersion,
    server: Option<Json>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClientVersion {
    version: &'static str,
    api_packages: [&'static str; 1],
}

const CLIENT: ClientVersion = ClientVersion {
    version: env!("CARGO_PKG_VERSION"),
    api_packages: ["wharf.v1"],
};

impl Version {
    /// The client's version is shown also without a server.
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let server = ask(session).await;
        match self.format {
            Format::Json => {
                let known = server.as_ref().ok().map(Json::of).transpose()?;
                session.output.json(&Report {
                    client: CLIENT,
                    server: known,
                })?;
            }
            Format::Table => text(server.as_ref().ok(), &mut session.output)?,
        }
        server.map(|_| ())
    }
}

async fn ask(session: &Session) -> Result<GetVersionResponse, Failure> {
    let client = session.connect().await?;
    Ok(client.call(GetVersionRequest {}).await?)
}

fn text(server: Option<&GetVersionResponse>, output: &mut Output) -> Result<(), Failure> {
    let client = [
        ("Version", CLIENT.version.to_owned()),
        ("API", CLIENT.api_packages.join(", ")),
    ];
    section("Client:", &client, output)?;
    let Some(server) = server else {
        return Ok(());
    };
    output.text("\n")?;
    let server = [
        ("Version", server.version.clone()),
        ("API", server.api_packages.join(", ")),
        ("Commit", server.commit.clone()),
        (
            "Backend",
            format!("{} {}", server.backend, server.backend_version),
        ),
    ];
    section("Server:", &server, output)
}

fn section(heading: &str, values: &[(&str, String)], output: &mut Output) -> Result<(), Failure> {
    output.line(heading)?;
    values.iter().try_for_each(|(name, value)| {
        let line = format!(" {:<9} {value}", format!("{name}:"));
        output.line(line.trim_end())
    })
}
