//! Log entries as lines: bytes as they were written, after what was asked to stand before them.

use std::borrow::Cow;

use wharf_client::v1::{LogEntry, OutputStream};

/// Whether lines begin with their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamps {
    Shown,
    Hidden,
}

/// The lines of one container.
#[derive(Debug)]
pub(crate) struct Lines {
    /// "web | "; empty for none.
    name: String,
    stamps: Stamps,
    /// Streams whose last line goes on.
    open: Vec<OutputStream>,
}

impl Lines {
    /// Without a name.
    pub(crate) fn plain(stamps: Stamps) -> Self {
        Self {
            name: String::new(),
            stamps,
            open: Vec::new(),
        }
    }

    /// Each line after the container's name.
    pub(crate) fn named(name: &str, stamps: Stamps) -> Self {
        Self {
            name: format!("{name} | "),
            ..Self::plain(stamps)
        }
    }

    /// An entry, as it is to be shown.
    pub(crate) fn render<'a>(&mut self, entry: &'a LogEntry) -> Cow<'a, [u8]> {
        let stream = entry.stream();
        let goes_on = self.open.contains(&stream);
        self.open.retain(|open| *open != stream);
        if entry.partial {
            self.open.push(stream);
        }
        let named = !self.name.is_empty();
        let ends = entry.partial || entry.data.ends_with(b"\n");
        if goes_on && (ends || !named) || (!named && self.stamps == Stamps::Hidden) {
            return Cow::Borrowed(&entry.data);
        }
        let mut line = Vec::new();
        if !goes_on {
            line.extend_from_slice(self.name.as_bytes());
            line.extend_from_slice(self.stamp(entry).as_bytes());
        }
        line.extend_from_slice(&entry.data);
        if !ends && named {
            // The next line may be another container's.
            line.push(b'\n');
        }
        Cow::Owned(line)
    }

    fn stamp(&self, entry: &LogEntry) -> String {
        match (self.stamps, &entry.time) {
            (Stamps::Shown, Some(time)) => format!("{time} "),
            (Stamps::Shown, None) | (Stamps::Hidden, _) => String::new(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn entry(data: &'static str) -> LogEntry {
        LogEntry {
            time: Some("2026-01-02T03:04:05.25Z".parse().unwrap()),
            stream: OutputStream::Stdout.into(),
            data: data.into(),
            partial: false,
        }
    }

    fn part(data: &'static str) -> LogEntry {
        LogEntry {
            partial: true,
            ..entry(data)
        }
    }

    fn shown(mut lines: Lines, entries: &[LogEntry]) -> String {
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|entry| lines.render(entry).into_owned())
            .collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn plain_lines_are_the_bytes_that_were_written() {
        let entries = [entry("a\n"), part("b"), entry("c"), entry("\u{1b}[1m")];
        assert_eq!(
            shown(Lines::plain(Stamps::Hidden), &entries),
            "a\nbc\u{1b}[1m"
        );
    }

    #[test]
    fn only_the_beginning_of_a_line_has_a_time_and_a_name() {
        let entries = [part("a"), part("b"), entry("c\n"), entry("d\n")];
        let time = "2026-01-02T03:04:05.250Z";
        assert_eq!(
            shown(Lines::named("web", Stamps::Shown), &entries),
            format!("web | {time} abc\nweb | {time} d\n")
        );
        assert_eq!(
            shown(Lines::plain(Stamps::Shown), &entries),
            format!("{time} abc\n{time} d\n")
        );
    }

    #[test]
    fn a_line_that_was_never_ended_ends_before_another_containers() {
        let entries = [entry("prompt> "), part("x"), entry("y")];
        let lines = Lines::named("web", Stamps::Hidden);
        assert_eq!(shown(lines, &entries), "web | prompt> \nweb | xy\n");
    }
}
