//! What the daemon and the keeper say to each other.
//!
//! A Unix socket of type SEQPACKET, `keeper.sock`, in a directory that only the daemon's user can enter;
//! one JSON message in each packet, descriptors beside it. The kernel keeps messages apart and in order
//! and carries descriptors with the message they belong to, so there is no framing to get wrong; JSON
//! can grow by fields, which whoever does not know them ignores.
//!
//! ```text
//! daemon                                        keeper
//!   Request { id, call: Hello } ----------------->
//!   <--------------- Message::Reply { id, answer: Hello }
//!   Request { id, call: Open } + descriptors ---->
//!   <--------------- Message::Reply { id, answer: Opened }
//!   Request { id, call: Launch } + plan --------->
//!   <--------------- Message::Reply { id, answer: Launched } + descriptor of the process
//!   <--------------- Message::Grew { streams }             unasked, whenever there is more to read
//!   <--------------- Message::Exited { stream, exit }      unasked, once for each process
//! ```
//!
//! Every call but `Window` is answered once, with the id of its request, in any order. Nothing here waits
//! unless the socket does: the daemon uses it on a blocking thread or with a non-blocking socket.

pub mod launch;
mod socket;
mod wire;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use self::launch::LaunchStep;
use crate::segment::{End, Limits, Positions, ProcessExit};

pub use socket::{LOCK_NAME, SOCKET_NAME, connect, listen};
pub use wire::{
    MAX_DESCRIPTORS, MAX_MESSAGE_BYTES, WireError, receive, receive_bytes, send, send_bytes,
};

/// The version of this protocol. It changes only when an older peer would misunderstand.
pub const VERSION: u32 = 1;

/// A stream's name is at most so many bytes.
pub const MAX_STREAM_ID_BYTES: usize = 128;

/// What the daemon sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the daemon; the reply carries it.
    pub id: u64,
    /// What is asked.
    pub call: Call,
}

/// What can be asked of the keeper. Called a *stream* here: all that belongs to one process, its outputs,
/// its input and its recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Must come first. Answered with [`Answer::Hello`], whatever the version; but a peer of another
    /// version may only ask for [`Call::Upgrade`].
    Hello {
        /// The daemon's [`VERSION`].
        version: u32,
    },
    /// Hands over a process's descriptors. Answered with [`Answer::Opened`].
    Open(Open),
    /// Says how far a reader is that the process is to wait for: it is drained no further ahead of it than
    /// [`Limits::read_ahead_bytes`]. Not answered. What was said on a connection ends with it.
    Window {
        /// Which stream. One that is not there is ignored.
        stream: String,
        /// Bytes of both outputs together that the slowest such reader has taken, since the process
        /// started; `None`: there is none.
        taken: Option<u64>,
    },
    /// The process has ended: drains its outputs to their end and completes the recording. Answered with
    /// [`Answer::Finished`] when that is done, also if asked again.
    Finish {
        /// Which stream.
        stream: String,
        /// If somebody holds an output for longer than this, reading stops; nor is a full disk waited for.
        within_ms: u64,
    },
    /// Launches the process of a stream that is open and has none. Descriptors that come along, in this order:
    /// the plan ([`launch::Plan`] as JSON, in a memfd), then those declared here. Answered with
    /// [`Answer::Launched`] once the program runs, or [`Answer::NotLaunched`].
    Launch(Launch),
    /// Watches a process that another keeper has launched, whose descriptor (pidfd_open(2)) comes along. Answered
    /// with [`Answer::Done`].
    Watch {
        /// Whose process it is. The stream must be open and have none, or this one.
        stream: String,
        /// The process.
        pid: u32,
    },
    /// Sets the size of the terminal of a stream's process. Answered with [`Answer::Done`].
    Resize {
        /// Which stream.
        stream: String,
        /// In characters.
        rows: u16,
        /// In characters.
        columns: u16,
    },
    /// Hands over the terminal that a helper has made for a stream's process: its master comes along. Answered with
    /// [`Answer::Done`].
    Terminal {
        /// Which stream.
        stream: String,
    },
    /// Sends a signal to a stream's process. Answered with [`Answer::Done`].
    Signal {
        /// Which stream.
        stream: String,
        /// The signal's number, 1 to 64.
        number: u8,
    },
    /// Asks for a duplicate of the write end of standard input. Answered with [`Answer::Stdin`].
    TakeStdin {
        /// Which stream.
        stream: String,
    },
    /// Closes the keeper's end of standard input. Answered with [`Answer::Done`], also if it is closed.
    CloseStdin {
        /// Which stream.
        stream: String,
    },
    /// Forgets a stream, closes its descriptors, and kills its process if it still runs; the recording stays as
    /// it is. Answered with
    /// [`Answer::Done`], also if there is no such stream.
    Close {
        /// Which stream.
        stream: String,
    },
    /// Asks what is kept. Answered with [`Answer::Streams`].
    List {
        /// Only streams whose names are greater: the last one of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    /// Asks about one stream. Answered with [`Answer::Streams`], which has it if it is kept.
    Get {
        /// Which stream.
        stream: String,
    },
    /// Runs another binary, the descriptor sent along, or the same one again, in place: everything kept
    /// stays. All connections end, and that is the answer; [`Answer::Refused`] if it does not work.
    Upgrade {},
}

