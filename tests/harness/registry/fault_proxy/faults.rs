//! What happens, and to which requests.

use std::collections::VecDeque;

use bytes::Bytes;
use http::Method;

use super::Asked;

/// Which requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    Manifests,
    Blobs,
    /// One, by its digest.
    Blob(String),
    Uploads,
    /// What is not below `/v2`.
    Tokens,
    Anything,
}

impl At {
    pub fn is(&self, path: &str) -> bool {
        match self {
            Self::Manifests => path.contains("/manifests/"),
            Self::Blobs => blob(path).is_some(),
            Self::Blob(digest) => blob(path) == Some(digest),
            Self::Uploads => path.contains("/blobs/uploads"),
            Self::Tokens => !path.starts_with("/v2"),
            Self::Anything => true,
        }
    }
}

/// The digest of the blob that a path is of.
pub fn blob(path: &str) -> Option<&str> {
    let (_, digest) = path.split_once("/blobs/")?;
    digest.starts_with("sha256:").then_some(digest)
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status, and the registry never sees the request.
    Status(u16),
    /// 401, with this challenge.
    Challenge(String),
    /// 429, with `Retry-After` if there is a number of seconds.
    TooMany(Option<u64>),
    /// The connection ends before the answer.
    Cut,
    /// No answer.
    Hang,
    /// The connection ends after so many bytes of the body.
    CutAfter(u64),
    /// Nothing comes any more after so many bytes of the body, and the connection stays.
    StallAfter(u64),
    /// The body comes by so many bytes a second.
    Drip(u64),
    /// The byte in the middle of the body is another.
    WrongByte,
    /// The first byte of the body is another: what it is, is not recognised.
    WrongStart,
    /// Half of the body, with the length of that half.
    Half,
    /// Another body of this media type, with all that is right about it.
    Instead(&'static str, Bytes),
    /// A body of this media type that never ends.
    Endless(&'static str),
    /// The same path at another host.
    Redirect(String),
    /// A range that is asked for is not minded: all of it comes, with 200.
    WholeForRange,
    /// Another range than the one asked for, with its own name.
    OtherRange,
}

impl Fault {
    /// Whether it can happen to a request at all.
    fn concerns(&self, asked: &Asked) -> bool {
        match self {
            Self::Status(_) | Self::Challenge(_) | Self::TooMany(_) | Self::Cut | Self::Hang => {
                true
            }
            Self::WholeForRange | Self::OtherRange => asked.range().is_some(),
            _ => asked.method == Method::GET,
        }
    }
}

/// What is still to happen.
#[derive(Debug, Default)]
pub struct Program(VecDeque<(At, Fault, Option<usize>)>);

impl Program {
    pub fn add(&mut self, at: At, fault: Fault, times: Option<usize>) {
        self.0.push_back((at, fault, times));
    }

    /// What happens to this request.
    pub fn take(&mut self, asked: &Asked) -> Option<Fault> {
        let place = self
            .0
            .iter()
            .position(|(at, fault, _)| asked.is_at(at) && fault.concerns(asked))?;
        let (_, fault, times) = &mut self.0[place];
        let fault = fault.clone();
        if let Some(left) = times {
            *left -= 1;
            if *left == 0 {
                self.0.remove(place);
            }
        }
        Some(fault)
    }
}
