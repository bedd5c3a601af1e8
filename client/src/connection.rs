//! The transport to one server: a channel that reconnects by itself, and can be replaced.

use std::io;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::address::Address;
use crate::error::{Error, connect_error};
use crate::severable::{Io, Severable};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Below these an upload or a busy stream waits for window updates; the connection's window is
/// larger, so that one stalled stream does not stop the others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// A message of output or of log entries comes in one frame: each frame is a write for the server.
const FRAME: u32 = 256 << 10;

/// A connection to one server.
#[derive(Debug)]
pub(crate) struct Connection {
    address: Address,
    endpoint: Endpoint,
    current: RwLock<Generation>,
}

/// A channel, and how many came before it.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    number: u64,
    pub(crate) channel: Channel,
}

impl Connection {
    /// Connects, so that an absent server is known now and not at the first call.
    pub(crate) async fn open(address: Address) -> Result<Self, Error> {
        let endpoint = endpoint(&address)?;
        let channel = match &address {
            Address::Unix(path) => {
                endpoint
                    .connect_with_connector(unix_connector(path.clone()))
                    .await
            }
            Address::Tcp(_) => endpoint.connect().await,
        }
        .map_err(|error| connect_error(error, &address))?;
        Ok(Self {
            address,
            endpoint,
            current: RwLock::new(Generation { number: 0, channel }),
        })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn current(&self) -> Generation {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces the channel, unless somebody did since `seen`: a server that drains answers on its
    /// old connections for a while, when its successor already takes new ones.
    pub(crate) fn renew(&self, seen: &Generation) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.number == seen.number {
            *current = Generation {
                number: seen.number + 1,
                channel: self.lazy_channel(),
            };
        }
    }

    /// A channel whose connection nobody shares, and that is cut when the guard is dropped: the one way
    /// to end a call whose input the server has stopped reading, since a reset waits behind it.
    pub(crate) fn private(&self) -> (Channel, Cut) {
        let (cut, severed) = watch::channel(());
        let address = self.address.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (address, severed) = (address.clone(), severed.clone());
            async move { severable(&address, severed).await }
        });
        let channel = self.endpoint.connect_with_connector_lazy(connector);
        (channel, Cut { _cut: cut })
    }

    fn lazy_channel(&self) -> Channel {
        match &self.address {
            Address::Unix(path) => self
                .endpoint
                .connect_with_connector_lazy(unix_connector(path.clone())),
            Address::Tcp(_) => self.endpoint.connect_lazy(),
        }
    }
}

/// Cuts a private connection when dropped.
#[derive(Debug)]
pub(crate) struct Cut {
    _cut: watch::Sender<()>,
}

async fn severable(
    address: &Address,
    severed: watch::Receiver<()>,
) -> io::Result<TokioIo<Severable>> {
    let io: Box<dyn Io> = match address {
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Address::Tcp(target) => {
            let stream = TcpStream::connect(target.to_string()).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    };
    Ok(TokioIo::new(Severable::new(io, severed)))
}

fn endpoint(address: &Address) -> Result<Endpoint, Error> {
    let origin = match address {
        // Any valid authority does: the connector knows the path.
        Address::Unix(_) => "http://localhost".to_owned(),
        Address::Tcp(target) => format!("http://{target}"),
    };
    let agent = concat!("wharf/", env!("CARGO_PKG_VERSION"));
    let endpoint = Endpoint::from_shared(origin)
        .and_then(|endpoint| endpoint.user_agent(agent))
        .map_err(|error| connect_error(error, address))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME))
}

type UnixIo =
    std::pin::Pin<Box<dyn Future<Output = std::io::Result<TokioIo<UnixStream>>> + Send + 'static>>;

fn unix_connector(
    path: std::path::PathBuf,
) -> tower::util::ServiceFn<impl FnMut(Uri) -> UnixIo + Clone + Send + 'static> {
    tower::service_fn(move |_| -> UnixIo {
        let path = path.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    })
}
