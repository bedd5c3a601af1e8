//! Accepts connections, and ends them: first by asking, then by cutting.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connections;
use super::gate::Gate;
use super::layers::{self, Handler, LayerOptions, Peer};
use super::listener::{Listener, Stream};
use crate::model::Principal;
use crate::model::limits::MAX_CONNECTIONS;

/// How long to leave a listener alone that cannot accept: usually descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Whether calls are let in; [`Gate::drain`] ends the server.
    pub gate: Gate,
    /// Name of the backend, for errors that name it.
    pub backend: &'static str,
    /// How long calls and streams may take to end once the server drains.
    pub drain_timeout: Duration,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every call came to its end.
    Clean,
    /// Connections were cut, since something on them did not end in time.
    Cut {
        /// Tasks that were left: connections and their streams.
        tasks: usize,
    },
}

/// Serves `routes` on `listeners` until the gate drains, with all layers around them. Once this
/// returns, nothing of it is left: no task, no connection, no socket.
pub async fn serve(
    listeners: Vec<Listener>,
    routes: impl Handler,
    options: ServeOptions,
) -> Drained {
    let layers = LayerOptions {
        gate: options.gate.clone(),
        backend: options.backend,
    };
    let connections = Connections {
        tasks: TaskTracker::new(),
        gate: options.gate,
        cut: CancellationToken::new(),
    };
    // Also if nobody waits for the end of this.
    let _cut = connections.cut.clone().drop_guard();
    let handler = layers::around(routes, &layers);
    for listener in listeners {
        let accepting = accept(listener, handler.clone(), connections.clone());
        connections.tasks.spawn(accepting);
    }
    connections.gate.draining().await;
    end(&connections, options.drain_timeout).await
}

async fn end(connections: &Connections, limit: Duration) -> Drained {
    connections.tasks.close();
    if timeout(limit, connections.tasks.wait()).await.is_ok() {
        return Drained::Clean;
    }
    let tasks = connections.tasks.len();
    connections.cut.cancel();
    connections.tasks.wait().await;
    Drained::Cut { tasks }
}

/// Accepts on one listener until the drain; then closes it, so that clients look elsewhere.
async fn accept(listener: Listener, handler: impl Handler, connections: Connections) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        tokio::select! {
            biased;
            () = connections.gate.draining() => return,
            () = connections.cut.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => admit(&listener, &room, accepted, &handler, &connections),
                Err(error) => {
                    tracing::warn!(%error, listener = %listener.address(), "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Serves the connection in a task of its own; closes it at once if there are too many.
fn admit(
    listener: &Listener,
    room: &Arc<Semaphore>,
    (stream, principal): (Stream, Principal),
    handler: &impl Handler,
    connections: &Connections,
) {
    let Ok(place) = Arc::clone(room).try_acquire_owned() else {
        tracing::warn!(listener = %listener.address(), %principal, "too many connections");
        return;
    };
    let serving = connections
        .clone()
        .serve(stream, Peer(principal), handler.clone());
    connections.tasks.spawn(async move {
        serving.await;
        drop(place);
    });
}

#[cfg(test)]
mod tests;
