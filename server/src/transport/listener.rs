//! Where the server can be reached: Unix sockets and loopback TCP. Knows who is at the other end.

use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use crate::model::Principal;

/// Who may connect: the owner and the group.
const SOCKET_MODE: u32 = 0o660;
/// Who may look for the socket.
const DIRECTORY_MODE: u32 = 0o750;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `unix:///run/wharf/wharf.sock`: an absolute path.
    Unix(PathBuf),
    /// `tcp://127.0.0.1:8080`, `tcp://[::1]:0`: loopback only. Port 0 takes any.
    Tcp(SocketAddr),
}

/// What can go wrong with an address or a listener.
#[derive(Debug, Clone, Error)]
pub enum ListenError {
    /// It is no address.
    #[error("{text:?} is no address; use unix:///PATH or tcp://127.0.0.1:PORT")]
    Malformed {
        /// As given.
        text: String,
    },
    /// It can be reached from other hosts.
    #[error("tcp://{address} is not loopback; other addresses need mTLS, which comes later")]
    NotLoopback {
        /// As given.
        address: SocketAddr,
    },
    /// There is something else in the socket's place.
    #[error("{path} exists and is not a socket")]
    NotASocket {
        /// The socket's path.
        path: PathBuf,
    },
    /// Another server listens there.
    #[error("{path} is in use by another server")]
    InUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// Where.
        address: Address,
        /// What it said.
        source: Arc<io::Error>,
    },
}

impl FromStr for Address {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let malformed = || ListenError::Malformed {
            text: text.to_owned(),
        };
        if let Some(path) = text.strip_prefix("unix://") {
            // Only an absolute path is left once the empty host is gone.
            let named = path.starts_with('/') && !path.ends_with('/') && !path.contains('\0');
            return named.then(|| Self::Unix(path.into())).ok_or_else(malformed);
        }
        let address = text.strip_prefix("tcp://").ok_or_else(malformed)?;
        let address: SocketAddr = address.parse().map_err(|_| malformed())?;
        if address.ip().is_loopback() {
            Ok(Self::Tcp(address))
        } else {
            Err(ListenError::NotLoopback { address })
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// An accepted connection.
pub(super) type Stream = Either<UnixStream, TcpStream>;

/// A bound listener. Dropping it closes it and removes its socket.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "dropped with the listener")] SocketFile,
    ),
    Tcp(TcpListener),
}

impl Listener {
    /// Binds. Missing directories of a Unix socket are made, a dead socket is replaced.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(address: &Address) -> Result<Self, ListenError> {
        let failed = |error: io::Error| ListenError::Io {
            address: address.clone(),
            source: Arc::new(error),
        };
        match address {
            Address::Unix(path) => {
                make_way(path).await?.map_err(failed)?;
                let (listener, file) = bind_unix(path).map_err(failed)?;
                Ok(Self {
                    address: address.clone(),
                    socket: Socket::Unix(listener, file),
                })
            }
            Address::Tcp(wanted) => {
                let listener = TcpListener::bind(wanted).await.map_err(failed)?;
                Ok(Self {
                    address: Address::Tcp(listener.local_addr().map_err(failed)?),
                    socket: Socket::Tcp(listener),
                })
            }
        }
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection, and who made it.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Principal)> {
        match &self.socket {
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred()?.uid();
                Ok((Stream::Left(stream), Principal::user(user)))
            }
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // An answer is written in pieces, which must not wait for each other's receipt.
                stream.set_nodelay(true)?;
                Ok((Stream::Right(stream), Principal::loopback()))
            }
        }
    }
}

/// Refuses a path that is in use by anything but a dead socket. The inner result is the system's.
async fn make_way(path: &Path) -> Result<io::Result<()>, ListenError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(())),
        Err(error) => return Ok(Err(error)),
    };
    let path = path.to_owned();
    if !found.file_type().is_socket() {
        return Err(ListenError::NotASocket { path });
    }
    match UnixStream::connect(&path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Ok(())),
        // Also one that is too busy to answer, or that may not be asked.
        Ok(_) | Err(_) => Err(ListenError::InUse { path }),
    }
}

