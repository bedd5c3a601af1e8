//! Image references: the distribution project's grammar, and its "familiar" short forms made whole.
//!
//! Owns what a reference is and how its one normalised form looks. Knows no registry: the default
//! domain is part of the grammar that every user's short names rely on.
//!
//! Source: github distribution/reference, reference.go (grammar) and normalize.go (short forms).

use std::fmt;

use thiserror::Error;

use crate::model::Digest;
use crate::model::limits::MAX_REFERENCE_BYTES;

/// What a name without a domain is in.
const DEFAULT_DOMAIN: &str = "docker.io";
/// The default domain's older name.
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// Where names of one component are, in the default domain.
const OFFICIAL_PREFIX: &str = "library/";
/// What a reference with neither tag nor digest means.
const DEFAULT_TAG: &str = "latest";
/// Longest domain and path together.
const MAX_NAME_BYTES: usize = 255;
/// Longest tag.
const MAX_TAG_BYTES: usize = 128;

/// Why a text is no image reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidReference {
    /// It is empty.
    #[error("the image reference is empty")]
    Empty,
    /// It, or its name, is too long.
    #[error("the image reference is longer than {limit} bytes")]
    TooLong {
        /// The limit that it breaks.
        limit: usize,
    },
    /// Its domain is no host name, with a port or not.
    #[error("the image reference's domain is not a host name")]
    Domain,
    /// Its path has an upper-case letter.
    #[error("the image reference's path has an upper-case letter")]
    UpperCase,
    /// Its path is not of lower-case letters and digits, with single separators between them.
    #[error("the image reference's path is malformed")]
    Path,
    /// Its tag is not a letter, digit or `_`, and up to 127 more or `.` or `-`.
    #[error("the image reference's tag is malformed")]
    Tag,
    /// Its digest is not `sha256:` and 64 lower-case hex digits.
    #[error("the image reference's digest is not a sha256 digest")]
    Digest,
    /// It is `sha256:` and 64 hex digits, or these alone: an id.
    #[error("64 hex digits are an image id, not a reference")]
    Id,
}

/// What a caller means by the name of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageKey {
    /// The digest of its config or of its manifest.
    Id(Digest),
    /// A reference, normalised.
    Reference(String),
}

impl ImageKey {
    /// Tells an id (`sha256:…`, or its 64 hex digits alone) from a reference. What looks like the start
    /// of an id is taken for a reference.
    ///
    /// # Errors
    /// [`InvalidReference`].
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        if let Ok(digest) = text.parse() {
            return Ok(Self::Id(digest));
        }
        if is_hex_id(text) {
            let digest = format!("sha256:{text}").parse();
            return digest.map(Self::Id).map_err(|_| InvalidReference::Digest);
        }
        if text.starts_with("sha256:") {
            return Err(InvalidReference::Digest);
        }
        normalize(text).map(Self::Reference)
    }
}

/// The one full form of a reference: domain, path, and tag or digest or both.
/// `alpine` becomes `docker.io/library/alpine:latest`.
///
/// # Errors
/// [`InvalidReference`].
pub fn normalize(text: &str) -> Result<String, InvalidReference> {
    if text.is_empty() {
        return Err(InvalidReference::Empty);
    }
    if text.len() > MAX_REFERENCE_BYTES {
        return Err(InvalidReference::TooLong {
            limit: MAX_REFERENCE_BYTES,
        });
    }
    if is_hex_id(text) || text.parse::<Digest>().is_ok() {
        return Err(InvalidReference::Id);
    }
    let parts = split(text);
    check(&parts)?;
    Ok(parts.join())
}

/// A reference in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Whose registry it is: `docker.io`, `registry.example:5000`.
    pub domain: String,
    /// `library/alpine`.
    pub repository: String,
    /// What is meant in there.
    pub version: Version,
}

/// What of a repository a reference means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// Whatever has that tag at the time.
    Tag(String),
    /// This content. What tag it has is not looked at.
    Digest(Digest),
}

impl Reference {
    /// Reads a reference, in whatever form.
    ///
    /// # Errors
    /// [`InvalidReference`].
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        let whole = normalize(text)?;
        let parts = split(&whole);
        let version = match parts.digest {
            Some(digest) => Version::Digest(digest.parse().map_err(|_| InvalidReference::Digest)?),
            None => Version::Tag(parts.tag.unwrap_or(DEFAULT_TAG).to_owned()),
        };
        Ok(Self {
            domain: parts.domain.to_owned(),
            repository: format!("{}{}", parts.prefix, parts.path),
            version,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.version {
            Version::Tag(_) => ':',
            Version::Digest(_) => '@',
        };
        let (domain, repository, version) = (&self.domain, &self.repository, &self.version);
        write!(f, "{domain}/{repository}{mark}{version}")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A reference taken apart; nothing is checked yet.
struct Parts<'a> {
    domain: &'a str,
    prefix: &'static str,
    path: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl Parts<'_> {
    fn join(&self) -> String {
        let mut result = format!("{}/{}{}", self.domain, self.prefix, self.path);
        let tag = match (self.tag, self.digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        for (mark, part) in [(':', tag), ('@', self.digest)] {
            if let Some(part) = part {
                result.push(mark);
                result.push_str(part);
            }
        }
        result
    }
}

fn split(text: &str) -> Parts<'_> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let (domain, rest) = split_domain(rest);
    // What follows the last colon is a tag; the domain with its port is already off.
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    let official = domain == DEFAULT_DOMAIN && !path.contains('/');
    Parts {
        domain,
        prefix: if official { OFFICIAL_PREFIX } else { "" },
        path,
        tag,
        digest,
    }
}

/// The first component is a domain if it could not be a path: it has a dot, a colon or an upper-case
/// letter, or is `localhost`.
fn split_domain(text: &str) -> (&str, &str) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN, text);
    };
    let is_domain = first == "localhost"
        || first.contains(['.', ':'])
        || first.chars().any(|c| c.is_ascii_uppercase());
    match first {
        LEGACY_DEFAULT_DOMAIN => (DEFAULT_DOMAIN, rest),
        _ if is_domain => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    }
}

