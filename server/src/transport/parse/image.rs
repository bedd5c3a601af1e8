//! The requests of `ImageService`, and how a create asks for its image.

use std::time::Duration;

use wharf_api::v1;

use super::{Field, filter, labels, name, reason, text, time};
use crate::engine::{PullFirst, PullImage, PullPolicy, PushImage};
use crate::model::image::Platform;
use crate::model::spec::TextMap;
use crate::model::{Image, limits};
use crate::oci::reference::ImageKey;
use crate::registry::Credentials;
use crate::transport::Violations;

/// Reads how a create gets its image: for which platform, and whether it is pulled first.
pub(super) fn pull(
    pull: Option<v1::PullOptions>,
    field: &Field<'_>,
    out: &mut Violations,
) -> (Option<Platform>, PullFirst) {
    use v1::PullPolicy as Asked;
    let pull = pull.unwrap_or_default();
    let policy = field.child("policy").enumeration(pull.policy, out);
    let policy = match policy.unwrap_or_default() {
        Asked::Unspecified | Asked::Never => PullPolicy::Never,
        Asked::IfMissing => PullPolicy::IfMissing,
        Asked::Always => PullPolicy::Always,
    };
    let credentials = auth(pull.auth, &field.child("auth"), out);
    let platform = platform(pull.platform, &field.child("platform"), out);
    (
        platform,
        PullFirst {
            policy,
            credentials,
        },
    )
}

/// Reads a platform; what it leaves open is the host's.
fn platform(
    platform: Option<v1::Platform>,
    field: &Field<'_>,
    out: &mut Violations,
) -> Option<Platform> {
    let platform = platform?;
    let mut part = |value: String, name| {
        let field = field.child(name);
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if text::check(&value, limits::MAX_NAME_BYTES, &field, out) && !value.bytes().all(is_plain)
        {
            field.reject(reason::MALFORMED, "must be of [a-z0-9._-]", out);
        }
        text::non_empty(value)
    };
    let host = Platform::host();
    let os = part(platform.os, "os").unwrap_or(host.os);
    let architecture = part(platform.architecture, "architecture");
    let variant = part(platform.variant, "variant").unwrap_or_default();
    Some(Platform {
        os,
        architecture: architecture.unwrap_or(host.architecture),
        variant,
    })
}

/// Checks which image is meant.
pub(crate) fn key(image: &str, out: &mut Violations) {
    name::image(image, &Field::new("image"), out);
}

/// Reads the reference that an image is to get, normalised.
pub(crate) fn new_reference(text: &str, out: &mut Violations) -> String {
    name::new_reference(text, &Field::new("reference"), out).unwrap_or_default()
}

/// What a pull is to bring, and how often its caller wants to hear of it.
pub(crate) fn pull_image(
    request: v1::PullImageRequest,
    out: &mut Violations,
) -> Option<(PullImage, Duration)> {
    let interval = Field::new("progress_interval");
    // Zero is as good as not set.
    let asked = request.progress_interval;
    let asked = asked.filter(|asked| *asked != prost_types::Duration::default());
    let bounds = (
        limits::SHORTEST_TRANSFER_NEWS,
        limits::LONGEST_TRANSFER_NEWS,
    );
    let asked = time::duration(asked, bounds, &interval, out);
    let interval = asked.unwrap_or(limits::TRANSFER_NEWS);
    let reference = name::reference(&request.image, &Field::new("image"), out);
    let platform = platform(request.platform, &Field::new("platform"), out);
    let credentials = auth(request.auth, &Field::new("auth"), out);
    let pull = PullImage {
        reference: reference?,
        platform,
        credentials,
        continues: request.continue_on_disconnect,
    };
    Some((pull, interval))
}

/// What a push is to bring where.
pub(crate) fn push_image(request: v1::PushImageRequest, out: &mut Violations) -> PushImage {
    key(&request.image, out);
    let field = Field::new("destination");
    let destination = text::non_empty(request.destination);
    PushImage {
        image: request.image,
        destination: destination.and_then(|text| name::reference(&text, &field, out)),
        credentials: auth(request.auth, &Field::new("auth"), out),
    }
}

/// Whose image it is to be.
fn auth(
    auth: Option<v1::RegistryAuth>,
    field: &Field<'_>,
    out: &mut Violations,
) -> Option<Credentials> {
    use v1::registry_auth::Credentials as Kind;
    let mut secret = |text: &str, name| {
        let field = field.child(name);
        text::check(text, limits::MAX_SECRET_BYTES, &field, out);
    };
    match auth?.credentials {
        None => {
            field.missing(out);
            None
        }
        Some(Kind::Basic(basic)) => {
            secret(&basic.username, "basic.username");
            secret(&basic.password, "basic.password");
            Some(Credentials::Basic {
                username: basic.username,
                password: basic.password,
            })
        }
        Some(Kind::IdentityToken(token)) => {
            secret(&token, "identity_token");
            Some(Credentials::IdentityToken(token))
        }
        Some(Kind::RegistryToken(token)) => {
            secret(&token, "registry_token");
            Some(Credentials::RegistryToken(token))
        }
    }
}

