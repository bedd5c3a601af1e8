//! Times, sizes and names as docker shows them.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

/// How much of an id a table shows.
const SHORT_ID: usize = 12;

/// "5 minutes ago"; empty without a time.
pub(crate) fn ago(time: Option<&Timestamp>) -> String {
    since(time).map_or_else(String::new, |age| format!("{} ago", span(age)))
}

/// "5 minutes"; empty without a time.
pub(crate) fn for_how_long(time: Option<&Timestamp>) -> String {
    since(time).map_or_else(String::new, span)
}

/// A time in the future, by another machine's clock, is now.
fn since(time: Option<&Timestamp>) -> Option<Duration> {
    let time = SystemTime::try_from(*time?).ok()?;
    Some(time.elapsed().unwrap_or_default())
}

/// A length of time in one unit, rounded down.
pub(crate) fn span(length: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match length.as_secs() {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        s if s < MINUTE => format!("{s} seconds"),
        s if s < 2 * MINUTE => "About a minute".to_owned(),
        s if s < HOUR => format!("{} minutes", s / MINUTE),
        s if s < 2 * HOUR => "About an hour".to_owned(),
        s if s < 2 * DAY => format!("{} hours", s / HOUR),
        s if s < 14 * DAY => format!("{} days", s / DAY),
        s if s < 60 * DAY => format!("{} weeks", s / (7 * DAY)),
        s if s < 730 * DAY => format!("{} months", s / (30 * DAY)),
        s => format!("{} years", s / (365 * DAY)),
    }
}

/// Three digits and a decimal unit: "4.22MB".
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn size(bytes: i64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    // What would be shown as 1000 belongs to the next unit.
    while value >= 999.5 {
        value /= 1000.0;
        unit = units.next();
    }
    let decimals = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    let digits = format!("{value:.decimals$}");
    let digits = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => &digits,
    };
    format!("{digits}{}", unit.unwrap_or(&""))
}

/// How much of ids and commands is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// Enough to tell them apart.
    Short,
    /// All.
    Full,
}

/// The flag that says so.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Truncation {
    /// Cut nothing short
    #[arg(long)]
    no_trunc: bool,
}

impl Truncation {
    pub(crate) fn width(&self) -> Width {
        match self.no_trunc {
            true => Width::Full,
            false => Width::Short,
        }
    }
}

impl Width {
    /// An id; a short one is also without its algorithm.
    pub(crate) fn id(self, id: &str) -> String {
        match self {
            Self::Full => id.to_owned(),
            Self::Short => {
                let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
                digits.chars().take(SHORT_ID).collect()
            }
        }
    }

    /// `text`, cut to `most` characters.
    pub(crate) fn text(self, text: &str, most: usize) -> String {
        match self {
            Self::Short if text.chars().count() > most => {
                let kept: String = text.chars().take(most - 1).collect();
                format!("{kept}…")
            }
            Self::Short | Self::Full => text.to_owned(),
        }
    }
}

/// A reference as people write it: without docker.io and library.
pub(crate) fn familiar(reference: &str) -> &str {
    let Some(short) = reference.strip_prefix("docker.io/") else {
        return reference;
    };
    short.strip_prefix("library/").unwrap_or(short)
}

/// Repository and tag of a reference; `<none>` for what it does not have.
pub(crate) fn repository_and_tag(reference: &str) -> (String, String) {
    const NONE: &str = "<none>";
    let name = familiar(reference);
    if let Some((repository, _)) = name.split_once('@') {
        return (repository.to_owned(), NONE.to_owned());
    }
    match name.rsplit_once(':') {
        // A colon before a slash belongs to a port.
        Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
        _ if name.is_empty() => (NONE.to_owned(), NONE.to_owned()),
        _ => (name.to_owned(), NONE.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_dockers_do() {
        let shown = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(shown(0), "Less than a second");
        assert_eq!(shown(59), "59 seconds");
        assert_eq!(shown(119), "About a minute");
        assert_eq!(shown(3599), "59 minutes");
        assert_eq!(shown(7199), "About an hour");
        assert_eq!(shown(47 * 3600), "47 hours");
        assert_eq!(shown(13 * 86_400), "13 days");
        assert_eq!(shown(30 * 86_400), "4 weeks");
        assert_eq!(shown(100 * 86_400), "3 months");
        assert_eq!(shown(800 * 86_400), "2 years");
    }

    #[test]
    fn sizes_have_three_digits_and_a_decimal_unit() {
        let shown = [
            0,
            5,
            999,
            1_000,
            4_215_896,
            78_100_000,
            999_600,
            1_230_000_000,
        ]
        .map(size);
        assert_eq!(
            shown,
            [
                "0B", "5B", "999B", "1kB", "4.22MB", "78.1MB", "1MB", "1.23GB"
            ]
        );
        assert_eq!(size(i64::MAX), "9.22EB");
    }

    #[test]
    fn references_split_into_repository_and_tag() {
        let split = |text| repository_and_tag(text);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            split("docker.io/library/alpine:3.22"),
            pair("alpine", "3.22")
        );
        assert_eq!(
            split("host:5000/team/app:v1"),
            pair("host:5000/team/app", "v1")
        );
        assert_eq!(split("docker.io/a/b@sha256:00"), pair("a/b", "<none>"));
        assert_eq!(split(""), pair("<none>", "<none>"));
    }

    #[test]
    fn a_short_id_is_twelve_digits_without_the_algorithm() {
        let id = "sha256:0123456789abcdef";
        assert_eq!(Width::Short.id(id), "0123456789ab");
        assert_eq!(Width::Full.id(id), id);
        assert_eq!(Width::Short.text("abcdef", 4), "abc…");
    }
}
