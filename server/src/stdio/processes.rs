//! Processes that the keeper launches and watches, as the daemon sees them.
//!
//! A process belongs to a stream, by whose name the keeper knows it. What it is told of an end it hands on at
//! once, to whoever asked for that when the process was launched or taken up; after a keeper's death the next one
//! is asked to watch again, by the descriptor that is held here.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use thiserror::Error;
use tokio::sync::watch;
use wharf_keeper::protocol::launch::{LaunchStep, Plan};
use wharf_keeper::protocol::{Answer, Call, Launch, ProcessState, Refusal};
use wharf_keeper::segment::{ProcessExit, ProcessStatus};

use super::link::Calls;
use super::{ByName, StdioError, Streams};
use crate::model::TerminalSize;

/// How long a launch may take: what hangs is the file system of one container.
const LAUNCH: Duration = Duration::from_secs(60);

/// The way to launch processes. Clones are the same.
#[derive(Debug, Clone)]
pub struct Processes {
    calls: Calls,
    streams: Streams,
}

/// What is to be launched.
#[derive(Debug)]
pub struct Order<'a> {
    /// The stream, which must be open and have no process.
    pub stream: &'a str,
    /// How.
    pub plan: &'a Plan,
    /// The seccomp program, if the plan has flags for one.
    pub filter: Option<OwnedFd>,
    /// A version 2 control group to make it in.
    pub cgroup: Option<OwnedFd>,
    /// The process to join, if the plan says so.
    pub join: Option<OwnedFd>,
    /// A socket for the reports of what a helper makes, if the plan says that there are any.
    pub reports: Option<OwnedFd>,
}

/// What is to be done when a process has ended. It must not wait for anything.
pub type OnExit = Box<dyn FnOnce(ProcessExit) + Send>;

/// Why there is no process.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// Something on the way to the program failed. Nothing is left of it.
    #[error("{step:?} failed: {errno:?}")]
    Failed {
        /// What.
        step: LaunchStep,
        /// Which of several.
        index: usize,
        /// Why; `None` if it was killed.
        errno: Option<Errno>,
    },
    /// The keeper was not asked, or refused: nothing has happened.
    #[error(transparent)]
    NotAsked(StdioError),
    /// The keeper was asked, and nobody knows what came of it.
    #[error(transparent)]
    Unknown(StdioError),
}

/// A process, from before it is there until its end is told.
#[derive(Default)]
pub(super) struct Known {
    process: OnceLock<(u32, OwnedFd)>,
    on_exit: Mutex<Option<OnExit>>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Known").field(&self.process).finish()
    }
}

impl Known {
    fn new(on_exit: OnExit) -> Arc<Self> {
        Arc::new(Self {
            process: OnceLock::new(),
            on_exit: Mutex::new(Some(on_exit)),
        })
    }

    /// Only the first time counts.
    fn exited(&self, exit: ProcessExit) {
        let on_exit = self.on_exit.lock().take();
        if let Some(on_exit) = on_exit {
            on_exit(exit);
        }
    }

    fn is_over(&self) -> bool {
        self.on_exit.lock().is_none()
    }
}

/// The processes whose end somebody waits for, by stream.
#[derive(Debug, Default)]
pub(super) struct KnownProcesses(ByName<Known>);

impl KnownProcesses {
    pub(super) fn exited(&self, stream: &str, exit: ProcessExit) {
        if let Some(known) = self.0.get(stream) {
            known.exited(exit);
        }
    }

    /// The process of one stream, if the keeper should watch it.
    fn unsettled_of(&self, stream: &str) -> Option<(u32, OwnedFd)> {
        let known = self.0.get(stream).filter(|known| !known.is_over())?;
        let (pid, pidfd) = known.process.get()?;
        Some((*pid, pidfd.try_clone().ok()?))
    }

