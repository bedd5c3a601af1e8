//! Signals to this process, and changes of its terminal's size, on their way to the process elsewhere.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::io;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use wharf_client::Input;

use super::{Keyboard, Proxy, Screen, terminal};

/// A signal that is passed on: its number and its name.
type Named = (u8, &'static str);

/// What people and scripts send to a program that runs. Not SIGTSTP and its like: they are about this
/// process's place in its shell.
fn passed_on() -> [(SignalKind, &'static str); 6] {
    [
        (SignalKind::hangup(), "HUP"),
        (SignalKind::interrupt(), "INT"),
        (SignalKind::quit(), "QUIT"),
        (SignalKind::terminate(), "TERM"),
        (SignalKind::user_defined1(), "USR1"),
        (SignalKind::user_defined2(), "USR2"),
    ]
}

/// The third of these leaves, for a process that does not heed them.
const INSISTED: usize = 3;

/// Signals to this process. Also those that are not passed on are taken: whoever ends by one has a
/// terminal to give back first.
pub(crate) struct Signals {
    proxy: Proxy,
    sources: Vec<(Named, Signal)>,
}

impl Signals {
    pub(crate) fn new(proxy: Proxy) -> io::Result<Self> {
        let listen = |(kind, name): (SignalKind, &'static str)| {
            let number = u8::try_from(kind.as_raw_value()).unwrap_or(0);
            Ok(((number, name), signal(kind)?))
        };
        let sources = passed_on().into_iter().map(listen);
        Ok(Self {
            proxy,
            sources: sources.collect::<io::Result<_>>()?,
        })
    }

    /// The number of the next one.
    pub(crate) async fn next(&mut self) -> u8 {
        self.named().await.0
    }

    async fn named(&mut self) -> Named {
        let mut all: FuturesUnordered<_> = self
            .sources
            .iter_mut()
            .map(|(named, source)| async move { source.recv().await.map(|()| *named) })
            .collect();
        match all.next().await.flatten() {
            Some(named) => named,
            None => pending().await,
        }
    }

    /// Passes signals on until one is meant for this process: any if none is to be passed on, or while
    /// keys go to the process, for then they come from elsewhere; else the third that asks for the end.
    pub(super) async fn forward(&mut self, mut input: Input, keyboard: Keyboard) -> u8 {
        let mut asked = 0;
        // While the server is away it cannot be told. Those of one kind that wait are one, as in a kernel.
        let mut untold: VecDeque<Named> = VecDeque::new();
        loop {
            let named = tokio::select! {
                biased;
                () = tell(&mut input, untold.front()), if !untold.is_empty() => {
                    untold.pop_front();
                    continue;
                }
                named = self.named() => named,
            };
            let (number, name) = named;
            asked += usize::from(matches!(name, "INT" | "TERM"));
            let ours = self.proxy == Proxy::Leave || keyboard == Keyboard::Raw;
            if ours || asked == INSISTED {
                return number;
            }
            if !untold.contains(&named) {
                untold.push_back(named);
            }
        }
    }
}

/// A session that has ended says so itself.
async fn tell(input: &mut Input, named: Option<&Named>) {
    if let Some((_, name)) = named {
        let _ = input.signal(*name).await;
    }
}

/// Changes of the terminal's size.
pub(super) struct SizeChanges {
    /// `None` if nobody wants to know.
    source: Option<Signal>,
}

impl SizeChanges {
    pub(super) fn new(screen: Screen) -> io::Result<Self> {
        let source = match screen {
            Screen::Terminal | Screen::Rejoined => Some(signal(SignalKind::window_change())?),
            Screen::Pipes => None,
        };
        Ok(Self { source })
    }

    /// Tells the process of each change, for ever.
    pub(super) async fn follow(&mut self, mut input: Input) -> Infallible {
        let Some(source) = &mut self.source else {
            return pending().await;
        };
        while source.recv().await.is_some() {
            if let Some(size) = terminal::size() {
                let _ = input.resize(size).await;
            }
        }
        pending().await
    }
}
