//! A session at the command line: the terminal, the standard streams and the signals of this process,
//! wired to a process elsewhere.
//!
//! ```text
//!   fd 0 ---> source (thread) ---> detach keys ---> Input ===> process
//!   fd 1, 2 <--- sink (thread) <--- Session <================= process
//!   SIGINT, SIGWINCH, … --------------------------> Input ===> process
//! ```
//!
//! Reading and writing have threads of their own: a terminal that nobody types at, or a reader that
//! has stopped, must hold up neither the signals nor the end.

mod detach_keys;
mod feed;
mod signals;
mod sink;
mod source;
mod terminal;

use wharf_client::v1::exit_status::Reason;
use wharf_client::v1::{ExitStatus, OutputStream, TerminalSize};
use wharf_client::{Input, InputFate, Output as Happening, Session};

pub(crate) use detach_keys::DetachKeys;
pub(crate) use signals::Signals;
pub(crate) use terminal::{Echoless, is_stderr, is_stdin, is_stdout, size_or_default};

use super::failure::Failure;
use super::output::Output;
use feed::Feed;
use signals::SizeChanges;
use sink::Sink;
use terminal::Raw;

/// What is wired up.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(crate) stdin: Stdin,
    pub(crate) screen: Screen,
    pub(crate) signals: Proxy,
    pub(crate) detach_keys: DetachKeys,
}

/// What becomes of this process's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdin {
    Forward,
    Leave,
}

/// What the process writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Screen {
    Pipes,
    /// A terminal of its own, of this one's size.
    Terminal,
    /// A terminal that was there before, and whose program is to paint it again.
    Rejoined,
}

/// What becomes of signals to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxy {
    Forward,
    /// They end this process.
    Leave,
}

/// Who hears what is not output of the process.
pub(crate) trait Listener {
    /// Something happened.
    fn hear(&mut self, happening: &Happening, output: &mut Output) -> Result<(), Failure>;
}

/// Nobody.
impl Listener for () {
    fn hear(&mut self, _: &Happening, _: &mut Output) -> Result<(), Failure> {
        Ok(())
    }
}

/// How a session came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parting {
    /// The process ended first, with this exit code.
    Ended(u8),
    /// The process goes on.
    Detached,
}

impl Parting {
    /// The process's own; 0 after a detach.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Ended(code) => code,
            Self::Detached => 0,
        }
    }
}

/// Runs the session to its end.
pub(crate) async fn conduct(
    mut session: Session,
    wiring: Wiring,
    listener: &mut dyn Listener,
    output: &mut Output,
) -> Result<Parting, Failure> {
    wiring.remark_on_stdin(output);
    let mut signals = Signals::new(wiring.signals).map_err(Failure::Runtime)?;
    let mut sizes = SizeChanges::new(wiring.screen).map_err(Failure::Runtime)?;
    let input = session.input();
    // Until the process runs there is nobody to send a signal to: it ends the attempt.
    let begun = tokio::select! {
        begun = begin(&mut session, wiring.screen, listener, output) => begun?,
        number = signals.next() => return Err(Failure::Signaled(number)),
        never = sizes.follow(input.clone()) => match never {},
    };
    if let Begun::Over(parting) = begun {
        return Ok(parting);
    }
    let raw = Raw::enter(&wiring).map_err(Failure::Terminal)?;
    let keyboard = raw.keyboard();
    let mut sink = Sink::start().map_err(Failure::Runtime)?;
    let feed = Feed::new(&wiring, keyboard, input.clone());
    let ended = tokio::select! {
        ended = deliver(&mut session, &mut sink, keyboard, output) => ended,
        failure = feed.run() => Err(failure),
        number = signals.forward(input.clone(), keyboard) => return Err(Failure::Signaled(number)),
        never = sizes.follow(input) => match never {},
    };
    // What has come is shown, whatever came after it; but a reader that has stopped can be left.
    let shown = tokio::select! {
        shown = sink.finish() => shown,
        number = signals.next() => return Err(Failure::Signaled(number)),
    };
    let parting = ended?;
    shown.map(|()| parting)
}