    /// The processes that the keeper should watch, and their descriptors.
    pub(super) fn unsettled(&self) -> Vec<(String, u32, OwnedFd)> {
        let known = self.0.all().into_iter().filter_map(|(stream, known)| {
            let (pid, pidfd) = known.process.get().filter(|_| !known.is_over())?;
            Some((stream, *pid, pidfd.try_clone().ok()?))
        });
        known.collect()
    }
}

/// A process that was launched or taken up. Clones are the same.
#[derive(Debug, Clone)]
pub struct Process {
    stream: Arc<str>,
    known: Arc<Known>,
}

impl Process {
    /// On the host.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.known.process.get().map_or(0, |(pid, _)| *pid)
    }

    /// The name of its streams.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// A duplicate of its descriptor.
    ///
    /// # Errors
    /// If there is none left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        let gone = || io::Error::from(Errno::SRCH);
        let (_, pidfd) = self.known.process.get().ok_or_else(gone)?;
        pidfd.try_clone()
    }

    fn signal(&self, signal: Signal) -> Result<(), Errno> {
        let (_, pidfd) = self.known.process.get().ok_or(Errno::SRCH)?;
        pidfd_send_signal(pidfd, signal)
    }
}

impl Processes {
    pub(super) fn new(calls: Calls, streams: Streams) -> Self {
        Self { calls, streams }
    }