/// A process's descriptors and where its output goes.
///
/// The descriptors sent along stand in the order in which they are declared here: standard output,
/// standard error, standard input. They are duplicates: who sent them closes its own, or keeps them so that
/// a process is not ended by SIGPIPE when the keeper dies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The name of the stream from now on: chosen by the daemon, at most [`MAX_STREAM_ID_BYTES`].
    pub stream: String,
    /// Where its recording is; made if missing. An absolute path.
    pub directory: PathBuf,
    /// The run that the recording is of.
    pub run: u64,
    /// How much of the directory's recordings is kept.
    pub limits: Limits,
    /// Which descriptors come along.
    pub descriptors: Descriptors,
    /// As in [`Call::Window`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<u64>,
    /// True after a keeper's death: what the process wrote meanwhile may be lost, so the recording gets a
    /// gap of unknown length.
    #[serde(default)]
    pub continues: bool,
}

/// Which descriptors come with [`Open`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptors {
    /// The read end of standard output, non-blocking.
    #[serde(default)]
    pub stdout: bool,
    /// The read end of standard error, non-blocking.
    #[serde(default)]
    pub stderr: bool,
    /// The write end of standard input.
    #[serde(default)]
    pub stdin: bool,
}

impl Descriptors {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.stdout) + usize::from(self.stderr) + usize::from(self.stdin)
    }
}

/// Which stream's process is to be launched, and what comes along with the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The stream.
    pub stream: String,
    /// Whether a memfd with a seccomp program comes along: an array of `struct sock_filter`.
    #[serde(default)]
    pub seccomp: bool,
    /// Whether a descriptor of a version 2 control group comes along, for the process to be made in.
    #[serde(default)]
    pub cgroup: bool,
    /// Whether a descriptor of the process to join comes along.
    #[serde(default)]
    pub join: bool,
    /// Whether a socket comes along that [`launch::Program::reports`] is to be told on.
    #[serde(default)]
    pub reports: bool,
    /// Whether it is not the stream's process, but a helper that makes it. Its end is the answer,
    /// [`Answer::Helped`]; what it leaves behind becomes the keeper's child.
    #[serde(default)]
    pub helper: bool,
}

