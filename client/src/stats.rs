//! Rounds of statistics, over interruptions.

use wharf_api::v1::{ContainerStats, StreamStatsRequest};

use crate::client::Client;
use crate::error::Error;
use crate::resume::Resuming;

/// What all matching containers use, round by round. Dropping it ends the call.
///
/// ```no_run
/// # async fn run() -> Result<(), wharf_client::Error> {
/// use wharf_client::Client;
/// use wharf_client::v1::StreamStatsRequest;
///
/// let client = Client::from_env().await?;
/// let mut rounds = client.stats(StreamStatsRequest::default());
/// while let Some(round) = rounds.next().await? {
///     for stats in round {
///         println!("{}: {:?} cores", stats.container_name, stats.cpu.and_then(|cpu| cpu.cores));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StatsRounds {
    request: StreamStatsRequest,
    stream: Resuming<StreamStatsRequest>,
    /// What has come of the present round, and from which opening of the stream.
    part: Vec<ContainerStats>,
    opening: u64,
}

impl StatsRounds {
    pub(crate) fn new(client: Client, request: StreamStatsRequest) -> Self {
        Self {
            request,
            stream: Resuming::new(client),
            part: Vec::new(),
            opening: 0,
        }
    }

    /// The next whole round, in the order of the containers' creation; empty if none runs. After an
    /// interruption it begins anew: `cores` is absent again for one round. Safe to drop and call again.
    ///
    /// # Errors
    /// [`Error::Call`] when the server refuses, [`Error::Deadline`], and the interruption itself when
    /// the server has been away for a minute, or was never there. Calling again tries again.
    pub async fn next(&mut self) -> Result<Option<Vec<ContainerStats>>, Error> {
        while let Some(message) = self.stream.next(&self.request).await? {
            // What an interruption cut off is not gone on with.
            if std::mem::replace(&mut self.opening, self.stream.openings()) != self.opening {
                self.part.clear();
            }
            self.part.extend(message.stats);
            if message.round_end {
                return Ok(Some(std::mem::take(&mut self.part)));
            }
        }
        Ok(None)
    }
}
