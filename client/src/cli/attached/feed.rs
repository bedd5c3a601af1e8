//! From standard input to the process.

use std::future::pending;
use std::io;

use bytes::Bytes;
use wharf_client::{Input, InputError};

use super::detach_keys::{DetachKeys, Then};
use super::{Keyboard, Stdin, Wiring, source};
use crate::cli::failure::Failure;

/// What feeds the process.
pub(super) struct Feed {
    stdin: Stdin,
    /// `None` unless keys are typed: bytes from elsewhere are not looked at.
    keys: Option<DetachKeys>,
    input: Input,
}

impl Feed {
    pub(super) fn new(wiring: &Wiring, keyboard: Keyboard, input: Input) -> Self {
        Self {
            stdin: wiring.stdin,
            keys: (keyboard == Keyboard::Raw).then(|| wiring.detach_keys.clone()),
            input,
        }
    }

    /// Feeds until the input ends, and then waits to be dropped: the end of input ends nothing else.
    pub(super) async fn run(mut self) -> Failure {
        let fed = match self.stdin {
            Stdin::Forward => self.pump().await,
            Stdin::Leave => Ok(()),
        };
        match fed {
            // The session itself says why.
            Ok(()) | Err(Stop::Session) => pending().await,
            Err(Stop::Read(error)) => Failure::Stdin(error),
        }
    }

    async fn pump(&mut self) -> Result<(), Stop> {
        let mut pieces = source::read().map_err(Stop::Read)?;
        while let Some(piece) = pieces.recv().await {
            if self.pass_on(piece.map_err(Stop::Read)?).await? == Then::Detach {
                self.input.detach().await?;
                return Ok(());
            }
        }
        if let Some(keys) = &mut self.keys {
            let held = keys.held();
            self.send(held).await?;
        }
        self.input.close_stdin().await?;
        Ok(())
    }

    async fn pass_on(&mut self, piece: Bytes) -> Result<Then, Stop> {
        let Some(keys) = &mut self.keys else {
            self.send(piece).await?;
            return Ok(Then::GoOn);
        };
        let typed = keys.feed(piece);
        self.send(typed.keys).await?;
        Ok(typed.then)
    }

    /// What is lost is told by the session; what comes after it is sent.
    async fn send(&mut self, data: Bytes) -> Result<(), Stop> {
        loop {
            match self.input.write(data.clone()).await {
                Err(InputError::Unconfirmed) => {}
                sent => return Ok(sent?),
            }
        }
    }
}

/// Why no more is fed.
enum Stop {
    Session,
    Read(io::Error),
}

impl From<InputError> for Stop {
    fn from(_: InputError) -> Self {
        Self::Session
    }
}
