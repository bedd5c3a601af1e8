//! The way of input to one connection. It ends with the connection, or when the session is done with it.

use futures_util::{Stream, stream};
use tokio::sync::{mpsc, oneshot};
use wharf_api::v1::ProcessInput;
use wharf_api::v1::process_input::Kind;

/// Messages that wait for the transport, which has a window of its own.
const QUEUE: usize = 2;

/// The way to the transport, for one connection.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    pub(crate) ordered: mpsc::Sender<Kind>,
    pub(crate) urgent: mpsc::Sender<Kind>,
}

/// The transport's end of a [`Queue`].
pub(crate) struct Outbound {
    ordered: mpsc::Receiver<Kind>,
    urgent: mpsc::Receiver<Kind>,
    /// Resolves when the session is done with the connection.
    over: oneshot::Receiver<()>,
}

/// Ends the outbound half when dropped, whoever still holds a [`Queue`].
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) queue: Queue,
    _over: oneshot::Sender<()>,
}

/// A line for one connection.
pub(crate) fn line() -> (Line, Outbound) {
    let (ordered, ordered_end) = mpsc::channel(QUEUE);
    let (urgent, urgent_end) = mpsc::channel(QUEUE);
    let (over, over_end) = oneshot::channel();
    let line = Line {
        queue: Queue { ordered, urgent },
        _over: over,
    };
    let outbound = Outbound {
        ordered: ordered_end,
        urgent: urgent_end,
        over: over_end,
    };
    (line, outbound)
}

impl Outbound {
    pub(crate) fn into_stream(self) -> impl Stream<Item = ProcessInput> + Send {
        stream::unfold(self, |mut outbound| async move {
            let kind = outbound.next().await?;
            Some((ProcessInput { kind: Some(kind) }, outbound))
        })
    }

    async fn next(&mut self) -> Option<Kind> {
        tokio::select! {
            biased;
            _ = &mut self.over => None,
            Some(kind) = self.urgent.recv() => Some(kind),
            kind = self.ordered.recv() => kind,
        }
    }
}
