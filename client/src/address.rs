//! Where a server is: the text forms of `WHARF_HOST` and `--host`.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tonic::transport::Uri;

/// The environment variable that names the server.
pub const HOST_VARIABLE: &str = "WHARF_HOST";

const DEFAULT_SOCKET: &str = "/run/wharf/wharf.sock";

/// Where a server listens.
///
/// ```
/// use wharf_client::Address;
///
/// let address: Address = "unix:///run/wharf/wharf.sock".parse()?;
/// assert_eq!(address, Address::default());
/// assert!("tcp://127.0.0.1".parse::<Address>().is_err());
/// # Ok::<(), wharf_client::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket, by its absolute path: `unix:///run/wharf/wharf.sock`.
    Unix(PathBuf),
    /// Plain TCP, as `host:port`: `tcp://127.0.0.1:7780` or `http://127.0.0.1:7780`.
    Tcp(String),
}

/// Why a text is not an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The scheme is missing or unknown.
    #[error("address {0:?} must start with unix://, tcp:// or http://")]
    Scheme(String),
    /// The path of a Unix socket is not absolute.
    #[error("address {0:?} must name a socket by its absolute path, as in unix:///run/x.sock")]
    RelativePath(String),
    /// Not exactly a host and a port.
    #[error("address {0:?} must be a host and a port, as in tcp://127.0.0.1:7780")]
    HostAndPort(String),
    /// `WHARF_HOST` is not UTF-8.
    #[error("{HOST_VARIABLE} is not UTF-8")]
    NotUtf8,
}

impl Address {
    /// The address in `WHARF_HOST`, or the default one if it is unset or empty.
    ///
    /// # Errors
    /// Any [`AddressError`], if the variable is set to something else.
    pub fn from_env() -> Result<Self, AddressError> {
        match std::env::var(HOST_VARIABLE) {
            Ok(text) if !text.is_empty() => text.parse(),
            Ok(_) => Ok(Self::default()),
            Err(std::env::VarError::NotPresent) => Ok(Self::default()),
            Err(std::env::VarError::NotUnicode(_)) => Err(AddressError::NotUtf8),
        }
    }
}

impl Default for Address {
    fn default() -> Self {
        Self::Unix(PathBuf::from(DEFAULT_SOCKET))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.split_once("://") {
            Some(("unix", path)) if Path::new(path).is_absolute() => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => Err(AddressError::RelativePath(text.to_owned())),
            Some(("tcp" | "http", rest)) => host_and_port(rest)
                .map(Self::Tcp)
                .ok_or_else(|| AddressError::HostAndPort(text.to_owned())),
            _ => Err(AddressError::Scheme(text.to_owned())),
        }
    }
}

/// `host:port`, if `rest` is that and nothing more (a final slash aside).
fn host_and_port(rest: &str) -> Option<String> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let uri: Uri = format!("http://{rest}").parse().ok()?;
    let authority = uri.authority()?;
    let exact = authority.as_str() == rest && !rest.contains('@');
    (exact && !authority.host().is_empty() && authority.port_u16().is_some())
        .then(|| rest.to_owned())
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Infallible> for AddressError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(target) => write!(f, "tcp://{target}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_a_round_trip_through_text() {
        for text in [
            "unix:///run/wharf/wharf.sock",
            "tcp://127.0.0.1:7780",
            "tcp://[::1]:7780",
        ] {
            assert_eq!(
                text.parse::<Address>().map(|a| a.to_string()),
                Ok(text.to_owned())
            );
        }
        let http = "http://localhost:80/".parse::<Address>();
        assert_eq!(http, Ok(Address::Tcp("localhost:80".to_owned())));
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        let refused = |text: &str| text.parse::<Address>().err();
        assert_eq!(
            refused("/run/x.sock"),
            Some(AddressError::Scheme("/run/x.sock".into()))
        );
        assert_eq!(
            refused("unix://x.sock"),
            Some(AddressError::RelativePath("unix://x.sock".into()))
        );
        for text in [
            "tcp://127.0.0.1",
            "tcp://:80",
            "tcp://a:80/path",
            "http://u@a:80",
        ] {
            assert_eq!(refused(text), Some(AddressError::HostAndPort(text.into())));
        }
    }
}
