//! Launching by an OCI runtime (`runc`, `crun`, a path) instead of the keeper itself.
//!
//! ```text
//! helper: RUNTIME create ── overlay mounted for it alone ──► the container's first process, waiting
//! helper: RUNTIME start  ──► it becomes the program          (the keeper is its parent by now)
//! ```
//!
//! The keeper runs the runtime as a helper and watches what it leaves behind. All else, limits, freezing, signals,
//! files, is done as for containers that the keeper launches, on the same control group; so nothing is asked of the
//! runtime again, and what it keeps is removed with the run.

use std::env;
use std::fs;
use std::io::{self, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oci_spec::runtime::{Process as OciProcess, Root as OciRoot, Spec};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::failure::{self, Attempt};
use super::live::Live;
use super::plan;
use super::{Inner, Local, cgroup_name};
use crate::backend::oci_runtime::{self, LaunchContext, RuntimeName};
use crate::backend::{BackendError, Start, StartExec, format};
use crate::cgroup::Kind;
use crate::model::{Container, ContainerId, LaunchFailure, Run, Signal, StdioPaths, spec};
use crate::oci::runtime_spec::{capability_bits, console_size};
use crate::stdio::launch::{Confinement, Plan, Program, Root, Stdio, Text, World};
use crate::stdio::segment::ProcessStatus;
use crate::stdio::{Directories, Order, launch};

/// How long an init may take to execute its program: what hangs is the file system of one container.
const PROGRAM: Duration = Duration::from_secs(60);
/// How long a runtime may take to hand over a terminal once it has ended well.
const TERMINAL: Duration = Duration::from_secs(5);
/// Below an exec's directory.
const EXEC_BUNDLE: &str = "runtime";
const PID_FILE: &str = "pid";
/// The longest log of a runtime that is read.
const MAX_LOG_BYTES: u64 = 1 << 20;

/// A runtime that is there.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    /// As asked for.
    name: String,
    program: PathBuf,
}

impl Runtime {
    /// What runs `container`, if it is a runtime.
    ///
    /// # Errors
    /// [`LaunchFailure::RuntimeNotFound`].
    pub(super) fn of(
        container: &Container,
        default: Option<&str>,
    ) -> Result<Option<Self>, LaunchFailure> {
        let Some(name) = container.spec.runtime.as_deref().or(default) else {
            return Ok(None);
        };
        let not_found = || LaunchFailure::RuntimeNotFound {
            runtime: name.to_owned(),
            available: oci_runtime::installed(),
        };
        let program = find(name).ok_or_else(not_found)?;
        Ok(Some(Self {
            name: name.to_owned(),
            program,
        }))
    }
}

/// A program by its path, or in this process's `PATH`.
fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).is_file().then(|| name.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut candidates = env::split_paths(&path).map(|directory| directory.join(name));
    candidates.find(|candidate| candidate.is_file())
}

/// Where a runtime finds and leaves things for one process.
struct Places {
    /// The runtime's own state of all containers.
    state: PathBuf,
    /// `config.json` or `process.json`.
    bundle: PathBuf,
    log: PathBuf,
    pid: PathBuf,
    console: PathBuf,
}

impl Places {
    fn new(backend: &Local, id: ContainerId, stream: &str, bundle: PathBuf) -> Self {
        let roots = &backend.inner.roots;
        Self {
            state: roots.runtime_state(),
            log: bundle.join("log.json"),
            pid: bundle.join(PID_FILE),
            console: roots.console(id, stream),
            bundle,
        }
    }

    /// Empty, whatever a launch before this one has left.
    fn prepare(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.bundle) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&self.state)?;
        fs::create_dir_all(&self.bundle)
    }

    fn common(&self) -> Vec<String> {
        let shown = |path: &Path| path.display().to_string();
        let options = ["--log-format", "json", "--log"].map(str::to_owned);
        let state = ["--root".to_owned(), shown(&self.state)];
        let log = [shown(&self.log)];
        state.into_iter().chain(options).chain(log).collect()
    }
}

