//! All that belongs to the standard streams of one process.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use wharf_keeper::protocol::{Answer, Call, Descriptors, Growth, Open, Refusal, StreamState};
use wharf_keeper::segment::{self, Limits, Positions};

use super::fifo::{self, Ends};
use super::input::Input;
use super::link::Calls;
use super::window::{Hold, Window};
use super::{Place, StdioError, blocking, processes};
use crate::model::StdioPaths;
use crate::model::limits::DRAIN_AFTER_EXIT;

/// How much longer than asked for the end of a stream may take before it is given up.
const FINISH_MARGIN: Duration = Duration::from_secs(5);

/// How far a stream is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Behind the last byte of standard output.
    pub stdout: u64,
    /// Behind the last byte of standard error.
    pub stderr: u64,
    /// Grows with everything that is recorded.
    pub entries: u64,
    /// Set once there will be no more.
    pub ended: Option<Ended>,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All output was read.
    Whole,
    /// Reading was stopped while somebody still held the other end, or what was written was lost.
    Truncated,
}

impl From<segment::End> for Ended {
    fn from(end: segment::End) -> Self {
        if end.truncated {
            Self::Truncated
        } else {
            Self::Whole
        }
    }
}

/// The standard streams of one process. Held by whoever runs the process and by those who read or write.
#[derive(Debug)]
pub struct Stream {
    name: String,
    place: Place,
    calls: Option<Calls>,
    progress: watch::Sender<Progress>,
    input: Input,
    /// The master of its terminal, if the keeper has made one: held for the next keeper.
    terminal: Mutex<Option<OwnedFd>>,
    /// Whose turn it is to write what must not be written twice.
    turn: Arc<Semaphore>,
    pub(super) window: Window,
    /// Whether the keeper should have it.
    is_open: AtomicBool,
    /// Whether the keeper has had it since this server runs: its positions and its input are known.
    is_known: AtomicBool,
    /// Whether somebody writes, or has written, its whole input.
    is_fed: AtomicBool,
    /// Whether its recording goes with its last holder.
    is_discarded: AtomicBool,
}

