//! Which backend the servers of this run have: `WHARF_TEST_BACKEND`, one for all scenarios.

/// What runs the containers of scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A containerd of the scenario's own.
    Containerd,
    /// The server and its keeper.
    Local,
    /// The same, by way of an OCI runtime.
    LocalBy(&'static str),
}

impl Backend {
    /// What the server calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Local | Self::LocalBy(_) => "local",
        }
    }

    /// containerd, unless the environment says otherwise.
    pub fn of_this_run() -> Self {
        match std::env::var("WHARF_TEST_BACKEND").as_deref() {
            Err(_) | Ok("containerd") => Self::Containerd,
            Ok("local") => Self::Local,
            Ok("local-runc") => Self::LocalBy("runc"),
            Ok("local-crun") => Self::LocalBy("crun"),
            Ok(other) => panic!("WHARF_TEST_BACKEND={other} is none"),
        }
    }
}
