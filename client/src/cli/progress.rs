//! Telling of a pull or a push while it goes on: bars on a terminal, lines elsewhere, or JSON.
//!
//! All of it goes to standard error but JSON, which is the answer itself where a command has no other.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use wharf_client::v1::layer_progress::Phase;
use wharf_client::v1::{LayerProgress, OutputStream, TransferProgress};

use super::attached;
use super::failure::Failure;
use super::human::{self, Width};
use super::json::{Json, Shown};
use super::output::{Output, escaped};

/// How much is told.
#[derive(Debug, Args)]
pub(crate) struct ProgressFlags {
    /// Do not tell how the transfer of the image goes
    #[arg(short, long)]
    quiet: bool,
    /// How to tell how the transfer of the image goes, on standard error
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    progress: Style,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Style {
    /// Bars on a terminal, lines elsewhere
    #[default]
    Auto,
    /// Bars
    Tty,
    /// A line for each phase of each layer
    Plain,
    /// Each message of the API, one a line; of pull and push on standard output, as their answer
    Json,
    /// Nothing
    None,
}

/// Which way an image goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Pull,
    Push,
}

/// Tells of one transfer. What it has on the screen is gone when it is dropped.
pub(crate) enum Progress {
    Bars(Bars),
    Lines(Lines),
    Json(OutputStream),
    Silent,
}

impl ProgressFlags {
    /// As the flags say; `json` is where JSON goes.
    ///
    /// # Errors
    /// [`Failure::Usage`] for bars without a terminal.
    pub(crate) fn progress(
        &self,
        direction: Direction,
        json: OutputStream,
    ) -> Result<Progress, Failure> {
        let bars = || Progress::Bars(Bars::new(direction, ProgressDrawTarget::stderr()));
        let lines = || Progress::Lines(Lines::new(direction));
        match (self.progress, attached::is_stderr()) {
            _ if self.quiet => Ok(Progress::Silent),
            (Style::Auto | Style::Tty, true) => Ok(bars()),
            (Style::Tty, false) => Err(Failure::Usage(
                "--progress tty needs a terminal on standard error".to_owned(),
            )),
            (Style::Auto, false) | (Style::Plain, _) => Ok(lines()),
            (Style::Json, _) => Ok(Progress::Json(json)),
            (Style::None, _) => Ok(Progress::Silent),
        }
    }
}

impl Progress {
    /// Whether the messages themselves are the answer of a command whose JSON goes to standard output.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Self::Json(OutputStream::Stdout))
    }

    /// A whole message of the transfer, for JSON.
    pub(crate) fn message(&self, message: &impl Shown, output: &mut Output) -> Result<(), Failure> {
        let Self::Json(stream) = self else {
            return Ok(());
        };
        output.json_to(*stream, &Json::of(message)?)?;
        output.flush()
    }

    /// Where the transfer stands, for people.
    pub(crate) fn show(
        &mut self,
        progress: &TransferProgress,
        output: &mut Output,
    ) -> Result<(), Failure> {
        match self {
            Self::Bars(bars) => bars.show(progress),
            Self::Lines(lines) => lines
                .changes(progress)
                .iter()
                .for_each(|line| output.note(line)),
            Self::Json(_) | Self::Silent => {}
        }
        Ok(())
    }
}

impl Direction {
    fn phase(self, phase: Phase) -> &'static str {
        match (phase, self) {
            (Phase::Unspecified | Phase::Waiting, _) => "waiting",
            (Phase::Transferring, Self::Pull) => "downloading",
            (Phase::Transferring, Self::Push) => "uploading",
            (Phase::Verifying, _) => "verifying",
            (Phase::Extracting, _) => "extracting",
            (Phase::Done, _) => "done",
            (Phase::Exists, Self::Pull) => "already here",
            (Phase::Exists, Self::Push) => "already there",
            (Phase::Retrying, _) => "retrying",
        }
    }
}

fn is_active(phase: Phase) -> bool {
    match phase {
        Phase::Transferring | Phase::Verifying | Phase::Extracting | Phase::Retrying => true,
        Phase::Unspecified | Phase::Waiting | Phase::Done | Phase::Exists => false,
    }
}

/// A line for each phase of each layer.
pub(crate) struct Lines {
    direction: Direction,
    /// What was told last.
    phases: BTreeMap<String, Phase>,
}

impl Lines {
    fn new(direction: Direction) -> Self {
        Self {
            direction,
            phases: BTreeMap::new(),
        }
    }

    fn changes(&mut self, progress: &TransferProgress) -> Vec<String> {
        let changed = progress.layers.iter().filter(|layer| {
            let before = self.phases.insert(layer.digest.clone(), layer.phase());
            before != Some(layer.phase())
        });
        changed.map(|layer| line(self.direction, layer)).collect()
    }
}

fn line(direction: Direction, layer: &LayerProgress) -> String {
    let digest = Width::Short.id(&layer.digest);
    let phase = direction.phase(layer.phase());
    match layer.phase() {
        Phase::Transferring if layer.total_bytes > 0 => {
            format!("{digest}: {phase} {}", human::size(layer.total_bytes))
        }
        _ => format!("{digest}: {phase}"),
    }
}

/// Both have the same columns, and the width of the terminal.
const TOTAL: &str = "{prefix:27} {wide_bar} {decimal_bytes:>10}/{decimal_total_bytes:10} \
                     {decimal_bytes_per_sec:>11}";
