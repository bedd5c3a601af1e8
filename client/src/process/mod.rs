//! Sessions with a process: its input and its output on one stream, over interruptions.
//!
//! ```text
//!             open                 attached             started            exited, detached
//!   Opening --------> Open (away) ----------> attached ---------> running ------------------> Over
//!      ^                  |                      |                   |
//!      +-- same request --+                      |                   | interruption
//!      +--- run_*: same request, same key -------+                   |
//!      +--- attach_*, follow_*: from byte 0 -----+                   |
//!      +--- attach with the offsets that were delivered -------------+
//! ```
//!
//! A session owns both halves of its stream: dropping it cancels the call as a whole, and the server
//! does what `on_disconnect` says. Output goes on after an interruption exactly where it stopped, or
//! with a [`Output::Gap`]. Input cannot be taken up again: after an interruption the session says
//! what became of it ([`InputFate`]).
//!
//! It starts no task: nothing happens unless [`Session::next`] is awaited.

mod engine;
mod input;
mod line;
mod opening;
mod output;
mod port;
mod replies;
#[cfg(test)]
mod tests;

use wharf_api::v1::{
    AttachContainerStart, AttachExecStart, Attached, FollowContainerRequest, FollowExecRequest,
    RunContainerStart, RunExecStart, StreamOffset,
};

use crate::client::Client;
use crate::error::Error;
use crate::options::RequestId;
use engine::Engine;
pub use input::{Input, InputError};
use opening::Opening;
pub use output::Output;

/// What became of the input that was sent before an interruption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFate {
    /// None had been sent, so none is lost.
    Untouched,
    /// All of it arrived: it had been closed, and the server knows that.
    Delivered,
    /// Some had been sent; how much of it arrived is not known. None is sent again.
    Unknown,
}

/// Input to a process and output from it.
///
/// A session that sends input (`AttachOptions.stdin`) has a connection of its own.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use wharf_client::v1::{ExecSpec, ProcessSpec, RunExecStart};
/// use wharf_client::{Client, Output};
///
/// let client = Client::from_env().await?;
/// let process = ProcessSpec { args: vec!["cat".into()], ..Default::default() };
/// let mut session = client.run_exec(RunExecStart {
///     container: "web".into(),
///     spec: Some(ExecSpec { process: Some(process), stdin_open: true, ..Default::default() }),
///     attach: Some(wharf_client::v1::AttachOptions { stdin: true, ..Default::default() }),
///     ..Default::default()
/// });
/// let mut input = session.input();
/// let feed = async {
///     input.write("hello\n").await?;
///     input.close_stdin().await
/// };
/// let read = async {
///     while let Some(output) = session.next().await? {
///         match output {
///             Output::Chunk { data, .. } => println!("{} bytes", data.len()),
///             Output::Exited(status) => println!("exit code {}", status.code),
///             _ => {}
///         }
///     }
///     Ok::<_, wharf_client::Error>(())
/// };
/// // Both at once: a process that is not read from stops reading, too.
/// let (fed, read) = tokio::join!(feed, read);
/// fed?;
/// read?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping a session cancels it"]
pub struct Session {
    engine: Engine,
    input: Input,
}

/// Output of a process, for those who only look on. See [`Session`].
#[derive(Debug)]
#[must_use = "dropping it ends it"]
pub struct Follow {
    engine: Engine,
}

impl Session {
    fn new(client: &Client, opening: Opening) -> Self {
        let (port, input) = port::port();
        Self {
            engine: Engine::new(client, opening, Some(port)),
            input,
        }
    }

    /// A handle for the process's input, of use while [`Self::next`] is awaited elsewhere. Dropping it
    /// does not close the input.
    #[must_use]
    pub fn input(&self) -> Input {
        self.input.fresh()
    }

    /// What happens next; `None` after [`Output::Exited`], [`Output::Detached`] or an error.
    ///
    /// Interruptions (the server drains, restarts, or the connection is lost) are bridged for up to a
    /// minute and within the call's deadline, unless the retry policy never repeats. Safe to drop and call again.
    ///
    /// # Errors
    /// [`Error::Call`] when the server refuses, [`Error::Deadline`], [`Error::Incomplete`], and the
    /// interruption itself when it lasts too long. Any error ends the session.
    pub async fn next(&mut self) -> Result<Option<Output>, Error> {
        self.engine.next().await
    }

    /// Which process it is; `None` before [`Output::Attached`].
    #[must_use]
    pub fn attached(&self) -> Option<&Attached> {
        self.engine.attached()
    }

    /// Where to go on in another session, just after what [`Self::next`] has returned.
    #[must_use]
    pub fn offsets(&self) -> Vec<StreamOffset> {
        self.engine.offsets()
    }
}

impl Follow {
    fn new(client: &Client, opening: Opening) -> Self {
        Self {
            engine: Engine::new(client, opening, None),
        }
    }

    /// As [`Session::next`].
    ///
    /// # Errors
    /// As [`Session::next`].
    pub async fn next(&mut self) -> Result<Option<Output>, Error> {
        self.engine.next().await
    }

    /// As [`Session::attached`].
    #[must_use]
    pub fn attached(&self) -> Option<&Attached> {
        self.engine.attached()
    }

    /// As [`Session::offsets`].
    #[must_use]
    pub fn offsets(&self) -> Vec<StreamOffset> {
        self.engine.offsets()
    }
}

impl Client {
    /// Runs a further process in a container, attached to it. An idempotency key is made up if there
    /// is none, so that a repeated opening attaches to the same exec.
    pub fn run_exec(&self, mut start: RunExecStart) -> Session {
        keyed(&mut start.idempotency_key);
        Session::new(self, Opening::RunExec(Box::new(start)))
    }

    /// Attaches to an exec, and starts it if it has not started.
    pub fn attach_exec(&self, start: AttachExecStart) -> Session {
        Session::new(self, Opening::AttachExec(start))
    }

    /// Reads an exec's output. A slow reader loses the oldest, with a [`Output::Gap`].
    pub fn follow_exec(&self, request: FollowExecRequest) -> Follow {
        Follow::new(self, Opening::FollowExec(request))
    }

    /// Creates a container and runs it, attached to its main process. An idempotency key is made up if
    /// there is none, so that a repeated opening attaches to the same run.
    pub fn run_container(&self, mut start: RunContainerStart) -> Session {
        keyed(&mut start.idempotency_key);
        Session::new(self, Opening::RunContainer(Box::new(start)))
    }

    /// Attaches to a container's main process until that run ends; waits for its start if it does not
    /// run.
    pub fn attach_container(&self, start: AttachContainerStart) -> Session {
        Session::new(self, Opening::AttachContainer(start))
    }

    /// Reads a main process's output. A slow reader loses the oldest, with a [`Output::Gap`].
    pub fn follow_container(&self, request: FollowContainerRequest) -> Follow {
        Follow::new(self, Opening::FollowContainer(request))
    }
}

fn keyed(key: &mut String) {
    if key.is_empty() {
        *key = RequestId::generate().to_string();
    }
}