impl Stream {
    pub(super) fn new(name: String, place: Place, calls: Option<Calls>) -> Arc<Self> {
        Arc::new(Self {
            name,
            place,
            calls,
            progress: watch::Sender::default(),
            input: Input::default(),
            terminal: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            window: Window::default(),
            is_open: AtomicBool::new(false),
            is_known: AtomicBool::new(false),
            is_fed: AtomicBool::new(false),
            is_discarded: AtomicBool::new(false),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The directory of its recording.
    #[must_use]
    pub fn segments(&self) -> &Path {
        &self.place.segments
    }

    pub(super) fn run(&self) -> u64 {
        self.place.run
    }

    /// How far it is; changes wake the receivers.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Makes the FIFOs of a process that is about to start and has the keeper read them from now on.
    /// What is returned is for the process.
    ///
    /// # Errors
    /// [`StdioError`]; nothing is left then but what the next try replaces.
    pub async fn open(&self) -> Result<StdioPaths, StdioError> {
        let Some(calls) = &self.calls else {
            return Ok(StdioPaths::null());
        };
        let place = self.place.clone();
        let ends = blocking(move || fifo::make(&place)).await?;
        match self.hand_over(calls, ends, Recording::Begins).await {
            Err(StdioError::Refused {
                reason: Refusal::Exists,
                ..
            }) => {
                // Of a start that the last server did not finish.
                close(calls, &self.name).await;
                let place = self.place.clone();
                let ends = blocking(move || fifo::make(&place)).await?;
                self.hand_over(calls, ends, Recording::Begins).await?;
            }
            done => done?,
        }
        Ok(self.place.paths())
    }

    /// Takes up the streams of a process that an earlier server started: from the keeper, or if that has
    /// died too, from the FIFOs.
    ///
    /// # Errors
    /// [`StdioError`]: the process is there, but its output is not recorded.
    pub async fn adopt(&self) -> Result<(), StdioError> {
        let Some(calls) = &self.calls else {
            return Ok(());
        };
        // Set first: if the keeper is not there yet, the link does this once it is.
        self.is_open.store(true, Ordering::Release);
        calls.ready().await?;
        match calls.kept_state(&self.name) {
            Some(state) => self.take_over(calls, &state).await,
            None => self.reopen(calls).await,
        }
    }

    /// Of a process that runs: has the keeper's word for how far its streams are.
    ///
    /// # Errors
    /// [`StdioError`]: they cannot be used now.
    pub async fn known(&self) -> Result<(), StdioError> {
        if self.is_known.load(Ordering::Acquire) || self.progress.borrow().ended.is_some() {
            return Ok(());
        }
        self.adopt().await
    }

    /// The process's input and output are this terminal, not the FIFOs.
    pub(super) fn has_terminal(&self, terminal: OwnedFd) {
        if self.place.stdin
            && let Ok(input) = terminal.try_clone()
        {
            self.input.replace(input);
        }
        *self.terminal.lock() = Some(terminal);
    }

    async fn take_over(&self, calls: &Calls, state: &StreamState) -> Result<(), StdioError> {
        self.reached(state.positions);
        if state.stdin_open && !self.input.is_open() {
            let stream = self.name.clone();
            let (answer, mut descriptors) = calls.call(Call::TakeStdin { stream }).await?;
            match (answer, descriptors.pop()) {
                (Answer::Stdin {}, Some(end)) => {
                    if rustix::termios::isatty(&end) {
                        *self.terminal.lock() = end.try_clone().ok();
                    }
                    self.input.open(end);
                }
                (
                    Answer::Refused {
                        reason: Refusal::StdinClosed,
                        ..
                    },
                    _,
                ) => {}
                // It was kept when the keeper was asked, and is not any more.
                (
                    Answer::Refused {
                        reason: Refusal::Unknown,
                        ..
                    },
                    _,
                ) => return self.reopen(calls).await,
                _ => return Err(StdioError::Confused),
            }
        }
        self.is_known.store(true, Ordering::Release);
        Ok(())
    }

    /// After the keeper's death: what the process wrote and nobody recorded is a gap.
    pub(super) async fn reopen(&self, calls: &Calls) -> Result<(), StdioError> {
        if let Some(positions) = self.on_disk().await? {
            self.reached(positions);
            if positions.ended.is_some() {
                self.is_known.store(true, Ordering::Release);
                return Ok(());
            }
        }
        let place = self.place.clone();
        let ends = match self.terminal_ends()? {
            Some(ends) => ends,
            None => blocking(move || fifo::open(&place)).await?,
        };
        match self.hand_over(calls, ends, Recording::Continues).await {
            // Somebody else was faster.
            Err(StdioError::Refused {
                reason: Refusal::Exists,
                ..
            }) => Ok(()),
            done => done,
        }
    }

    /// Of a terminal that an earlier keeper has made.
    fn terminal_ends(&self) -> Result<Option<Ends>, StdioError> {
        let terminal = self.terminal.lock();
        let Some(terminal) = &*terminal else {
            return Ok(None);
        };
        let copy = || {
            terminal
                .try_clone()
                .map_err(StdioError::fifo(&self.place.fifos))
        };
        let stdin = self.input.is_open().then(copy).transpose()?;
        Ok(Some(Ends {
            outputs: vec![copy()?],
            stdin,
        }))
    }

    async fn hand_over(
        &self,
        calls: &Calls,
        ends: Ends,
        recording: Recording,
    ) -> Result<(), StdioError> {
        let Ends { outputs, stdin } = ends;
        if let Some(stdin) = &stdin {
            let ours = stdin
                .try_clone()
                .map_err(StdioError::fifo(&self.place.fifos))?;
            self.input.open(ours);
        }
        let open = Open {
            stream: self.name.clone(),
            directory: self.place.segments.clone(),
            run: self.place.run,
            limits: self.place.limits,
            descriptors: Descriptors {
                stdout: true,
                stderr: !self.place.terminal,
                stdin: stdin.is_some(),
            },
            taken: self.window.taken(),
            continues: recording == Recording::Continues,
        };
        let descriptors = outputs.into_iter().chain(stdin).collect();
        // Set first: whoever finds the keeper without it opens it again.
        self.is_open.store(true, Ordering::Release);
        calls.gives(&self.name);
        match calls.call_with(Call::Open(open), descriptors).await {
            Ok((Answer::Opened { positions }, _)) => {
                calls.has_given(&self.name);
                self.reached(positions);
                self.is_known.store(true, Ordering::Release);
                if recording == Recording::Continues {
                    processes::watch_of(calls, &self.name).await;
                }
                Ok(())
            }
            Ok((Answer::Refused { reason, detail }, _)) => {
                self.is_open
                    .store(reason == Refusal::Exists, Ordering::Release);
                Err(StdioError::Refused { reason, detail })
            }
            Ok(_) => Err(StdioError::Confused),
            Err(error) => {
                self.is_open.store(false, Ordering::Release);
                Err(error)
            }
        }
    }

    /// Whether the keeper should have it and may have lost it.
    pub(super) fn is_to_be_kept(&self) -> bool {
        self.is_open.load(Ordering::Acquire) && self.progress.borrow().ended.is_none()
    }

    /// The keeper has recorded more.
    pub(super) fn grew(&self, growth: &Growth) {
        self.progress.send_if_modified(|progress| {
            let before = *progress;
            progress.stdout = progress.stdout.max(growth.stdout);
            progress.stderr = progress.stderr.max(growth.stderr);
            progress.entries = growth.entries.max(progress.entries + 1);
            if let Some(end) = growth.ended {
                progress.ended = Some(end.into());
            }
            *progress != before
        });
    }

    /// There is so much in the recording: it has been read.
    pub(super) fn read_up_to(&self, offsets: segment::Offsets) {
        self.reached(Positions {
            stdout: offsets.stdout,
            stderr: offsets.stderr,
            ended: None,
        });
    }

    fn reached(&self, positions: Positions) {
        self.progress.send_if_modified(|progress| {
            let before = *progress;
            progress.stdout = progress.stdout.max(positions.stdout);
            progress.stderr = progress.stderr.max(positions.stderr);
            progress.ended = positions.ended.map(Ended::from).or(progress.ended);
            let is_news = *progress != before;
            progress.entries += u64::from(is_news);
            is_news
        });
    }

    /// The process has ended: has all its output recorded and lets go of it. Whoever else holds its
    /// streams is waited for only `within` that time. Its FIFOs stay until the next run's are made, or go with their
    /// directory.
    pub async fn finish(&self, within: Duration) {
        self.input.close();
        if let Some(calls) = &self.calls {
            let deadline = Instant::now() + within + FINISH_MARGIN;
            match timeout_at(deadline, self.finish_in_keeper(calls, within)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(stream = self.name, %error, "the end of its output may be lost");
                }
                Err(_) => {
                    tracing::warn!(
                        stream = self.name,
                        "the end of its output is not waited for"
                    );
                }
            }
            close(calls, &self.name).await;
        }
        self.is_open.store(false, Ordering::Release);
        let lost = || {
            if self.calls.is_some() {
                Ended::Truncated
            } else {
                Ended::Whole
            }
        };
        self.progress.send_modify(|progress| {
            progress.ended.get_or_insert_with(lost);
        });
    }

    /// How far its recording is on the disk; `None` if there is none.
    async fn on_disk(&self) -> Result<Option<Positions>, StdioError> {
        let place = self.place.clone();
        blocking(move || Ok(segment::positions(&place.segments, place.run).ok())).await
    }

    async fn finish_in_keeper(&self, calls: &Calls, within: Duration) -> Result<(), StdioError> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        loop {
            let stream = self.name.clone();
            match calls.call_slowly(Call::Finish { stream, within_ms }).await {
                Ok((
                    Answer::Finished {
                        positions,
                        truncated,
                        recorded,
                    },
                    _,
                )) => {
                    if !recorded {
                        tracing::warn!(
                            stream = self.name,
                            "the end of its output is lost: the disk is full"
                        );
                    }
                    // What was read and is not recorded is as lost as what was not read.
                    let truncated = truncated || !recorded;
                    let ended = Some(segment::End { truncated });
                    self.reached(Positions { ended, ..positions });
                    return Ok(());
                }
                // The keeper has died: another one takes it up, with what is left in the FIFO.
                Ok((
                    Answer::Refused {
                        reason: Refusal::Unknown,
                        ..
                    },
                    _,
                )) if self.progress.borrow().ended.is_none() => self.reopen(calls).await?,
                Ok((
                    Answer::Refused {
                        reason: Refusal::Unknown,
                        ..
                    },
                    _,
                )) => return Ok(()),
                Ok((Answer::Refused { reason, detail }, _)) => {
                    return Err(StdioError::Refused { reason, detail });
                }
                Ok(_) => return Err(StdioError::Confused),
                Err(StdioError::Unavailable { .. }) => calls.ready().await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Has the keeper let go of a stream whose process is not there. Its files stay.
    pub async fn abandon(&self) {
        self.input.close();
        self.is_open.store(false, Ordering::Release);
        if let Some(calls) = &self.calls {
            close(calls, &self.name).await;
        }
    }

    /// Lets go of a stream whose process did not start. Its FIFOs go, and what was recorded of it: the next start
    /// has the same run.
    pub async fn undo(&self) {
        self.abandon().await;
        if self.calls.is_none() {
            return;
        }
        let place = self.place.clone();
        let remove = move || {
            fifo::remove(&place);
            Ok(segment::remove(&place.segments, place.run)?)
        };
        if let Err(error) = blocking(remove).await {
            tracing::warn!(stream = self.name, %error, "what a failed start wrote is left");
        }
    }

    /// The process is over. If the keeper still has the stream, it is finished; else its end is taken from
    /// the disk.
    pub async fn recall(&self) {
        let is_known =
            self.progress.borrow().ended.is_some() || self.is_open.load(Ordering::Acquire);
        let Some(calls) = self.calls.as_ref().filter(|_| !is_known) else {
            return;
        };
        let positions = self.on_disk().await.ok().flatten().unwrap_or_default();
        self.reached(positions);
        // A keeper that does not come up keeps nothing.
        let is_up = calls.ready().await.is_ok();
        if is_up && calls.kept_state(&self.name).is_some() {
            return self.finish(DRAIN_AFTER_EXIT).await;
        }
        self.progress.send_modify(|progress| {
            progress.ended.get_or_insert(Ended::Truncated);
        });
    }

    /// Its recording, with the directory, is removed once nobody holds the stream any more.
    pub fn discard(&self) {
        self.is_discarded.store(true, Ordering::Release);
    }

    /// Writes to standard input; returns when all of it is written.
    ///
    /// # Errors
    /// [`StdioError::InputClosed`], [`StdioError::Input`].
    pub async fn write(&self, data: &[u8]) -> Result<(), StdioError> {
        self.input.write(data).await
    }

    /// Whether whoever asks is the first: that one writes the whole input.
    pub fn claim_feeding(&self) -> bool {
        !self.is_fed.swap(true, Ordering::AcqRel)
    }

    /// Waits in line with others who write what must not be written twice. It is one's turn until what is
    /// returned is dropped.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes it.
        Arc::clone(&self.turn).acquire_owned().await.ok()
    }

    /// Takes the place of a keeper: the write end of the input is there.
    #[cfg(test)]
    pub(crate) fn give_input(&self, end: std::os::fd::OwnedFd) {
        self.input.open(end);
    }

    /// Whether standard input takes more.
    #[must_use]
    pub fn is_input_open(&self) -> bool {
        self.input.is_open()
    }

    /// Whether the last input left a line unfinished.
    #[must_use]
    pub fn is_mid_line(&self) -> bool {
        self.input.is_mid_line()
    }

    /// Closes our ends of standard input, for everybody.
    pub async fn close_input(&self) {
        let place = self.place.clone();
        let remove = move || {
            fifo::remove_stdin(&place);
            Ok(())
        };
        // Only an end of the server interrupts it.
        drop(blocking(remove).await);
        let was_open = self.input.close();
        if let Some(calls) = &self.calls
            && was_open
        {
            let stream = self.name.clone();
            if let Err(error) = calls.call(Call::CloseStdin { stream }).await {
                tracing::warn!(stream = self.name, %error, "the keeper still holds its input");
            }
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.place.limits
    }

    /// Makes the process wait for a caller that has taken `taken` bytes, of both streams together.
    #[must_use]
    pub fn hold(self: &Arc<Self>, taken: u64) -> Hold {
        Hold::new(Arc::clone(self), taken)
    }

    pub(super) fn tell_window(&self, news: Option<Option<u64>>) {
        if let (Some(calls), Some(taken)) = (&self.calls, news) {
            calls.tell_window(&self.name, taken);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.is_discarded.load(Ordering::Acquire) {
            return;
        }
        let directory = std::mem::take(&mut self.place.segments);
        let remove = move || match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(directory = %directory.display(), %error, "a recording is not removed");
            }
            _ => {}
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Whether a recording begins, or goes on after a keeper's death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recording {
    Begins,
    Continues,
}

/// Lets the keeper forget a stream, if it may keep it.
pub(super) async fn close(calls: &Calls, name: &str) {
    if !calls.may_keep(name) {
        return;
    }
    let stream = name.to_owned();
    match calls.call(Call::Close { stream }).await {
        Ok(_) => calls.forget(name),
        Err(error) => {
            tracing::warn!(stream = name, %error, "the keeper still keeps a stream that is over");
        }
    }
}