const LAYER: &str =
    "  {prefix:12} {msg:12} {wide_bar} {decimal_bytes:>10}/{decimal_total_bytes:22}";

/// A bar for all, and one below it for each layer that something happens to.
pub(crate) struct Bars {
    direction: Direction,
    screen: MultiProgress,
    /// From the moment on when it is known how much there is.
    total: Option<ProgressBar>,
    layers: BTreeMap<String, ProgressBar>,
}

impl Bars {
    fn new(direction: Direction, target: ProgressDrawTarget) -> Self {
        Self {
            direction,
            screen: MultiProgress::with_draw_target(target),
            total: None,
            layers: BTreeMap::new(),
        }
    }

    fn show(&mut self, progress: &TransferProgress) {
        if progress.total_bytes > 0 {
            let total = self.total.get_or_insert_with(|| {
                let name = match self.direction {
                    Direction::Pull => "pulling",
                    Direction::Push => "pushing",
                };
                let begun = bar(TOTAL, name.to_owned(), progress.done_bytes);
                self.screen.insert(0, begun)
            });
            set(total, progress.done_bytes, progress.total_bytes);
        }
        for layer in &progress.layers {
            match is_active(layer.phase()) {
                true => self.show_layer(layer),
                false => {
                    if let Some(bar) = self.layers.remove(&layer.digest) {
                        self.screen.remove(&bar);
                    }
                }
            }
        }
    }

    fn show_layer(&mut self, layer: &LayerProgress) {
        let bar = self.layers.entry(layer.digest.clone()).or_insert_with(|| {
            let name = escaped(&Width::Short.id(&layer.digest));
            self.screen.add(bar(LAYER, name, layer.done_bytes))
        });
        bar.set_message(self.direction.phase(layer.phase()));
        set(bar, layer.done_bytes, layer.total_bytes);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        for bar in self.layers.values().chain(&self.total) {
            bar.finish_and_clear();
        }
        // A terminal that is gone needs no clearing.
        let _ = self.screen.clear();
    }
}

/// A bar that nobody sees yet. What was done before it began does not count for its speed.
fn bar(template: &str, name: String, done: i64) -> ProgressBar {
    // The templates are constants, and tests show that they can be read.
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let bar = bar
        .with_style(style.progress_chars("=> "))
        .with_prefix(name);
    bar.set_position(count(done));
    bar.tick();
    bar.reset_eta();
    bar
}

fn set(bar: &ProgressBar, done: i64, total: i64) {
    bar.set_length(count(total));
    bar.set_position(count(done));
}

fn count(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(digest: &str, phase: Phase, done_bytes: i64) -> LayerProgress {
        LayerProgress {
            digest: digest.into(),
            phase: phase.into(),
            done_bytes,
            total_bytes: 4_215_896,
        }
    }

    fn at(layers: &[LayerProgress]) -> TransferProgress {
        TransferProgress {
            done_bytes: 5,
            total_bytes: 10,
            layers: layers.to_vec(),
        }
    }

    #[test]
    fn each_phase_of_a_layer_is_a_line_and_its_bytes_are_none() {
        let mut lines = Lines::new(Direction::Pull);
        let a = "sha256:0123456789abcdef";
        let first = lines.changes(&at(&[
            layer(a, Phase::Transferring, 0),
            layer("sha256:b", Phase::Exists, 0),
        ]));
        assert_eq!(
            first,
            ["0123456789ab: downloading 4.22MB", "b: already here"]
        );
        assert!(
            lines
                .changes(&at(&[layer(a, Phase::Transferring, 9)]))
                .is_empty()
        );
        let rest = [
            Phase::Retrying,
            Phase::Transferring,
            Phase::Verifying,
            Phase::Extracting,
            Phase::Done,
        ];
        let told: Vec<_> = rest
            .iter()
            .flat_map(|&phase| lines.changes(&at(&[layer(a, phase, 9)])))
            .collect();
        assert_eq!(
            told,
            [
                "0123456789ab: retrying",
                "0123456789ab: downloading 4.22MB",
                "0123456789ab: verifying",
                "0123456789ab: extracting",
                "0123456789ab: done"
            ]
        );
    }

    #[test]
    fn a_layer_has_a_bar_as_long_as_something_happens_to_it() {
        let mut bars = Bars::new(Direction::Push, ProgressDrawTarget::hidden());
        bars.show(&TransferProgress::default());
        assert!(bars.total.is_none());
        bars.show(&at(&[
            layer("sha256:a", Phase::Transferring, 3),
            layer("sha256:b", Phase::Waiting, 0),
        ]));
        let names: Vec<_> = bars.layers.keys().map(String::as_str).collect();
        assert_eq!(names, ["sha256:a"]);
        let shown = bars
            .layers
            .get("sha256:a")
            .map(|bar| (bar.prefix(), bar.message(), bar.position(), bar.length()));
        let want = ("a".to_owned(), "uploading".to_owned(), 3, Some(4_215_896));
        assert_eq!(shown, Some(want));
        let total = bars
            .total
            .as_ref()
            .map(|bar| (bar.position(), bar.length()));
        assert_eq!(total, Some((5, Some(10))));
        bars.show(&at(&[layer("sha256:a", Phase::Done, 9)]));
        assert!(bars.layers.is_empty());
    }

    #[test]
    fn the_templates_can_be_read() {
        for template in [TOTAL, LAYER] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