/// Creates and starts a run's container. Its control group is made by the runtime.
pub(super) async fn start(
    backend: &Local,
    runtime: &Runtime,
    start: &Start,
    spec: Spec,
    live: &Arc<Live>,
) -> Result<(), BackendError> {
    let container = &start.container;
    let name = cgroup_name(container.id, start.run);
    let bundle = backend.inner.roots.bundle(container.id);
    let places = Places::new(backend, container.id, &name, bundle);
    let root = backend.inner.roots.mount_point(container.id);
    write_bundle(backend, &places, spec, root.clone(), start).await?;
    let (told, reports) = match container.spec.init {
        true => {
            let (ours, theirs) = UnixStream::pair().map_err(|error| unusable(&error))?;
            let theirs = theirs.into_std().map_err(|error| unusable(&error))?;
            (Some(ours), Some(OwnedFd::from(theirs)))
        }
        false => (None, None),
    };
    let mut create = places.common();
    create.extend(
        [
            "create",
            "--bundle",
            &places.bundle.display().to_string(),
            "--pid-file",
            &places.pid.display().to_string(),
        ]
        .map(str::to_owned),
    );
    if reports.is_some() {
        // The one behind the standard streams, where the init looks for it.
        create.extend(["--preserve-fds", "1"].map(str::to_owned));
    }
    let launching = Launching {
        backend,
        runtime,
        places: &places,
        stream: &name,
        container,
        process: &container.process,
        has_terminal: container.spec.process.terminal.is_some(),
        live,
    };
    let mounted = plan::overlay(&container.root, &root)?;
    launching
        .by(create, &name, &start.stdio, (Some(mounted), reports))
        .await?;
    launching.take_up().await?;
    let began = match launching.check_format().await {
        Ok(()) => {
            let mut started = places.common();
            started.extend(["start".to_owned(), name.clone()]);
            let nothing = (None, None);
            launching.help(started, &StdioPaths::null(), nothing).await
        }
        refused => refused,
    };
    let began = match (began, told) {
        (Ok(()), Some(told)) => launching.has_program(told).await,
        (began, _) => began,
    };
    if began.is_err() {
        // It waits for a start that does not come, or for its end.
        live.cgroup.kill(Signal::KILL)?;
    }
    began
}

/// Whether a runtime has made the container of a run and not started it: what it waits for is there (`exec.fifo`,
/// of runc as of crun).
pub(super) fn waits_for_its_start(inner: &Inner, run: &str) -> bool {
    inner
        .roots
        .runtime_state()
        .join(run)
        .join("exec.fifo")
        .exists()
}

/// The process that a runtime has made for the exec with this directory, and that may have ended since.
pub(super) fn left_by_exec(directory: &Path) -> Option<u32> {
    pid_in(&directory.join(EXEC_BUNDLE).join(PID_FILE))
}

fn pid_in(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Starts a further process.
pub(super) async fn exec(
    backend: &Local,
    runtime: &Runtime,
    start: &StartExec,
    run: Run,
    process: &OciProcess,
    live: &Arc<Live>,
) -> Result<(), BackendError> {
    format::check_exec(start).await?;
    let (container, exec) = (&start.container, &start.exec);
    let directory = backend.inner.directories.exec(container.id, exec.id);
    let bundle = directory.join(EXEC_BUNDLE);
    let stream = Directories::exec_stream(exec.id);
    let places = Places::new(backend, container.id, &stream, bundle);
    let file = places.bundle.join("process.json");
    let json = serde_json::to_vec(process).map_err(|error| unusable(&error.into()))?;
    let prepared = places.prepare().and_then(|()| fs::write(&file, json));
    prepared.map_err(|error| unusable(&error))?;
    let mut arguments = places.common();
    arguments.extend(
        [
            "exec",
            "--detach",
            "--process",
            &file.display().to_string(),
            "--pid-file",
            &places.pid.display().to_string(),
        ]
        .map(str::to_owned),
    );
    let launching = Launching {
        backend,
        runtime,
        places: &places,
        stream: &stream,
        container,
        process: &exec.process,
        has_terminal: process.terminal().unwrap_or(false),
        live,
    };
    let name = cgroup_name(container.id, run);
    let nothing = (None, None);
    launching
        .by(arguments, &name, &start.stdio, nothing)
        .await?;
    launching.take_up().await
}

/// The spec as a bundle has it, with the terminal's size as it is to be.
async fn write_bundle(
    backend: &Local,
    places: &Places,
    mut spec: Spec,
    root: PathBuf,
    start: &Start,
) -> Result<(), BackendError> {
    let read_only = start.container.spec.read_only_root;
    let mut path = OciRoot::default();
    path.set_path(root).set_readonly(Some(read_only));
    spec.set_root(Some(path));
    if let (Some(process), Some(size)) = (spec.process_mut(), start.terminal_size) {
        process.set_console_size(console_size(size));
    }
    let json = serde_json::to_vec(&spec).map_err(|error| unusable(&error.into()))?;
    let id = start.container.id;
    let config = places.bundle.join("config.json");
    let made = places.prepare().and_then(|()| fs::write(config, json));
    made.map_err(|error| unusable(&error))?;
    let name = cgroup_name(id, start.run);
    let prepare = move |inner: &Inner| {
        // What a runtime knows of a start that was cut off is in the way of this one.
        inner.remove_run(&inner.cgroups.open(&name))?;
        inner.roots.prepare(id)
    };
    backend.blocking(prepare).await
}

fn unusable(error: &io::Error) -> BackendError {
    failure::refused(format!("the runtime's bundle cannot be written: {error}"))
}

/// One process that a runtime is to make.
struct Launching<'a> {
    backend: &'a Local,
    runtime: &'a Runtime,
    places: &'a Places,
    stream: &'a str,
    container: &'a Container,
    process: &'a spec::Process,
    has_terminal: bool,
    live: &'a Arc<Live>,
}

