//! Signals by name and number, as Linux on every architecture but MIPS and SPARC numbers them
//! (signal(7)).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A signal that can be sent: 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(u8);

/// The text names no signal.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no such signal")]
pub struct UnknownSignal;

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The first real-time signal that the C library leaves to programs.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

impl Signal {
    /// SIGHUP.
    pub const HUP: Self = Self(1);
    /// SIGINT.
    pub const INT: Self = Self(2);
    /// SIGKILL.
    pub const KILL: Self = Self(9);
    /// SIGTERM.
    pub const TERM: Self = Self(15);
    /// SIGCONT.
    pub const CONT: Self = Self(18);

    /// The signal numbered `number`, 1 to 64.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        u8::try_from(number)
            .ok()
            .filter(|n| (1..=RTMAX).contains(n))
            .map(Self)
    }

    /// Its number, 1 to 64.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// Reads `SIGHUP`, `HUP`, `SIGRTMIN+3`, `RTMAX-1` or `9`; names are in upper case.
    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        if let Ok(number) = text.parse() {
            return Self::from_number(number).ok_or(UnknownSignal);
        }
        let name = text.strip_prefix("SIG").unwrap_or(text);
        if let Some(index) = NAMES.iter().position(|known| *known == name) {
            return u32::try_from(index + 1)
                .ok()
                .and_then(Self::from_number)
                .ok_or(UnknownSignal);
        }
        let offset = |rest: &str, sign: char| match rest {
            "" => Some(0),
            rest => rest.strip_prefix(sign)?.parse::<u8>().ok(),
        };
        let number = if let Some(rest) = name.strip_prefix("RTMIN") {
            offset(rest, '+').and_then(|n| RTMIN.checked_add(n))
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            offset(rest, '-').and_then(|n| RTMAX.checked_sub(n))
        } else {
            None
        };
        number
            .filter(|n| (RTMIN..=RTMAX).contains(n))
            .map(Self)
            .ok_or(UnknownSignal)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0) - 1) {
            Some(name) => write!(f, "SIG{name}"),
            None if self.0 >= RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            // 32 and 33 belong to the C library and have no name.
            None => write!(f, "{}", self.0),
        }
    }
}

impl TryFrom<String> for Signal {
    type Error = UnknownSignal;

    fn try_from(text: String) -> Result<Self, UnknownSignal> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_reads_back_as_it_shows_itself() {
        for number in 1..=64 {
            let signal = Signal::from_number(number).expect("in range");
            assert_eq!(signal.to_string().parse(), Ok(signal));
        }
    }

    #[test]
    fn names_come_with_and_without_their_prefix() {
        assert_eq!("SIGTERM".parse(), Ok(Signal::TERM));
        assert_eq!("KILL".parse(), Ok(Signal::KILL));
        assert_eq!("SIGRTMIN+3".parse::<Signal>().map(Signal::number), Ok(37));
        assert_eq!("RTMAX-1".parse::<Signal>().map(Signal::number), Ok(63));
    }

    #[test]
    fn what_names_no_signal_is_refused() {
        for text in [
            "", "SIG", "SIGFOO", "0", "65", "-1", "RTMIN+31", "RTMAX-31", "term", "RTMIN-1",
        ] {
            assert_eq!(text.parse::<Signal>(), Err(UnknownSignal), "{text}");
        }
    }
}