    /// Launches a process. Its end is told from before its first instruction.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn launch(&self, order: Order<'_>, on_exit: OnExit) -> Result<Process, LaunchError> {
        let refused = |source: io::Error| LaunchError::NotAsked(StdioError::unavailable(&source));
        let plan = sealed(order.plan).map_err(refused)?;
        let stream = order.stream;
        let launch = Launch {
            stream: stream.to_owned(),
            seccomp: order.filter.is_some(),
            cgroup: order.cgroup.is_some(),
            join: order.join.is_some(),
            reports: order.reports.is_some(),
            helper: false,
        };
        let extras = [order.filter, order.cgroup, order.join, order.reports];
        let descriptors = [plan].into_iter().chain(extras.into_iter().flatten());
        let known = Known::new(on_exit);
        self.calls.known().0.insert(stream, &known);
        self.calls.ready().await.map_err(LaunchError::NotAsked)?;
        let answered = self
            .calls
            .call_within(LAUNCH, Call::Launch(launch), descriptors.collect())
            .await
            .map_err(LaunchError::Unknown)?;
        let (pid, descriptors) = match answered {
            (Answer::Launched { pid }, descriptors) => (pid, descriptors),
            (answer, _) => return Err(not_launched(answer)),
        };
        let mut descriptors = descriptors.into_iter();
        let pidfd = descriptors
            .next()
            .ok_or(LaunchError::Unknown(StdioError::Confused))?;
        if let (Some(terminal), Some(stream)) = (descriptors.next(), self.streams.get(stream)) {
            stream.has_terminal(terminal);
        }
        // It is empty: nobody else has this process yet.
        let _ = known.process.set((pid, pidfd));
        Ok(Process {
            stream: stream.into(),
            known,
        })
    }

    /// Runs a helper that makes the process of a stream, to its end.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn help(&self, order: Order<'_>) -> Result<ProcessExit, LaunchError> {
        let refused = |source: io::Error| LaunchError::NotAsked(StdioError::unavailable(&source));
        let plan = sealed(order.plan).map_err(refused)?;
        let launch = Launch {
            stream: order.stream.to_owned(),
            seccomp: false,
            cgroup: false,
            join: false,
            reports: order.reports.is_some(),
            helper: true,
        };
        let descriptors = [plan].into_iter().chain(order.reports);
        self.calls.ready().await.map_err(LaunchError::NotAsked)?;
        let answered = self
            .calls
            .call_within(LAUNCH, Call::Launch(launch), descriptors.collect())
            .await
            .map_err(LaunchError::Unknown)?;
        match answered.0 {
            Answer::Helped { exit } => Ok(exit),
            answer => Err(not_launched(answer)),
        }
    }

    /// Hands over the terminal that a helper has made for a stream's process.
    ///
    /// # Errors
    /// [`StdioError`].
    pub async fn give_terminal(&self, stream: &str, terminal: OwnedFd) -> Result<(), StdioError> {
        let copy = terminal
            .try_clone()
            .map_err(|error| StdioError::unavailable(&error))?;
        let call = Call::Terminal {
            stream: stream.to_owned(),
        };
        done(self.calls.call_with(call, vec![copy]).await?.0)?;
        if let Some(stream) = self.streams.get(stream) {
            stream.has_terminal(terminal);
        }
        Ok(())
    }

    /// Takes up a process that runs, whoever launched it: its end is told if the keeper watches it. See
    /// [`Self::watch`].
    ///
    /// # Errors
    /// `SRCH` if it has ended meanwhile and is gone.
    pub fn take_up(&self, stream: &str, pid: u32, on_exit: OnExit) -> Result<Process, Errno> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pidfd = pidfd_open(raw.ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
        let known = Known::new(on_exit);
        let _ = known.process.set((pid, pidfd));
        Ok(self.make_known(stream, known))
    }

    /// One that the keeper watches and that is on its way out, or gone: only its end can still be told.
    #[must_use]
    pub fn await_end(&self, stream: &str, on_exit: OnExit) -> Process {
        self.make_known(stream, Known::new(on_exit))
    }

    fn make_known(&self, stream: &str, known: Arc<Known>) -> Process {
        self.calls.known().0.insert(stream, &known);
        // Told before it was known.
        if let Some(exit) = self.learnt(stream).and_then(|process| process.exit) {
            known.exited(exit);
        }
        Process {
            stream: stream.into(),
            known,
        }
    }

    /// Has the keeper watch it, unless it does. A keeper that is away does so when it is there: see
    /// `link`.
    pub async fn watch(&self, process: &Process) {
        match self.find(&process.stream).await {
            Ok(Some(ProcessState {
                exit: Some(exit), ..
            })) => process.known.exited(exit),
            Ok(Some(_)) => {}
            Ok(None) => {
                let Ok(pidfd) = process.descriptor() else {
                    // Nobody can tell any more.
                    return process.known.exited(lost());
                };
                let watched = watch(&self.calls, process.stream(), process.pid(), pidfd).await;
                if let Err(error) = watched {
                    tracing::warn!(stream = process.stream(), %error, "its end is not watched yet");
                }
            }
            Err(error) => {
                tracing::warn!(stream = process.stream(), %error, "its end is not watched yet");
            }
        }
    }

    /// Where the process of a stream is, by what the keeper has said since it was connected to, without asking it;
    /// `None` if it has said nothing, or the program did not run yet.
    #[must_use]
    pub fn learnt(&self, stream: &str) -> Option<ProcessState> {
        self.calls.kept_process(stream)
    }

    /// Where the process of a stream is, by the keeper's word; `None` if it knows of none.
    ///
    /// # Errors
    /// [`StdioError`].
    pub async fn find(&self, stream: &str) -> Result<Option<ProcessState>, StdioError> {
        let stream = stream.to_owned();
        match self.calls.call(Call::Get { stream }).await? {
            (Answer::Streams { streams, .. }, _) => {
                Ok(streams.into_iter().next().and_then(|state| state.process))
            }
            _ => Err(StdioError::Confused),
        }
    }

    /// Sends a signal to a process, by its own descriptor. The keeper sends those that have no name.
    ///
    /// # Errors
    /// [`StdioError`].
    pub async fn signal(
        &self,
        process: &Process,
        signal: crate::model::Signal,
    ) -> Result<(), StdioError> {
        let number = signal.number();
        if let Some(named) = Signal::from_named_raw(number.into()) {
            let refused = |errno: Errno| StdioError::Refused {
                reason: Refusal::Process,
                detail: errno.to_string(),
            };
            return process.signal(named).map_err(refused);
        }
        let call = Call::Signal {
            stream: process.stream().to_owned(),
            number,
        };
        done(self.calls.call(call).await?.0)
    }

    /// Whether the keeper is there; changes are seen.
    #[must_use]
    pub fn is_up(&self) -> watch::Receiver<bool> {
        self.calls.is_up()
    }

    /// Waits until the keeper is there.
    ///
    /// # Errors
    /// [`StdioError::Unavailable`].
    pub async fn ready(&self) -> Result<(), StdioError> {
        self.calls.ready().await
    }

    /// Sets the size of a process's terminal.
    ///
    /// # Errors
    /// [`StdioError`].
    pub async fn resize(&self, stream: &str, size: TerminalSize) -> Result<(), StdioError> {
        let call = Call::Resize {
            stream: stream.to_owned(),
            rows: size.rows,
            columns: size.columns,
        };
        done(self.calls.call(call).await?.0)
    }

    /// Lets the keeper kill the process of a stream and forget the stream.
    pub async fn discard(&self, stream: &str) {
        super::stream::close(&self.calls, stream).await;
    }
}

