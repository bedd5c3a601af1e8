//! The server's own parts in this process, so that they can be put together otherwise.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tonic::service::Routes;
use wharf_server::transport::{Address, Drained, Gate, Listener, ServeOptions, serve};

use crate::harness::Client;

/// Routes that are served behind the server's own layers.
#[derive(Debug)]
pub struct InProcess {
    socket: PathBuf,
    gate: Gate,
    serving: Mutex<JoinSet<Drained>>,
}

impl InProcess {
    /// Serves on a socket in `directory`.
    pub async fn serve(directory: &Path, routes: Routes) -> Self {
        let socket = directory.join("in-process.sock");
        let listener = Listener::bind(&Address::Unix(socket.clone()))
            .await
            .unwrap();
        let gate = Gate::new();
        gate.open();
        let options = ServeOptions {
            gate: gate.clone(),
            backend: "fake",
            drain_timeout: Duration::from_secs(10),
        };
        let mut serving = JoinSet::new();
        serving.spawn(serve(vec![listener], routes.prepare(), options));
        Self {
            socket,
            gate,
            serving: Mutex::new(serving),
        }
    }

    pub fn client(&self) -> Client {
        Client::of_socket(&self.socket)
    }

    /// Drains it, and waits for its end.
    pub async fn stop(&self) {
        self.gate.drain();
        let ended = self.serving.lock().await.join_next().await;
        assert_eq!(ended.unwrap().unwrap(), Drained::Clean);
    }
}