/// What the keeper sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The answer to a request.
    Reply {
        /// The request's.
        id: u64,
        /// What came of it.
        answer: Answer,
    },
    /// There is more to read in these streams. Every growth is followed by such a message; several may
    /// be told in one.
    Grew {
        /// How far each of them is now.
        streams: Vec<Growth>,
    },
    /// The process of a stream has ended.
    Exited {
        /// Which stream.
        stream: String,
        /// Its process.
        pid: u32,
        /// How, and when.
        exit: ProcessExit,
    },
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Who answers.
    Hello {
        /// The keeper's [`VERSION`].
        version: u32,
        /// Its process.
        pid: u32,
        /// The version of its program.
        program: String,
    },
    /// The stream is kept from now on.
    Opened {
        /// How far the recording was.
        positions: Positions,
    },
    /// All output is recorded.
    Finished {
        /// How far the recording got.
        positions: Positions,
        /// True if reading was stopped while somebody still held an output.
        truncated: bool,
        /// False if something could not be written in time: the disk is full. It is tried again until
        /// `Close`.
        recorded: bool,
    },
    /// The program runs. Its process's descriptor (pidfd_open(2)) is sent along; for a terminal its master, too.
    Launched {
        /// On the host.
        pid: u32,
    },
    /// It does not, and nothing is left of it but the stream.
    NotLaunched {
        /// What failed.
        step: LaunchStep,
        /// Which of several, see [`LaunchStep`].
        index: u32,
        /// Why; 0 if no system call failed.
        errno: i32,
    },
    /// The helper has ended.
    Helped {
        /// How.
        exit: ProcessExit,
    },
    /// The write end of standard input is sent along.
    Stdin {},
    /// It is done, or was.
    Done {},
    /// A page of what is kept, in the order of names.
    Streams {
        /// At least one, unless there are no more.
        streams: Vec<StreamState>,
        /// Whether there are more after the last of these.
        more: bool,
    },
    /// It cannot be done; nothing has changed.
    Refused {
        /// Why.
        reason: Refusal,
        /// For a log; nothing depends on it.
        #[serde(default)]
        detail: String,
    },
}

/// Why the keeper does not do what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It does not understand the request.
    Unintelligible,
    /// `Hello` comes first.
    HelloFirst,
    /// The daemon speaks another version.
    Version,
    /// A field's value or the number of descriptors is wrong.
    Invalid,
    /// There is a stream of this name, or it is being opened or closed.
    Exists,
    /// There is no stream of this name.
    Unknown,
    /// It keeps as many streams as it can.
    TooMany,
    /// The stream has a process already, or never had one.
    Process,
    /// The process has no terminal.
    NoTerminal,
    /// Standard input is closed, or was never there.
    StdinClosed,
    /// The recording cannot be opened.
    Storage,
    /// The keeper is upgrading itself: ask again on a new connection.
    Upgrading,
    /// The upgrade does not work; the keeper goes on as it is.
    UpgradeFailed,
    /// The keeper's own system calls fail: descriptors, memory.
    System,
}

/// How far a stream is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// Its name.
    pub stream: String,
    /// Offset behind the last byte of standard output that is recorded.
    pub stdout: u64,
    /// Offset behind the last byte of standard error that is recorded.
    pub stderr: u64,
    /// Entries recorded since this keeper opened it: grows with gaps and the end, too.
    pub entries: u64,
    /// Set when the recording is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<End>,
}

/// One stream that the keeper keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    /// Its name.
    pub stream: String,
    /// Where its recording is.
    pub directory: PathBuf,
    /// The run that the recording is of.
    pub run: u64,
    /// How far it is.
    pub positions: Positions,
    /// Outputs that have not come to their end.
    pub outputs_open: u32,
    /// Whether the keeper holds the write end of standard input.
    pub stdin_open: bool,
    /// Whether `Finish` has been carried out.
    pub finished: bool,
    /// Its process, if this keeper launched or watches one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessState>,
}

/// Where a stream's process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessState {
    /// On the host.
    pub pid: u32,
    /// Whether it has become the program.
    pub launched: bool,
    /// How it ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ProcessExit>,
}
