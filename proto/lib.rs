//! The `wharf.v1` API: its messages, generated clients and servers, the names of its metadata keys,
//! and tables of its methods and error reasons.
//!
//! The contract itself, with units, defaults and limits, stands in the `.proto` files beside this one.

use std::fmt;

/// Messages, clients and servers of the package `wharf.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated; documented in the .proto files"
)]
pub mod v1 {
    tonic::include_proto!("wharf.v1");

    /// Credentials never show up in logs, whoever formats a request.
    macro_rules! redacted {
        ($($message:ty),*) => {$(
            impl std::fmt::Debug for $message {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str(concat!(stringify!($message), " { redacted }"))
                }
            }
        )*};
    }
    redacted!(RegistryAuth, registry_auth::Credentials, BasicAuth);
}

pub use v1::ErrorReason;

/// The encoded `google.protobuf.FileDescriptorSet` of the API, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/wharf.v1.bin"));

/// `google.rpc.ErrorInfo.domain` of every error.
pub const ERROR_DOMAIN: &str = "wharf";

/// Names of the metadata keys that the API reads and writes.
pub mod metadata {
    /// Correlates a call with its log lines, events and errors: 1 to 128 of `[A-Za-z0-9._:@/+=-]`.
    /// Echoed in the answer's headers and trailers.
    pub const REQUEST_ID: &str = "x-request-id";
    /// `1` in the answer when the request id that was sent could not be used and was replaced.
    pub const REQUEST_ID_REJECTED: &str = "x-request-id-rejected";
    /// `true` in the answer when it is the stored one of an earlier call with the same idempotency key.
    pub const IDEMPOTENT_REPLAY: &str = "x-idempotent-replay";
    /// Milliseconds to wait before a retry, as gRPC's retry design (A6) reads it.
    pub const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";
    /// W3C trace context.
    pub const TRACEPARENT: &str = "traceparent";
}

/// The limits of request ids and idempotency keys.
pub mod token {
    /// The longest request id or idempotency key, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Whether `text` may be a request id or an idempotency key: 1 to 128 of `[A-Za-z0-9._:@/+=-]`.
    ///
    /// ```
    /// assert!(wharf_api::token::is_valid("deploy-42/step:3"));
    /// assert!(!wharf_api::token::is_valid("two words"));
    /// ```
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        (1..=MAX_LEN).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._:@/+=-".contains(&b))
    }
}

/// What repeating a call does, as the proto's `idempotency_level` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// It only reads.
    NoSideEffects,
    /// Repeating it has no further effect.
    Idempotent,
    /// Repeating it acts again, unless the request carries an idempotency key.
    Unknown,
}

/// One RPC of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// `/wharf.v1.ContainerService/GetContainer`.
    pub path: &'static str,
    /// `wharf.v1.ContainerService`.
    pub service: &'static str,
    /// `GetContainer`.
    pub name: &'static str,
    /// Whether the client sends a stream.
    pub client_streaming: bool,
    /// Whether the server sends a stream.
    pub server_streaming: bool,
    /// What repeating it does.
    pub idempotency: Idempotency,
}

/// Every RPC of the API, by file and in the order of declaration.
pub const METHODS: &[Method] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

impl Method {
    /// Finds the method that `path` names.
    #[must_use]
    pub fn by_path(path: &str) -> Option<&'static Method> {
        METHODS.iter().find(|method| method.path == path)
    }
}

impl ErrorReason {
    /// Every reason but the unspecified one.
    pub fn all() -> impl Iterator<Item = ErrorReason> {
        // Values are dense and only ever added, so the first number without a reason ends them.
        (1..).map_while(|number| ErrorReason::try_from(number).ok())
    }
}

impl fmt::Display for ErrorReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str_name())
    }
}
