//! How the proxy misbehaves.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Empty};
use tonic::{Code, Status};

use super::Body;

/// What happens to a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It gets this answer, and containerd never sees it.
    Status(Code, &'static str),
    /// It is passed on after this long.
    Delay(Duration),
    /// It gets no answer, and containerd never sees it.
    Hang,
    /// Containerd does it, but every connection breaks before the answer.
    ActThenCut,
    /// Every connection breaks, and containerd never sees it.
    Cut,
}

/// Which calls it happens to.
#[derive(Debug, Default)]
pub struct Faults(HashMap<String, (Fault, Option<usize>)>);

impl Faults {
    pub fn set(&mut self, path: &str, fault: Fault, times: Option<usize>) {
        self.0.insert(path.to_owned(), (fault, times));
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What happens to the next call of `path`.
    pub fn take(&mut self, path: &str) -> Option<Fault> {
        let (fault, times) = self.0.get_mut(path)?;
        let fault = fault.clone();
        if let Some(left) = times {
            *left -= 1;
            if *left == 0 {
                self.0.remove(path);
            }
        }
        Some(fault)
    }
}

/// An answer of trailers only.
pub fn status(code: Code, message: &str) -> Response<Body> {
    let response = Status::new(code, message).into_http::<()>();
    let nothing = Empty::<Bytes>::new()
        .map_err(|never| match never {})
        .boxed();
    response.map(|()| nothing)
}