/// That nobody knows how a process ended, from now on.
fn lost() -> ProcessExit {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    });
    ProcessExit {
        time,
        status: ProcessStatus::Lost,
    }
}

fn not_launched(answer: Answer) -> LaunchError {
    match answer {
        Answer::NotLaunched { step, index, errno } => LaunchError::Failed {
            step,
            index: usize::try_from(index).unwrap_or(usize::MAX),
            errno: (errno != 0).then(|| Errno::from_raw_os_error(errno)),
        },
        Answer::Refused { reason, detail } => {
            LaunchError::NotAsked(StdioError::Refused { reason, detail })
        }
        _ => LaunchError::Unknown(StdioError::Confused),
    }
}

fn done(answer: Answer) -> Result<(), StdioError> {
    match answer {
        Answer::Done {} => Ok(()),
        Answer::Refused { reason, detail } => Err(StdioError::Refused { reason, detail }),
        _ => Err(StdioError::Confused),
    }
}

/// Asks the keeper that has just opened a stream to watch its process, if that was launched by another one.
pub(super) async fn watch_of(calls: &Calls, stream: &str) {
    let Some((pid, pidfd)) = calls.known().unsettled_of(stream) else {
        return;
    };
    if let Err(error) = watch(calls, stream, pid, pidfd).await {
        tracing::error!(stream, %error, "its end is not watched");
    }
}

/// Asks the keeper to watch a process that it has not launched.
pub(super) async fn watch(
    calls: &Calls,
    stream: &str,
    pid: u32,
    pidfd: OwnedFd,
) -> Result<(), StdioError> {
    let call = Call::Watch {
        stream: stream.to_owned(),
        pid,
    };
    match calls.call_with(call, vec![pidfd]).await? {
        // If the stream is not open yet, whoever opens it asks again.
        (
            Answer::Done {}
            | Answer::Refused {
                reason: Refusal::Unknown,
                ..
            },
            _,
        ) => Ok(()),
        (Answer::Refused { reason, detail }, _) => Err(StdioError::Refused { reason, detail }),
        _ => Err(StdioError::Confused),
    }
}

/// In a memfd that nobody can change any more.
fn sealed(plan: &Plan) -> io::Result<OwnedFd> {
    let bytes = serde_json::to_vec(plan)?;
    memfd("wharf-plan", &bytes)
}

/// These bytes in a memfd that nobody can change any more.
///
/// # Errors
/// If the system has no room for it.
pub fn memfd(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL);
    let mut file = match made {
        // Kernels before 6.3 do not know that flag.
        Err(Errno::INVAL) => File::from(memfd_create(name, flags)?),
        made => File::from(made?),
    };
    file.write_all(bytes)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(file.as_fd(), seals)?;
    Ok(file.into())
}
