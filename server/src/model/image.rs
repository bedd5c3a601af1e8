//! Images as the engine knows them: enough to create a container without asking the backend.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::signal::Signal;
use super::spec::TextMap;

/// `sha256:` and 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Arc<str>);

/// The text is not a SHA-256 digest.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a sha256 digest")]
pub struct InvalidDigest;

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::digest(bytes).into())
    }

    /// The digest that a finished SHA-256 gave.
    #[must_use]
    pub fn from_hash(hash: [u8; 32]) -> Self {
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in hash {
            text.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
            text.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        }
        Self(text.into())
    }

    /// What stands for the chain id of an image without layers: the digest of nothing.
    #[must_use]
    pub fn empty_chain() -> Self {
        Self::of(&[])
    }

    /// With its algorithm, `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hex digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0[7..]
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let hex = text.strip_prefix("sha256:").ok_or(InvalidDigest)?;
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != 64 || !hex.bytes().all(is_digit) {
            return Err(InvalidDigest);
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Points at content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: Digest,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// What content runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, as Go names architectures.
    pub architecture: String,
    /// `v8`; empty if it has none.
    pub variant: String,
}

impl Platform {
    /// This host's.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            other => (other, ""),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }
}

impl Platform {
    /// Whether content for this platform is what `wanted` asks for; no variant asked for is any.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_empty() || self.variant == wanted.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", self.variant)
        }
    }
}

/// What an image says of the process it is made for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Program.
    pub entrypoint: Vec<String>,
    /// Arguments, or the program if there is no entrypoint.
    pub cmd: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Directory; may be empty.
    pub working_dir: String,
    /// As `ProcessSpec.user`; may be empty.
    pub user: String,
    /// What asks it to stop.
    pub stop_signal: Option<Signal>,
    /// The image's labels.
    pub labels: TextMap,
}

/// The image's `/etc/passwd` and `/etc/group`, so that users can be looked up before there is a root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFiles {
    /// Contents of `/etc/passwd`; empty if there is none.
    pub passwd: String,
    /// Contents of `/etc/group`; empty if there is none.
    pub group: String,
}

/// A layer of an image, as it is stored and as it is unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLayer {
    /// The blob as it came.
    pub blob: Descriptor,
    /// Names the stack of unpacked layers up to and with this one.
    pub chain_id: Digest,
}

/// One image of one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of its config.
    pub id: Digest,
    /// Normalised references; empty if dangling.
    pub references: BTreeSet<String>,
    /// Its manifest.
    pub target: Descriptor,
    /// What it runs on.
    pub platform: Platform,
    /// Compressed content, all blobs together.
    pub content_bytes: u64,
    /// Unpacked layers.
    pub unpacked_bytes: u64,
    /// Its layers, lowest first. None if its record is older than this field: nobody then knows what it shares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<ImageLayer>,
    /// The top layer's chain id: the parent of the roots made from it.
    pub chain_id: Digest,
    /// When it came here.
    pub create_time: SystemTime,
    /// What it says of its process.
    pub config: Arc<ImageConfig>,
    /// Its accounts.
    pub accounts: Arc<AccountFiles>,
    /// The OCI config as it came, JSON.
    pub config_json: Arc<str>,
}

impl Image {
    /// The name that keeps an image's content in the backend while no reference does.
    #[must_use]
    pub fn dangling_name(&self) -> String {
        Self::dangling_name_of(&self.id)
    }

    /// That name, for the image with this id.
    #[must_use]
    pub fn dangling_name_of(id: &Digest) -> String {
        format!("wharf.dev/dangling@{id}")
    }
}
