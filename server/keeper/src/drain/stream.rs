//! One process's outputs: what is read of them, and when not.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use wharf_keeper::segment::{ENTRY_BYTES, End, Output};

use super::backlog::Backlog;
use super::recorder::Recorder;
use crate::link::{Finished, Key, Progress, Setup};
use crate::poller::Poller;

/// A pipe holds so much, if the kernel lets it: fewer wake-ups.
const PIPE_BYTES: usize = 256 * 1024;

/// When a process has ended, no more is read at once: more than its pipes can hold.
const FINISH_EXCESS: u64 = 1024 * 1024;

/// What one read of an output yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    Bytes,
    /// There are none, but somebody holds the write end.
    Nothing,
    /// None will come.
    Closed,
    /// None may be read: the window is at its end.
    Held,
}

/// A read end, and whether epoll watches it.
#[derive(Debug)]
struct Source {
    fd: OwnedFd,
    watched: bool,
}

/// A process's outputs and their recording.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) progress: Arc<Progress>,
    pub(crate) recorder: Recorder,
    backlog: Backlog,
    outputs: [Option<Source>; 2],
    /// Until when its end is waited for.
    pub(crate) finishing: Option<Instant>,
    pub(crate) finished: Option<Finished>,
}

impl Stream {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup {
            progress,
            directory,
            run,
            limits,
            outputs,
            debts,
            resumed,
            ..
        } = setup;
        let source = |fd| Source { fd, watched: false };
        Self {
            progress,
            recorder: Recorder::new(directory, run, limits, debts),
            backlog: Backlog::new(limits.read_ahead_bytes() / 16),
            outputs: outputs.map(|fd| fd.map(source)),
            finishing: resumed.and_then(|resumed| resumed.finishing),
            finished: resumed.and_then(|resumed| resumed.finished),
        }
    }

    /// Prepares the outputs: they never block, and hold much.
    pub(crate) fn prepare(&mut self, poller: &Poller) -> io::Result<()> {
        for source in self.outputs.iter().flatten() {
            let flags = rustix::fs::fcntl_getfl(&source.fd)?;
            rustix::fs::fcntl_setfl(&source.fd, flags | OFlags::NONBLOCK)?;
            // It costs nothing but wake-ups if this is refused.
            let _ = rustix::pipe::fcntl_setpipe_size(&source.fd, PIPE_BYTES);
        }
        self.watch(poller)
    }

    /// What has been its standard output is not any more: the process has a terminal.
    pub(crate) fn read_from(&mut self, terminal: OwnedFd, poller: &Poller) {
        self.close(Output::Stdout, poller);
        self.outputs[place(Output::Stdout)] = Some(Source {
            fd: terminal,
            watched: false,
        });
    }

    pub(crate) fn key(&self) -> Key {
        self.progress.key
    }

    pub(crate) fn outputs_open(&self) -> u32 {
        self.outputs.iter().flatten().map(|_| 1).sum()
    }

    /// The descriptors, for the process that continues this one.
    pub(crate) fn descriptors(&self) -> [Option<&OwnedFd>; 2] {
        self.outputs
            .each_ref()
            .map(|source| source.as_ref().map(|source| &source.fd))
    }

    /// Watches the outputs while the window is open, and else does not.
    pub(crate) fn watch(&mut self, poller: &Poller) -> io::Result<()> {
        let wanted = self.allowance() > 0;
        for (output, source) in Output::ALL.into_iter().zip(&mut self.outputs) {
            let Some(source) = source else { continue };
            if wanted && !source.watched {
                poller.add(&source.fd, token(self.progress.key, output), EventFlags::IN)?;
            } else if !wanted && source.watched {
                poller.remove(&source.fd);
            }
            source.watched = wanted;
        }
        Ok(())
    }

    /// Reads one output once.
    pub(crate) fn read(&mut self, output: Output, poller: &Poller, buffer: &mut [u8]) {
        self.drain(output, poller, buffer);
    }

    /// Reads all there is, without waiting: a pipe that nobody writes to is at its end even if nobody ever
    /// did, and then epoll never says so. Stops if somebody goes on writing.
    pub(crate) fn read_all(&mut self, poller: &Poller, buffer: &mut [u8]) {
        for output in Output::ALL {
            let before = self.recorder.drained();
            while self.drain(output, poller, buffer) == Drained::Bytes
                && self.recorder.drained() - before < FINISH_EXCESS
            {}
        }
    }

    /// Lets go of the outputs and completes the recording; false if that is still owed.
    pub(crate) fn end(&mut self, poller: &Poller) -> bool {
        let truncated = self.outputs_open() > 0;
        self.release(poller);
        self.recorder.end(End { truncated });
        !self.recorder.owes()
    }

    /// It is finished, as far as that goes.
    pub(crate) fn complete(&mut self) -> Finished {
        let finished = Finished {
            positions: self.recorder.positions(),
            truncated: self.recorder.is_truncated(),
            recorded: !self.recorder.owes(),
        };
        self.finishing = None;
        self.finished = Some(finished);
        finished
    }

    /// An earlier keeper has completed the recording: there is nothing more to read.
    pub(crate) fn found_ended(&mut self, poller: &Poller, end: End) {
        self.release(poller);
        self.finished = Some(Finished {
            positions: self.recorder.positions(),
            truncated: end.truncated,
            recorded: true,
        });
    }

    /// Lets go of the outputs.
    pub(crate) fn release(&mut self, poller: &Poller) {
        for output in Output::ALL {
            self.close(output, poller);
        }
    }

    /// How many bytes may be read. Of a process that has ended, as many as are kept: its exit waits for
    /// nobody if that can be helped.
    fn allowance(&mut self) -> u64 {
        let taken = self.progress.taken();
        let Some(unread) = self.backlog.unread(taken, self.recorder.drained()) else {
            return u64::MAX;
        };
        let limits = self.recorder.limits;
        let room = match self.finishing {
            Some(_) => limits.kept_bytes(),
            None => limits.read_ahead_bytes(),
        };
        room.saturating_sub(unread.saturating_add(ENTRY_BYTES as u64))
    }

    fn drain(&mut self, output: Output, poller: &Poller, buffer: &mut [u8]) -> Drained {
        let allowed = usize::try_from(self.allowance()).unwrap_or(usize::MAX);
        let room = buffer.len().min(allowed);
        let Some(source) = &self.outputs[place(output)] else {
            return Drained::Closed;
        };
        if room == 0 {
            return Drained::Held;
        }
        match rustix::io::read(&source.fd, &mut buffer[..room]) {
            Ok(0) => self.close(output, poller),
            Ok(read) => {
                self.recorder.record(output, &buffer[..read]);
                let drained = self.recorder.drained();
                self.backlog.grew(drained, (read + ENTRY_BYTES) as u64);
                Drained::Bytes
            }
            Err(Errno::AGAIN | Errno::INTR) => Drained::Nothing,
            // A terminal whose other side has gone says EIO; nothing more comes of any other error.
            Err(_) => self.close(output, poller),
        }
    }

    fn close(&mut self, output: Output, poller: &Poller) -> Drained {
        if let Some(source) = self.outputs[place(output)].take()
            && source.watched
        {
            poller.remove(&source.fd);
        }
        Drained::Closed
    }
}

/// What epoll knows an output by.
pub(crate) fn token(key: Key, output: Output) -> u64 {
    key << 1 | place(output) as u64
}

/// The stream and the output that a token is for.
pub(crate) fn parse_token(token: u64) -> (Key, Output) {
    let output = if token & 1 == 0 {
        Output::Stdout
    } else {
        Output::Stderr
    };
    (token >> 1, output)
}

fn place(output: Output) -> usize {
    match output {
        Output::Stdout => 0,
        Output::Stderr => 1,
    }
}
