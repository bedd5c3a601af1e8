//! Writes a recording whatever the disk does: what cannot be written is counted, and recorded as lost as
//! soon as something can.

use std::path::PathBuf;

use wharf_keeper::segment::{
    End, Limits, Offsets, Output, Positions, ProcessExit, SegmentError, Shortfall, Writer, now,
};

use crate::link::Debts;
use crate::log;

/// A writer, and what it owes.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) directory: PathBuf,
    pub(crate) run: u64,
    pub(crate) limits: Limits,
    writer: Option<Writer>,
    debts: Debts,
    /// Whether the disk refused the last time; it is said once.
    refused: bool,
}

impl Recorder {
    pub(crate) fn new(directory: PathBuf, run: u64, limits: Limits, debts: Debts) -> Self {
        Self {
            directory,
            run,
            limits,
            writer: None,
            debts,
            refused: false,
        }
    }

    /// Opens the recording, if it is not open.
    pub(crate) fn open(&mut self) -> Result<&mut Writer, SegmentError> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => Writer::open(&self.directory, self.run, self.limits, now())?,
        };
        Ok(self.writer.insert(writer))
    }

    /// Adds bytes; those that cannot be written are lost.
    pub(crate) fn record(&mut self, output: Output, bytes: &[u8]) {
        let written = match self.try_record(output, bytes) {
            Ok(()) => {
                self.refused = false;
                bytes.len()
            }
            Err(Shortfall { written, source }) => {
                self.refuse(&source);
                written
            }
        };
        let lost = (bytes.len() - written) as u64;
        match output {
            Output::Stdout => self.debts.lost.stdout += lost,
            Output::Stderr => self.debts.lost.stderr += lost,
        }
    }

    /// Records which process it is, now or when it can be.
    pub(crate) fn launched(&mut self, pid: u32) {
        self.debts.pid = Some(pid);
        self.settle();
    }

    /// Records the process's exit, now or when it can be.
    pub(crate) fn exited(&mut self, exit: ProcessExit) {
        self.debts.exit = Some(exit);
        self.settle();
    }

    /// Completes the recording, now or when it can be.
    pub(crate) fn end(&mut self, end: End) {
        self.debts.end = Some(end);
        self.settle();
    }

    /// Tries to record what is owed.
    pub(crate) fn settle(&mut self) {
        match self.try_settle() {
            Ok(()) => self.refused = false,
            Err(error) => self.refuse(&error),
        }
    }

    /// Whether its end, recorded or owed, is one that was not waited for.
    pub(crate) fn is_truncated(&self) -> bool {
        let end = self.positions().ended.or(self.debts.end);
        end.is_some_and(|end| end.truncated)
    }

    pub(crate) fn owes(&self) -> bool {
        self.debts.lost != Offsets::default()
            || self.debts.gap
            || self.debts.pid.is_some()
            || self.debts.exit.is_some()
            || self.debts.end.is_some()
    }

    pub(crate) fn debts(&self) -> Debts {
        self.debts
    }

    pub(crate) fn positions(&self) -> Positions {
        self.writer
            .as_ref()
            .map(Writer::positions)
            .unwrap_or_default()
    }

    pub(crate) fn entries(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::entries)
    }

    /// Bytes of both outputs, recorded or lost.
    pub(crate) fn drained(&self) -> u64 {
        let positions = self.positions();
        let recorded = positions.stdout.saturating_add(positions.stderr);
        recorded.saturating_add(self.debts.lost.total())
    }

    fn try_record(&mut self, output: Output, bytes: &[u8]) -> Result<(), Shortfall> {
        self.try_settle().map_err(nothing_written)?;
        let writer = self.open().map_err(nothing_written)?;
        writer.append(now(), output, bytes)
    }

    /// In the order of events: the gap before what came after it, the end last.
    fn try_settle(&mut self) -> Result<(), SegmentError> {
        let debts = self.debts;
        let writer = self.open()?;
        if writer.positions().ended.is_some() {
            // An earlier keeper has completed it: nothing can be owed.
            self.debts = Debts::default();
            return Ok(());
        }
        if debts.gap {
            writer.gap(now(), None, 0)?;
            self.debts.gap = false;
        }
        for output in Output::ALL {
            let lost = debts.lost.of(output);
            if lost > 0 {
                self.open()?.gap(now(), Some(output), lost)?;
                self.forgive(output);
            }
        }
        if let Some(pid) = debts.pid {
            self.open()?.launched(now(), pid)?;
            self.debts.pid = None;
        }
        if let Some(exit) = debts.exit {
            self.open()?.exit(exit)?;
            self.debts.exit = None;
        }
        if let Some(end) = debts.end {
            self.open()?.end(now(), end)?;
            self.debts.end = None;
        }
        Ok(())
    }

    fn forgive(&mut self, output: Output) {
        match output {
            Output::Stdout => self.debts.lost.stdout = 0,
            Output::Stderr => self.debts.lost.stderr = 0,
        }
    }

    fn refuse(&mut self, error: &SegmentError) {
        if !self.refused {
            log::line(&format_args!("output is being lost: {error}"));
        }
        self.refused = true;
    }
}

fn nothing_written(source: SegmentError) -> Shortfall {
    Shortfall { written: 0, source }
}
