//! Which of several platforms' images a host wants.

use std::collections::BTreeSet;
use std::fmt;

use crate::model::image::Platform;

/// The platforms that there are images for, besides the one wanted.
#[derive(Debug, Default)]
pub struct Offers(BTreeSet<String>);

impl Offers {
    /// There is one for this.
    pub fn add(&mut self, platform: &Platform) {
        // What builders call their attestations.
        if platform.os != "unknown" {
            self.0.insert(platform.to_string());
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Comma-separated.
impl fmt::Display for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<&str> = self.0.iter().map(String::as_str).collect();
        f.write_str(&all.join(", "))
    }
}

/// How well `offered` serves `wanted`: 0 is exactly, larger is worse, `None` not at all.
#[must_use]
pub fn distance(wanted: &Platform, offered: &Platform) -> Option<u32> {
    if wanted.os != offered.os || wanted.architecture != offered.architecture {
        return None;
    }
    let (want, offer) = (variant(wanted), variant(offered));
    if want == offer {
        return Some(0);
    }
    // A 32-bit ARM runs what is made for its predecessors.
    match wanted.architecture.as_str() {
        "arm" => level(want)?.checked_sub(level(offer)?),
        _ => None,
    }
}

/// The variant, with those made explicit or implicit that mean the same.
fn variant(platform: &Platform) -> &str {
    match (platform.architecture.as_str(), platform.variant.as_str()) {
        ("arm64", "v8") | ("amd64", "v1") => "",
        ("arm", "") => "v7",
        (_, variant) => variant,
    }
}

fn level(variant: &str) -> Option<u32> {
    variant.strip_prefix('v')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform {
            os: parts.next().unwrap_or_default(),
            architecture: parts.next().unwrap_or_default(),
            variant: parts.next().unwrap_or_default(),
        }
    }

    #[test]
    fn the_nearest_platform_is_found() {
        for (wanted, offered, expected) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v1", Some(0)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64", "linux/arm64", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/arm64/v8", "linux/arm64", Some(0)),
            ("linux/arm", "linux/arm/v7", Some(0)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm/v7", "linux/arm/odd", None),
        ] {
            let distance = distance(&platform(wanted), &platform(offered));
            assert_eq!(distance, expected, "{wanted} {offered}");
        }
    }
}
