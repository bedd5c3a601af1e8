//! What an image's config declares, and nobody does anything about yet (image-spec, config.md; docker's `Healthcheck`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The declarations of one image.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    /// Directories that are meant to outlive containers, in order.
    pub(crate) volumes: Vec<String>,
    pub(crate) has_health_check: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ConfigJson {
    config: Option<ProcessJson>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ProcessJson {
    volumes: Option<BTreeMap<String, IgnoredAny>>,
    healthcheck: Option<HealthcheckJson>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HealthcheckJson {
    test: Option<Vec<String>>,
}

impl Declared {
    /// Reads a config. One that says it in another form declares nothing.
    pub(crate) fn by(config_json: &str) -> Self {
        let config: ConfigJson = serde_json::from_str(config_json).unwrap_or_default();
        let process = config.config.unwrap_or_default();
        let test = process.healthcheck.and_then(|check| check.test);
        let first = test.and_then(|test| test.into_iter().next());
        Self {
            volumes: process.volumes.unwrap_or_default().into_keys().collect(),
            has_health_check: first.is_some_and(|first| first != "NONE"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_and_a_health_check_are_seen() {
        let declared = Declared::by(
            r#"{"config": {"Volumes": {"/var/b": {}, "/a": {}}, "Healthcheck": {"Test": ["CMD", "true"]}}}"#,
        );
        assert_eq!(declared.volumes, ["/a", "/var/b"]);
        assert!(declared.has_health_check);
    }

    #[test]
    fn a_config_without_them_or_without_sense_declares_nothing() {
        for config in [
            "{}",
            "no JSON",
            r#"{"config": null}"#,
            r#"{"config": {"Volumes": null, "Healthcheck": null}}"#,
            r#"{"config": {"Volumes": {}, "Healthcheck": {"Test": ["NONE"]}}}"#,
            r#"{"config": {"Healthcheck": {"Test": []}}}"#,
            r#"{"config": {"Volumes": "/a"}}"#,
        ] {
            assert_eq!(Declared::by(config), Declared::default(), "{config}");
        }
    }
}