/// What a helper gets besides its arguments: a root to be mounted for it, and a socket for the reports of what it
/// makes.
type Along = (Option<Root>, Option<OwnedFd>);

impl Launching<'_> {
    /// Has the runtime make it.
    async fn by(
        &self,
        mut arguments: Vec<String>,
        name: &str,
        stdio: &StdioPaths,
        along: Along,
    ) -> Result<(), BackendError> {
        let console = if self.has_terminal {
            arguments.push("--console-socket".to_owned());
            arguments.push(self.places.console.display().to_string());
            Some(listen(&self.places.console).map_err(|error| unusable(&error))?)
        } else {
            None
        };
        arguments.push(name.to_owned());
        let null = StdioPaths::null();
        let stdio = if self.has_terminal { &null } else { stdio };
        self.help(arguments, stdio, along).await?;
        match console {
            Some(console) => self.take_terminal(console).await,
            None => Ok(()),
        }
    }

    async fn take_terminal(&self, console: UnixListener) -> Result<(), BackendError> {
        let terminal = timeout(TERMINAL, receive(console)).await;
        // If it stays, it goes with the container.
        let _ = fs::remove_file(&self.places.console);
        let terminal = terminal.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        let terminal = terminal.map_err(|error| unusable(&error))?;
        let processes = &self.backend.inner.processes;
        let given = processes.give_terminal(self.stream, terminal).await;
        given.map_err(super::task::keeper_failed)
    }

    /// Waits until an init has executed its program. Its silence is that, or its own end, of which the keeper tells.
    async fn has_program(&self, mut told: UnixStream) -> Result<(), BackendError> {
        let mut message = [0; wharf_init::REPORT_BYTES];
        match timeout(PROGRAM, told.read_exact(&mut message)).await {
            Ok(Ok(_)) => {
                let errno = Errno::from_raw_os_error(wharf_init::errno(message));
                let program = self.process.args.first().map_or("", String::as_str);
                Err(failure::told_by_init(errno, program))
            }
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(failure::refused("its program is not executed".to_owned())),
        }
    }

    /// Has the keeper watch what the runtime has left behind.
    async fn take_up(&self) -> Result<(), BackendError> {
        let pid = pid_in(&self.places.pid);
        let pid = pid.ok_or_else(|| failure::refused("the runtime names no process".to_owned()))?;
        let processes = &self.backend.inner.processes;
        let process = processes
            .take_up(self.stream, pid, self.live.on_exit())
            .map_err(|errno| failure::refused(format!("its process is gone: {errno}")))?;
        processes.watch(&process).await;
        self.live.is(process);
        Ok(())
    }

    /// An init tells of its program by itself.
    async fn check_format(&self) -> Result<(), BackendError> {
        match pid_in(&self.places.pid) {
            Some(pid) if !self.container.spec.init => Ok(format::check(pid, self.process).await?),
            Some(_) | None => Ok(()),
        }
    }

    /// Runs the runtime once.
    async fn help(
        &self,
        arguments: Vec<String>,
        stdio: &StdioPaths,
        (root, reports): Along,
    ) -> Result<(), BackendError> {
        let mut plan = self.plan(arguments, stdio, root)?;
        plan.program.reports = reports.is_some();
        let order = Order {
            stream: self.stream,
            plan: &plan,
            filter: None,
            cgroup: None,
            join: None,
            reports,
        };
        let attempt = Attempt {
            container: self.container,
            plan: &plan,
            joined: None,
            program: &self.runtime.name,
            directory: "/",
        };
        let ended = self.backend.inner.processes.help(order).await;
        match ended.map_err(|error| failure::of(error, &attempt))?.status {
            ProcessStatus::Exited(0) => Ok(()),
            _ => Err(self.refusal()),
        }
    }

    /// Root on the host, in nothing but a mount namespace of its own.
    fn plan(
        &self,
        arguments: Vec<String>,
        stdio: &StdioPaths,
        root: Option<Root>,
    ) -> Result<Plan, BackendError> {
        let text = |text: &str| Text::new(text).ok_or(plan::NoPlan("a zero byte in a path"));
        let shown = |path: &Path| text(&path.to_string_lossy());
        let program = self.runtime.program.display().to_string();
        let mut args = vec![text(&program)?];
        for argument in &arguments {
            args.push(text(argument)?);
        }
        let null = Path::new("/dev/null");
        let all = capability_bits(&self.backend.inner.spec.host.capabilities);
        let path = env::var("PATH").unwrap_or_default();
        Ok(Plan {
            cgroups: Vec::new(),
            oom_score_adj: 0,
            stdio: Stdio::Fifos {
                stdin: stdio.stdin.as_deref().map(shown).transpose()?,
                stdout: shown(&stdio.stdout)?,
                stderr: shown(stdio.stderr.as_deref().unwrap_or(null))?,
            },
            world: World::Host {
                root,
                hidden: self.hidden()?,
            },
            confinement: Confinement {
                uid: 0,
                gid: 0,
                groups: Vec::new(),
                bounding: all,
                effective: all,
                permitted: all,
                inheritable: 0,
                no_new_privileges: false,
                seccomp_flags: None,
                limits: self.backend.inner.default_limits.clone(),
                umask: plan::UMASK,
                keyring: text("_wharf")?,
            },
            program: Program {
                candidates: vec![text(&program)?],
                args,
                env: vec![text(&format!("PATH={path}"))?],
                directory: text("/")?,
                make_directory: false,
                reports: false,
            },
        })
    }

    /// crun takes a host that has both kinds of control groups for one that has the new kind, and fails there
    /// (seen with 1.8.1).
    fn hidden(&self) -> Result<Vec<launch::Text>, BackendError> {
        let is_crun = self
            .runtime
            .program
            .file_name()
            .is_some_and(|name| name == "crun");
        let hierarchies = self.backend.inner.cgroups.hierarchies();
        let is_hybrid = hierarchies.len() > 1;
        let unified = hierarchies
            .iter()
            .filter(|hierarchy| is_crun && is_hybrid && hierarchy.kind() == Kind::Unified);
        let hidden = unified.map(|hierarchy| {
            let text = Text::new(hierarchy.root.to_string_lossy().into_owned());
            text.ok_or(plan::NoPlan("a zero byte in a path"))
        });
        Ok(hidden.collect::<Result<_, _>>()?)
    }

    /// What the runtime says of its failure, in its log.
    fn refusal(&self) -> BackendError {
        let message = last_error(&self.places.log);
        let context = LaunchContext {
            container: self.container,
            process: self.process,
            runtime: RuntimeName::of(self.container, &self.runtime.name),
        };
        oci_runtime::classify(&message, &context).unwrap_or_else(|| oci_runtime::refused(&message))
    }
}

