//! Whether calls are let in: one value that the composition root moves, and that the server and a
//! layer look at.
//!
//! ```text
//! Starting{phase} -> Serving -> Draining     (never back)
//! ```

use std::sync::Arc;

use tokio::sync::watch;

use crate::engine;

/// Where the server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// State is being recovered.
    Starting {
        /// What is being done; callers are told.
        phase: &'static str,
    },
    /// Calls are served.
    Serving,
    /// No new calls; those under way may end.
    Draining,
}

/// The server's phase. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate {
    phase: Arc<watch::Sender<Phase>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A gate of a server that starts.
    #[must_use]
    pub fn new() -> Self {
        let (phase, _) = watch::channel(Phase::Starting { phase: "opening" });
        Self {
            phase: Arc::new(phase),
        }
    }

    /// Tells what the start is at.
    pub fn starting(&self, phase: &'static str) {
        self.advance(Phase::Starting { phase });
    }

    /// Lets calls in.
    pub fn open(&self) {
        self.advance(Phase::Serving);
    }

    /// Lets no more calls in, and makes the server end.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// The phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The phase, and its changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Ends once the server drains.
    pub async fn draining(&self) {
        let mut phase = self.watch();
        // The sender lives as long as `self` does, so this cannot fail.
        let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
    }

    /// Why a call must not come in, if it must not.
    pub(super) fn refusal(&self) -> Option<engine::Error> {
        match self.phase() {
            Phase::Starting { phase } => Some(engine::Error::Starting { phase }),
            Phase::Serving => None,
            Phase::Draining => Some(engine::Error::Draining),
        }
    }

    fn advance(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let goes_on = match (*phase, next) {
                (Phase::Draining, _) | (Phase::Serving, Phase::Starting { .. }) => false,
                (Phase::Starting { .. } | Phase::Serving, _) => *phase != next,
            };
            if goes_on {
                *phase = next;
            }
            goes_on
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_server_never_serves_again() {
        let gate = Gate::new();
        gate.starting("recovering containers");
        assert_eq!(
            gate.phase(),
            Phase::Starting {
                phase: "recovering containers"
            }
        );
        gate.open();
        gate.starting("late");
        assert_eq!(gate.phase(), Phase::Serving);
        gate.drain();
        gate.open();
        assert_eq!(gate.phase(), Phase::Draining);
    }

    #[tokio::test]
    async fn whoever_waits_for_the_drain_is_woken() {
        let gate = Gate::new();
        let waiter = gate.clone();
        let (_, ()) = tokio::join!(waiter.draining(), async { gate.drain() });
    }
}
