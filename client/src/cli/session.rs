//! What every command shares: the options before it, the output, and the way to the server.

use std::time::Duration;

use clap::Args;
use wharf_client::{Address, CallOptions, Client, Error, RequestId, TraceParent};

use super::failure::Failure;
use super::output::Output;
use super::values;

/// Options of every command.
#[derive(Debug, Default, Args)]
pub(crate) struct Globals {
    /// Server: unix:///PATH or tcp://HOST:PORT [env: WHARF_HOST=] [default: unix:///run/wharf/wharf.sock]
    #[arg(
        short = 'H',
        long,
        global = true,
        help_heading = "Options of every command",
        value_name = "ADDRESS"
    )]
    pub(crate) host: Option<Address>,
    /// Correlates the command with log lines, events and errors; made up by default
    #[arg(
        long,
        global = true,
        help_heading = "Options of every command",
        value_name = "ID"
    )]
    pub(crate) request_id: Option<RequestId>,
    /// Time limit of each call, such as 30s; none by default
    #[arg(long, global = true, help_heading = "Options of every command", value_name = "DURATION", value_parser = values::duration)]
    pub(crate) timeout: Option<Duration>,
}

impl Globals {
    /// All calls of one command carry one request id, so that `wharf trace` shows them together.
    fn call_options(&self, timeout: Option<Duration>) -> CallOptions {
        let id = self.request_id.clone();
        let mut options = CallOptions::new().request_id(id.unwrap_or_else(RequestId::generate));
        if let Some(timeout) = timeout {
            options = options.timeout(timeout);
        }
        if let Some(parent) = trace_parent() {
            options = options.trace_parent(parent);
        }
        options
    }
}

/// A trace that the surroundings began. One that is malformed belongs to nobody.
fn trace_parent() -> Option<TraceParent> {
    std::env::var("TRACEPARENT").ok()?.parse().ok()
}

/// One run of one command.
pub(crate) struct Session {
    globals: Globals,
    pub(crate) output: Output,
    /// What this process ends with: the exit code of the process that it was about, if it was.
    pub(crate) exit_code: u8,
}

impl Session {
    pub(crate) fn new(globals: Globals, output: Output) -> Self {
        Self {
            globals,
            output,
            exit_code: 0,
        }
    }

    /// Connects to the server. Commands first check everything that they can without one.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        self.connect_for(self.globals.timeout).await
    }

    /// Connects for calls without a time limit, to send it along in another way: see
    /// [`Self::time_limit`].
    pub(crate) async fn connect_unlimited(&self) -> Result<Client, Failure> {
        self.connect_for(None).await
    }

    /// `--timeout`.
    pub(crate) fn time_limit(&self) -> Option<Duration> {
        self.globals.timeout
    }

    async fn connect_for(&self, timeout: Option<Duration>) -> Result<Client, Failure> {
        let address = match &self.globals.host {
            Some(address) => address.clone(),
            None => Address::from_env().map_err(Error::Address)?,
        };
        let client = Client::connect(address).await?;
        Ok(client.with(self.globals.call_options(timeout)))
    }
}

/// Makes a call safe to repeat, as long as this command runs.
pub(crate) fn idempotency_key() -> String {
    RequestId::generate().to_string()
}