fn check(parts: &Parts<'_>) -> Result<(), InvalidReference> {
    if !is_domain(parts.domain) {
        return Err(InvalidReference::Domain);
    }
    if parts.path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(InvalidReference::UpperCase);
    }
    if !parts.path.split('/').all(is_path_component) {
        return Err(InvalidReference::Path);
    }
    if parts.domain.len() + 1 + parts.prefix.len() + parts.path.len() > MAX_NAME_BYTES {
        return Err(InvalidReference::TooLong {
            limit: MAX_NAME_BYTES,
        });
    }
    if parts.tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(InvalidReference::Tag);
    }
    if parts
        .digest
        .is_some_and(|digest| digest.parse::<Digest>().is_err())
    {
        return Err(InvalidReference::Digest);
    }
    Ok(())
}

/// A host name or an IPv6 address in brackets, and a port or none.
fn is_domain(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        return rest
            .split_once(']')
            .is_some_and(|(address, port)| is_ipv6(address) && is_port_suffix(port));
    }
    let (host, port) = match text.find(':') {
        Some(colon) => text.split_at(colon),
        None => (text, ""),
    };
    host.split('.').all(is_domain_component) && is_port_suffix(port)
}

fn is_domain_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-';
    let at_ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    at_ends(bytes.first()) && at_ends(bytes.last()) && bytes.iter().all(inner)
}

fn is_ipv6(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
}

/// Nothing, or a colon and digits.
fn is_port_suffix(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Lower-case letters and digits; between them `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends_in_words = text.starts_with(is_word) && text.ends_with(is_word);
    let is_separator = |s: &str| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-');
    ends_in_words && text.split(is_word).all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let is_rest = |b: u8| is_word(b) || b == b'.' || b == b'-';
    text.len() <= MAX_TAG_BYTES
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(is_rest)
}

fn is_hex_id(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn short_names_are_made_whole() {
        for (short, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("team/app", "docker.io/team/app:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("host:5000/a/b/c", "host:5000/a/b/c:latest"),
            ("Host/app", "Host/app:latest"),
            ("example.test/app", "example.test/app:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest"),
            ("host:5000", "docker.io/library/host:5000"),
        ] {
            assert_eq!(normalize(short).as_deref(), Ok(full), "{short}");
        }
    }

    #[test]
    fn a_digest_needs_no_tag_but_may_have_one() {
        let digest = format!("sha256:{HEX}");
        for tag in ["", ":v1"] {
            let full = format!("docker.io/library/alpine{tag}@{digest}");
            assert_eq!(normalize(&format!("alpine{tag}@{digest}")), Ok(full));
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        let long_path = "a".repeat(256);
        let long = "a".repeat(513);
        let id = format!("sha256:{HEX}");
        let long_tag = format!("a:{}", "t".repeat(129));
        use InvalidReference as E;
        for (text, error) in [
            ("", E::Empty),
            (HEX, E::Id),
            (&id, E::Id),
            ("Alpine", E::UpperCase),
            ("a/B", E::UpperCase),
            ("a//b", E::Path),
            ("/a", E::Path),
            ("a/", E::Path),
            ("a..b", E::Path),
            ("a___b", E::Path),
            ("-a", E::Path),
            ("a b", E::Path),
            ("../../etc", E::Domain),
            ("a/../b", E::Path),
            ("a:", E::Tag),
            ("a:-x", E::Tag),
            ("a:x/y", E::Domain),
            ("a@", E::Digest),
            ("a@sha256:12", E::Digest),
            ("a@md5:0123", E::Digest),
            ("-.x/a", E::Domain),
            ("h:p/a", E::Domain),
            ("[::1/a", E::Domain),
            ("é", E::Path),
            (&long_tag, E::Tag),
            (&long_path, E::TooLong { limit: 255 }),
            (&long, E::TooLong { limit: 512 }),
        ] {
            assert_eq!(normalize(text), Err(error), "{text}");
        }
    }

    #[test]
    fn ids_are_told_from_references() {
        let digest = || format!("sha256:{HEX}").parse().expect("a digest");
        assert_eq!(ImageKey::parse(HEX), Ok(ImageKey::Id(digest())));
        assert_eq!(
            ImageKey::parse(&format!("sha256:{HEX}")),
            Ok(ImageKey::Id(digest()))
        );
        assert_eq!(
            ImageKey::parse("alpine"),
            Ok(ImageKey::Reference(
                "docker.io/library/alpine:latest".to_owned()
            ))
        );
        assert_eq!(
            ImageKey::parse(&HEX[..12]),
            Ok(ImageKey::Reference(format!(
                "docker.io/library/{}:latest",
                &HEX[..12]
            ))),
            "a shortened id is none"
        );
        assert_eq!(
            ImageKey::parse("sha256:0123"),
            Err(InvalidReference::Digest)
        );
    }

    proptest! {
        #[test]
        fn any_text_is_normalised_or_refused(text in any::<String>()) {
            let _ = ImageKey::parse(&text);
        }

        #[test]
        fn a_normalised_reference_is_its_own_normal_form(
            text in "([a-zA-Z0-9.-]{1,8}(:[0-9]{1,3})?/)?[a-z0-9._/-]{1,12}(:[a-zA-Z0-9._-]{1,5})?"
        ) {
            if let Ok(once) = normalize(&text) {
                prop_assert_eq!(normalize(&once), Ok(once.clone()));
            }
        }
    }
}