/// How an import starts: the reference (normalised) for an archive without one, and the platform.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    pub(crate) reference: Option<String>,
    pub(crate) platform: Option<Platform>,
}

pub(crate) fn import(start: &v1::ImportImageStart, out: &mut Violations) -> Import {
    let field = Field::new("start");
    let (key, reference) = (field.child("idempotency_key"), field.child("reference"));
    name::idempotency_key_of(&start.idempotency_key, &key, out);
    Import {
        reference: (!start.reference.is_empty())
            .then(|| name::new_reference(&start.reference, &reference, out).unwrap_or_default()),
        platform: platform(start.platform.clone(), &field.child("platform"), out),
    }
}

/// Reads which images are to be archived, and for which platform.
pub(crate) fn export(
    request: v1::ExportImageRequest,
    out: &mut Violations,
) -> (Vec<String>, Option<Platform>) {
    let images = Field::new("images");
    if request.images.is_empty() {
        images.missing(out);
    }
    if images.count(request.images.len(), limits::MAX_EXPORT_IMAGES, out) {
        for (at, image) in request.images.iter().enumerate() {
            name::image(image, &images.at(at), out);
        }
    }
    let platform = platform(request.platform, &Field::new("platform"), out);
    (request.images, platform)
}

/// Which images somebody wants. Fields are ANDed, references ORed, labels ANDed.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImageFilter {
    references: Vec<Pattern>,
    labels: TextMap,
    dangling: Option<bool>,
    unused: Option<bool>,
}

#[derive(Debug, Clone)]
enum Pattern {
    /// The image with this reference or id.
    Exactly(ImageKey),
    /// Whatever starts so, with or without what normalising adds in front.
    StartsWith(String),
}

pub(crate) fn list(request: v1::ListImagesRequest, out: &mut Violations) -> ImageFilter {
    wanted(request.filter, &Field::new("filter"), out)
}

/// Reads which unused images are to go; dangling ones, unless it says otherwise.
pub(crate) fn prune(request: v1::PruneImagesRequest, out: &mut Violations) -> ImageFilter {
    let field = Field::new("filter");
    let filter = wanted(request.filter, &field, out);
    if filter.unused == Some(false) {
        let unused = field.child("unused");
        unused.reject(reason::CONFLICT, "only unused images are pruned", out);
    }
    ImageFilter {
        dangling: filter.dangling.or(Some(true)),
        unused: Some(true),
        ..filter
    }
}

fn wanted(filter: Option<v1::ImageFilter>, field: &Field<'_>, out: &mut Violations) -> ImageFilter {
    let filter = filter.unwrap_or_default();
    ImageFilter {
        references: filter::values(filter.references, &field.child("references"), out, pattern),
        labels: labels::wanted(filter.labels, &field.child("labels"), out),
        dangling: filter.dangling,
        unused: filter.unused,
    }
}

fn pattern(text: String, field: &Field<'_>, out: &mut Violations) -> Option<Pattern> {
    match text.strip_suffix('*') {
        Some(start) => {
            text::check(start, limits::MAX_REFERENCE_BYTES, field, out);
            Some(Pattern::StartsWith(start.to_owned()))
        }
        None => name::image(&text, field, out).map(Pattern::Exactly),
    }
}

impl ImageFilter {
    /// Whether `image` is wanted. `containers` counts those that use it, and is called only if that
    /// matters.
    pub(crate) fn matches(&self, image: &Image, containers: impl FnOnce() -> usize) -> bool {
        let references_fit = self.references.is_empty()
            || self.references.iter().any(|pattern| pattern.matches(image));
        let labels_fit = self
            .labels
            .iter()
            .all(|(key, value)| image.config.labels.get(key) == Some(value));
        references_fit
            && labels_fit
            && self
                .dangling
                .is_none_or(|dangling| image.references.is_empty() == dangling)
            && self
                .unused
                .is_none_or(|unused| (containers() == 0) == unused)
    }
}

impl Pattern {
    fn matches(&self, image: &Image) -> bool {
        match self {
            Self::Exactly(ImageKey::Id(digest)) => {
                image.id == *digest || image.target.digest == *digest
            }
            Self::Exactly(ImageKey::Reference(reference)) => image.references.contains(reference),
            Self::StartsWith(start) => image
                .references
                .iter()
                .any(|name| name.starts_with(start) || familiar(name).starts_with(start)),
        }
    }
}

/// A reference as people write it: without the registry and path that normalising adds.
fn familiar(name: &str) -> &str {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    short.strip_prefix("library/").unwrap_or(short)
}
