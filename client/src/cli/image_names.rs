//! How people name images: by references, short or whole, and by ids.

use wharf_client::credentials::{DOCKER_IO, registry_of};

/// Fewest digits of an id that name an image.
const SHORTEST_ID: usize = 12;

/// Whether it is an id, or the beginning of one: `sha256:…`, or at least twelve hex digits.
pub(crate) fn is_id(image: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    image.starts_with("sha256:") || image.len() >= SHORTEST_ID && image.bytes().all(is_digit)
}

/// A reference as events and images have it: `docker.io/library/alpine:latest` for `alpine`. Nothing is checked.
pub(crate) fn whole(reference: &str) -> String {
    let registry = registry_of(reference);
    let path = match reference.split_once('/') {
        // What stands before the slash is the registry, by this or an older name.
        Some((first, path)) if registry != DOCKER_IO || first.contains('.') => path,
        Some(_) | None => reference,
    };
    let library = match registry == DOCKER_IO && !path.contains('/') {
        true => "library/",
        false => "",
    };
    let tag = match path.contains(['@', ':']) {
        true => "",
        false => ":latest",
    };
    format!("{registry}/{library}{path}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_references() {
        for id in ["sha256:0123", "0123456789ab", &"0a".repeat(32)] {
            assert!(is_id(id), "{id}");
        }
        for reference in ["alpine", "deadbeef", "0123456789ag", "0123456789ab:1"] {
            assert!(!is_id(reference), "{reference}");
        }
    }

    #[test]
    fn short_references_are_made_whole() {
        for (short, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.22", "docker.io/library/alpine:3.22"),
            ("team/app", "docker.io/team/app:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/alpine:1", "docker.io/library/alpine:1"),
            ("localhost/app", "localhost/app:latest"),
            ("host:5000/a/b", "host:5000/a/b:latest"),
            ("host:5000/a@sha256:00", "host:5000/a@sha256:00"),
        ] {
            assert_eq!(whole(short), full);
            assert_eq!(whole(full), full);
        }
    }
}
