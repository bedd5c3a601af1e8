//! The only place that writes: data to standard output, remarks and errors to standard error.
//!
//! Names, labels and messages come from others, so control characters in them are escaped: they
//! can neither forge a line nor steer the terminal.

use std::fmt::{self, Write as _};
use std::io::{self, BufWriter, Write};

use serde::Serialize;
use wharf_client::v1::{OutputStream, TerminalSize};

use super::failure::Failure;

/// Control sequences of ECMA-48: CUP, EL and ED.
const TO_THE_TOP: &str = "\x1b[H";
const REST_OF_LINE_EMPTY: &str = "\x1b[K\n";
const REST_OF_SCREEN_EMPTY: &str = "\x1b[J";

/// How a list is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// One object per line, with the API's JSON names.
    Json,
}

/// Where a command writes.
pub(crate) struct Output {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
}

impl Output {
    /// The process's own streams. Buffered: what follows a stream flushes as it goes.
    pub(crate) fn standard() -> Self {
        Self {
            out: Box::new(BufWriter::new(io::stdout())),
            err: Box::new(io::stderr()),
        }
    }

    /// A line of data.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> Result<(), Failure> {
        let line = escaped(&line.to_string());
        writeln!(self.out, "{line}").map_err(Failure::Output)
    }

    /// Text of our own, as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(Failure::Output)
    }

    /// Data as it is, to the stream that it belongs to.
    pub(crate) fn data(&mut self, stream: OutputStream, data: &[u8]) -> Result<(), Failure> {
        match stream {
            OutputStream::Stderr => {
                // What was written first is to be seen first, where both go to one terminal.
                self.flush()?;
                self.err.write_all(data).map_err(Failure::Output)
            }
            OutputStream::Stdout | OutputStream::Unspecified => {
                self.out.write_all(data).map_err(Failure::Output)
            }
        }
    }

    /// One object on one line of either stream.
    pub(crate) fn json_to(
        &mut self,
        stream: OutputStream,
        value: &impl Serialize,
    ) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value).map_err(json_failure)?;
        line.push(b'\n');
        self.data(stream, &line)
    }

    /// One object on one line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(json_failure)?;
        self.text(&text)?;
        self.text("\n")
    }

    /// A document for people and programs.
    pub(crate) fn pretty_json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(json_failure)?;
        self.text(&text)?;
        self.text("\n")
    }

    /// Hands over what has been written so far.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::Output)
    }

    /// One line about a failure. A standard error that cannot be written to leaves nobody to tell.
    pub(crate) fn error(&mut self, failure: &(impl Report + ?Sized)) {
        let _ = self.flush();
        if let Some(line) = failure.report() {
            let _ = writeln!(self.err, "wharf: {}", escaped(&line));
        }
    }

    /// A remark on something that worked.
    pub(crate) fn warning(&mut self, text: &str) {
        let _ = writeln!(self.err, "wharf: warning: {}", escaped(text));
    }

    /// A line for people about something else than this program.
    pub(crate) fn note(&mut self, text: &str) {
        let _ = writeln!(self.err, "{}", escaped(text));
    }

    /// A question, without the end of its line.
    pub(crate) fn question(&mut self, text: &str) -> Result<(), Failure> {
        write!(self.err, "{text} ").map_err(Failure::Output)?;
        self.err.flush().map_err(Failure::Output)
    }
}

/// What [`Output::error`] can tell.
pub(crate) trait Report {
    /// The line, if there is anything to say.
    fn report(&self) -> Option<String>;
}

impl Report for Failure {
    fn report(&self) -> Option<String> {
        (!self.is_silent()).then(|| self.to_string())
    }
}

impl Report for String {
    fn report(&self) -> Option<String> {
        Some(self.clone())
    }
}

fn json_failure(error: serde_json::Error) -> Failure {
    Failure::Json(error.to_string())
}

/// `text` with every control character escaped, and every mark that turns the direction of text.
pub(crate) fn escaped(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || turns {
            // Writing to a String cannot fail.
            let _ = write!(clean, "{}", character.escape_default());
        } else {
            clean.push(character);
        }
    }
    clean
}

/// Rows under a heading, aligned as docker aligns them: columns as wide as their widest cell, three
/// spaces between.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self {
            rows: vec![heading.map(str::to_owned).to_vec()],
        }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| escaped(&cell)).to_vec());
    }

    pub(crate) fn print(&self, output: &mut Output) -> Result<(), Failure> {
        let widths = self.widths();
        self.rows
            .iter()
            .try_for_each(|row| output.line(aligned(row, &widths)))
    }

    /// Its rows without the heading, which was printed before.
    pub(crate) fn print_rows(&self, output: &mut Output) -> Result<(), Failure> {
        let widths = self.widths();
        let rows = self.rows.iter().skip(1);
        rows.map(|row| aligned(row, &widths))
            .try_for_each(|line| output.line(line))
    }

    /// In place of what the terminal shows, as much as fits into it.
    pub(crate) fn repaint(&self, size: TerminalSize, output: &mut Output) -> Result<(), Failure> {
        let (rows, columns) = (size.rows as usize, size.columns as usize);
        let widths = self.widths();
        output.text(TO_THE_TOP)?;
        // Behind the last line there is one for the cursor.
        for row in self.rows.iter().take(rows.saturating_sub(1)) {
            let line: String = aligned(row, &widths).chars().take(columns).collect();
            output.text(&line)?;
            output.text(REST_OF_LINE_EMPTY)?;
        }
        output.text(REST_OF_SCREEN_EMPTY)?;
        output.flush()
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..columns).map(width).collect()
    }
}

fn aligned(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, &width) in row.iter().zip(widths) {
        // Writing to a String cannot fail.
        let _ = write!(line, "{cell:width$}   ");
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
pub(crate) mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// What an [`Output`] was given.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(data)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output, with what goes to its two streams.
    pub(crate) fn captured() -> (Output, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let output = Output {
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
        };
        (output, out, err)
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let (mut output, out, _) = captured();
        let mut table = Table::new(["ID", "NAME", "STATUS"]);
        table.row(["0123".into(), "a".into(), String::new()]);
        table.row(["1".into(), "longer".into(), "Up".into()]);
        table.print(&mut output).unwrap();
        assert_eq!(
            out.text(),
            "ID     NAME     STATUS\n0123   a\n1      longer   Up\n"
        );
    }

    #[test]
    fn a_table_that_is_repainted_keeps_within_the_terminal() {
        let (mut output, out, _) = captured();
        let mut table = Table::new(["ID", "NAME"]);
        table.row(["1".into(), "a\u{1b}[2J".into()]);
        table.row(["2".into(), "b".into()]);
        let (rows, columns) = (3, 8);
        table
            .repaint(TerminalSize { rows, columns }, &mut output)
            .unwrap();
        assert_eq!(out.text(), "\x1b[HID   NAM\x1b[K\n1    a\\u\x1b[K\n\x1b[J");
    }

    #[test]
    fn what_others_wrote_cannot_forge_a_line_or_steer_the_terminal() {
        let (mut output, out, err) = captured();
        output.line("a\nb\u{1b}[2J").unwrap();
        output.error(&"x\r\ny\u{202e}".to_owned());
        assert_eq!(out.text(), "a\\nb\\u{1b}[2J\n");
        assert_eq!(err.text(), "wharf: x\\r\\ny\\u{202e}\n");
    }

    #[test]
    fn a_failure_that_was_told_before_is_not_told_again() {
        let (mut output, _, err) = captured();
        output.error(&Failure::Reported);
        output.error(&Failure::Output(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(err.text(), "");
    }
}
