//! Bridging the time in which a server is away, for reads that can go on where they stopped.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::{CallContext, Client, Messages};
use crate::error::Error;
use crate::retry::backoff;
use crate::rpc::ServerStreaming;

/// A server that has been away for this long is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The attempts of one interruption.
#[derive(Debug, Default)]
pub(crate) struct Interruptions {
    attempts: u32,
    since: Option<Instant>,
    /// Whether the server ever answered: one that was never there is not an interruption.
    connected: bool,
}

impl Interruptions {
    /// The server answered: the next interruption is a new one.
    pub(crate) fn over(&mut self) {
        *self = Self {
            connected: true,
            ..Self::default()
        };
    }

    /// How long to wait before it is time to try again: as long as the server asked for, else with
    /// backoff.
    ///
    /// # Errors
    /// `error` itself, if it is no interruption, or has lasted too long.
    pub(crate) fn next_delay(&mut self, error: Error) -> Result<Duration, Error> {
        self.connected |= matches!(error, Error::Disconnected { .. });
        if !error.is_interruption() || !self.connected {
            return Err(error);
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            return Err(error);
        }
        self.attempts += 1;
        let asked = error.call().and_then(|call| call.retry_after);
        Ok(asked
            .unwrap_or_else(|| backoff(self.attempts))
            .min(PATIENCE))
    }
}

/// A stream that is asked for again when it was interrupted. Its owner moves the request along.
#[derive(Debug)]
pub(crate) struct Resuming<R: ServerStreaming> {
    client: Client,
    call: CallContext,
    messages: Option<Messages<R::Response>>,
    openings: u64,
    interruptions: Interruptions,
}

impl<R: ServerStreaming> Resuming<R> {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            call: client.context(R::METHOD),
            client,
            messages: None,
            openings: 0,
            interruptions: Interruptions::default(),
        }
    }

    /// The next message; `None` when the server has ended the stream with OK. `request` is sent when
    /// there is no stream, at first and after an interruption. Safe to drop and call again.
    ///
    /// # Errors
    /// What is no interruption, and the interruption itself when it lasts too long.
    pub(crate) async fn next(&mut self, request: &R) -> Result<Option<R::Response>, Error> {
        loop {
            let error = match self.receive(request).await {
                Ok(message) => {
                    self.interruptions.over();
                    return Ok(message);
                }
                Err(error) => error,
            };
            self.messages = None;
            let delay = self.interruptions.next_delay(error)?;
            self.call.pause(delay).await?;
        }
    }

    /// How often the stream was opened: what comes from different openings need not fit together.
    pub(crate) fn openings(&self) -> u64 {
        self.openings
    }

    async fn receive(&mut self, request: &R) -> Result<Option<R::Response>, Error> {
        if let Some(messages) = &mut self.messages {
            return messages.next().await;
        }
        let opening = self.client.stream_in(request.clone(), self.call.again());
        let messages = self.messages.insert(opening.await?);
        self.openings += 1;
        messages.next().await
    }
}
