//! The flags that attached commands share.

use clap::{ArgAction, Args, ValueEnum};
use wharf_client::v1::DisconnectAction;

use super::attached::{DetachKeys, Proxy};

/// How to leave, and what becomes of the process then.
#[derive(Debug, Args)]
pub(crate) struct LeaveFlags {
    /// Keys that detach, where the process has a terminal; "" for none
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: DetachKeys,
    /// What becomes of the process when the connection ends before it
    #[arg(long, value_name = "ACTION")]
    on_disconnect: Option<OnDisconnect>,
}

impl LeaveFlags {
    pub(crate) fn on_disconnect(&self) -> DisconnectAction {
        self.on_disconnect
            .map_or(DisconnectAction::Unspecified, DisconnectAction::from)
    }
}

/// Whether signals are passed on.
#[derive(Debug, Args)]
pub(crate) struct ProxyFlags {
    /// Pass signals on to the process
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = ArgAction::Set
    )]
    sig_proxy: bool,
}

impl ProxyFlags {
    pub(crate) fn proxy(&self) -> Proxy {
        match self.sig_proxy {
            true => Proxy::Forward,
            false => Proxy::Leave,
        }
    }
}

/// What becomes of a process whose caller has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnDisconnect {
    /// It goes on
    Detach,
    /// It gets SIGHUP
    Hangup,
    /// It gets its stop signal, then SIGKILL
    Stop,
    /// It gets SIGKILL
    Kill,
}

impl From<OnDisconnect> for DisconnectAction {
    fn from(action: OnDisconnect) -> Self {
        match action {
            OnDisconnect::Detach => Self::Detach,
            OnDisconnect::Hangup => Self::Hangup,
            OnDisconnect::Stop => Self::Stop,
            OnDisconnect::Kill => Self::Kill,
        }
    }
}