/// Binds in a directory that nobody else can enter, and moves the socket to its place once its mode
/// is right. So it is never open to more than it should, whatever the umask is.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut directories = DirBuilder::new();
    directories
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(parent)?;
    let private = PrivateDirectory::make(parent)?;
    let first = private.0.join("s");
    let listener = UnixListener::bind(&first)?;
    fs::set_permissions(&first, Permissions::from_mode(SOCKET_MODE))?;
    fs::rename(&first, path)?;
    Ok((listener, SocketFile::of(path)?))
}

/// A directory of ours alone, removed when dropped.
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn make(parent: &Path) -> io::Result<Self> {
        // A short name: the paths of sockets must fit 107 bytes.
        let path = parent.join(format!(".w{:08x}", rand::random::<u32>()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // Empty, unless something failed half-way; then this is all that can be done.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A socket's file, removed when dropped if it is still the same.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
        })
    }

    fn is_still_there(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_still_there() {
            // Failing leaves a dead socket, which the next server replaces.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn unix(path: &Path) -> Address {
        Address::Unix(path.to_owned())
    }

    #[tokio::test]
    async fn a_socket_and_its_directory_are_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/wharf.sock");
        let listener = Listener::bind(&unix(&path)).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&path), SOCKET_MODE);
        assert_eq!(mode(path.parent().unwrap()) & !DIRECTORY_MODE, 0);
        let beside = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(beside, 1, "nothing else is left in the directory");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wharf.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _live = Listener::bind(&unix(&path)).await.unwrap();
        let second = Listener::bind(&unix(&path)).await;
        assert!(matches!(second, Err(ListenError::InUse { .. })));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
        for path in [&file, &link] {
            let bound = Listener::bind(&unix(path)).await;
            assert!(matches!(bound, Err(ListenError::NotASocket { .. })));
        }
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_socket_that_somebody_else_put_there_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wharf.sock");
        let listener = Listener::bind(&unix(&path)).await.unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_caller_on_a_unix_socket_is_known_by_its_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wharf.sock");
        let listener = Listener::bind(&unix(&path)).await.unwrap();
        let client = UnixStream::connect(&path);
        let (accepted, client) = tokio::join!(listener.accept(), client);
        let (_stream, principal) = accepted.unwrap();
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(principal, Principal::user(uid));
        drop(client);
    }

    #[tokio::test]
    async fn any_free_port_can_be_asked_for_and_is_reported() {
        for text in ["tcp://127.0.0.1:0", "tcp://[::1]:0"] {
            let listener = Listener::bind(&text.parse().unwrap()).await.unwrap();
            let Address::Tcp(address) = listener.address() else {
                unreachable!()
            };
            assert_ne!(address.port(), 0);
        }
    }

    #[test]
    fn addresses_of_other_hosts_and_other_kinds_are_refused() {
        let refused = |text: &str| text.parse::<Address>().unwrap_err();
        for text in ["tcp://0.0.0.0:1", "tcp://192.0.2.1:80", "tcp://[::]:1"] {
            assert!(matches!(refused(text), ListenError::NotLoopback { .. }));
        }
        for text in [
            "",
            "unix://",
            "unix:///",
            "unix://rel",
            "unix://@a",
            "/path",
            "tcp://localhost:1",
            "tcp://127.0.0.1",
            "vsock://1",
            "unix:///a\0b",
        ] {
            assert!(
                matches!(refused(text), ListenError::Malformed { .. }),
                "{text}"
            );
        }
    }

    #[test]
    fn an_address_reads_back_as_it_shows_itself() {
        for text in ["unix:///run/wharf/wharf.sock", "tcp://[::1]:7"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }
}