/// One line of a runtime's log.
#[derive(Deserialize)]
struct Line {
    level: String,
    msg: String,
}

/// The last error in it; empty if there is none.
fn last_error(log: &Path) -> String {
    use std::io::Read;
    let mut text = String::new();
    if let Ok(file) = fs::File::open(log) {
        // What cannot be read says nothing.
        let _ = file.take(MAX_LOG_BYTES).read_to_string(&mut text);
    }
    let lines = text.lines().rev();
    let mut errors = lines
        .filter_map(|line| serde_json::from_str::<Line>(line).ok())
        .filter(|line| line.level == "error");
    errors.next().map(|line| line.msg).unwrap_or_default()
}

/// Listens there, whatever a start that was cut off has left.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(socket),
    }
}

/// The terminal that a runtime sends: one message with one descriptor (runc, docs/terminals.md).
async fn receive(console: UnixListener) -> io::Result<OwnedFd> {
    let (connection, _) = console.accept().await?;
    connection.readable().await?;
    received(&connection)
}

fn received(connection: &UnixStream) -> io::Result<OwnedFd> {
    connection.try_io(tokio::io::Interest::READABLE, || {
        let mut text = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(
            connection,
            &mut [IoSliceMut::new(&mut text)],
            &mut ancillary,
            flags,
        )?;
        let mut messages = ancillary.drain();
        let terminal = messages.find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        terminal.ok_or_else(|| ErrorKind::InvalidData.into())
    })
}