/// What came of the beginning.
enum Begun {
    Running,
    Over(Parting),
}

/// Reads on until the process runs.
async fn begin(
    session: &mut Session,
    screen: Screen,
    listener: &mut dyn Listener,
    output: &mut Output,
) -> Result<Begun, Failure> {
    while let Some(happening) = session.next().await? {
        listener.hear(&happening, output)?;
        match happening {
            Happening::Attached(attached) if attached.terminal => {
                send_size(&mut session.input(), screen).await;
            }
            Happening::Started(_) => return Ok(Begun::Running),
            Happening::Exited(status) => return Ok(Begun::Over(ended(&status, output))),
            Happening::Detached => return Ok(Begun::Over(Parting::Detached)),
            _ => {}
        }
    }
    Ok(Begun::Over(Parting::Detached))
}

/// The present size. A program that has painted before paints again only if the size changes.
async fn send_size(input: &mut Input, screen: Screen) {
    let Some(size) = terminal::size() else {
        return;
    };
    if screen == Screen::Rejoined {
        let other = TerminalSize {
            rows: size.rows + 1,
            ..size
        };
        // A session that has ended says so itself.
        let _ = input.resize(other).await;
    }
    let _ = input.resize(size).await;
}

/// Whether this process's input comes from fingers, through a terminal in raw mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyboard {
    Raw,
    None,
}

/// Hands on what the process writes, until it ends.
async fn deliver(
    session: &mut Session,
    sink: &mut Sink,
    keyboard: Keyboard,
    output: &mut Output,
) -> Result<Parting, Failure> {
    while let Some(happening) = session.next().await? {
        match happening {
            Happening::Chunk { stream, data, .. } => sink.write(stream, data).await?,
            Happening::Gap {
                stream,
                dropped_bytes,
            } => output.warning(&gap(stream, dropped_bytes)),
            Happening::Resumed(fate) => resumed(fate, keyboard, output)?,
            Happening::Exited(status) => return Ok(ended(&status, output)),
            Happening::Detached => return Ok(Parting::Detached),
            _ => {}
        }
    }
    Ok(Parting::Detached)
}

fn gap(stream: OutputStream, dropped_bytes: Option<u64>) -> String {
    let name = match stream {
        OutputStream::Stderr => "standard error",
        OutputStream::Stdout | OutputStream::Unspecified => "standard output",
    };
    match dropped_bytes {
        Some(bytes) => format!("{bytes} bytes of {name} are missing here"),
        None => format!("some of {name} may be missing here"),
    }
}

/// Who types sees what is missing and types it again; a file that is missing a part is worthless.
fn resumed(fate: InputFate, keyboard: Keyboard, output: &mut Output) -> Result<(), Failure> {
    match (fate, keyboard) {
        (InputFate::Untouched | InputFate::Delivered, _) => Ok(()),
        (InputFate::Unknown, Keyboard::Raw) => {
            output.warning("the connection was lost for a moment; the last input may be, too");
            Ok(())
        }
        (InputFate::Unknown, Keyboard::None) => Err(Failure::InputLost),
    }
}

/// The process's own exit code, with a remark where that does not say all.
fn ended(status: &ExitStatus, output: &mut Output) -> Parting {
    if status.output_truncated {
        output
            .warning("the process left others behind that still write; their output is not shown");
    }
    if status.reason() == Reason::Lost {
        output.warning("how the process ended could not be observed");
    }
    Parting::Ended(u8::try_from(status.code).unwrap_or(u8::MAX))
}

impl Wiring {
    fn remark_on_stdin(&self, output: &mut Output) {
        if self.screen == Screen::Terminal && !terminal::is_stdin() {
            output.warning(
                "standard input is not a terminal, and stays as it is; only the process gets one",
            );
        }
    }
}
