//! A private containerd with a busybox image, and containers to run on it.
//!
//! Everything is below one temporary directory and one cgroup. [`Daemon::finish`] fails if a test
//! left anything; dropping the daemon cleans up in any case.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use containerd_client::services::v1::CreateTaskRequest;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::types::Mount;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal as RawSignal, kill_process};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use wharf_server::backend::containerd::{Containerd, ContainerdOptions, ContainerdTask};
use wharf_server::backend::{ContainerBackend, Exit, Start, Status, Task};
use wharf_server::model::container::{ImageUse, Intent, Operation, RootMount, State};
use wharf_server::model::spec::{
    ContainerSpec, Log, Network, Process, ProcessSpec, Resources, Seccomp, Security,
};
use wharf_server::model::{
    Cause, Container, ContainerId, Digest, Principal, RequestId, Run, Sequence, ServerId,
};

use crate::image;

/// Longest that anything in these tests may take that is not slow by design.
pub(crate) const SOON: Duration = Duration::from_secs(120);
/// The namespace used.
pub(crate) const NAMESPACE: &str = "wharf";

/// A containerd of our own.
pub(crate) struct Daemon {
    directory: TempDir,
    child: Option<Child>,
    /// Of the busybox image, if it was brought in.
    chain_id: Option<Digest>,
    cgroup_parent: PathBuf,
}

impl Daemon {
    /// Starts one, with a busybox image in it.
    pub(crate) fn start() -> Self {
        let mut daemon = Self::empty();
        let archive = daemon.path("image.tar");
        daemon.chain_id = Some(image::write(&archive));
        daemon.ctr(&["images", "import", archive.to_str().expect("text")]);
        daemon
    }

    /// Starts one with nothing in it.
    pub(crate) fn empty() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("wharf-containerd-")
            .tempdir()
            .expect("a directory");
        let name = directory.path().file_name().expect("a name").to_owned();
        let mut daemon = Self {
            directory,
            child: None,
            chain_id: None,
            cgroup_parent: Path::new("/").join(name),
        };
        daemon.write_config();
        daemon.boot();
        daemon
    }

    fn write_config(&self) {
        let directory = self.directory.path().display();
        let config = format!(
            r#"version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{directory}/containerd.sock"
[ttrpc]
address = "{directory}/containerd.ttrpc"
"#
        );
        fs::write(self.path("config.toml"), config).expect("written");
    }

    /// Starts the daemon, again after [`Self::kill`].
    pub(crate) fn boot(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("a log");
        let child = Command::new("containerd")
            .arg("--config")
            .arg(self.path("config.toml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd is installed");
        self.child = Some(child);
        let deadline = Instant::now() + SOON;
        while !self.answers() {
            assert!(Instant::now() < deadline, "containerd does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        let mut ctr = self.ctr_command(&["version"]);
        let status = ctr.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.expect("ctr is installed").success()
    }

    /// SIGKILL. Shims and containers go on.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&self) {
        self.signal(RawSignal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal(RawSignal::CONT);
    }

    fn signal(&self, signal: RawSignal) {
        let child = self.child.as_ref().expect("running");
        kill_process(Pid::from_child(child), signal).expect("signalled");
    }

    /// A file below the daemon's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What `ctr` says.
    pub(crate) fn ctr(&self, args: &[&str]) -> String {
        let output = self.ctr_command(args).output().expect("ctr is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ctr {args:?}: {text}{errors}");
        text
    }

    fn ctr_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.path("containerd.sock"))
            .args(["--namespace", NAMESPACE, "--connect-timeout", "1s"])
            .args(args);
        command
    }

    /// A backend that is about to connect.
    pub(crate) fn backend(&self) -> Containerd {
        self.backend_of(ServerId::generate())
    }

    /// A backend of a certain server.
    pub(crate) fn backend_of(&self, server_id: ServerId) -> Containerd {
        let mut options = ContainerdOptions::new(self.path("containerd.sock"), server_id);
        options.spec.cgroup_parent = self.cgroup_parent.clone();
        Containerd::connect(options).expect("the namespace is valid")
    }

    /// A backend that is connected.
    pub(crate) async fn connected(&self) -> Containerd {
        let backend = self.backend();
        until_connected(&backend).await;
        backend
    }

    /// A container's record, whose root is not prepared yet.
    pub(crate) fn container(&self, args: &[&str]) -> Container {
        record(self.chain_id.as_ref().expect("an image"), args)
    }

    /// Prepares a container and puts the root into its record.
    pub(crate) async fn create(
        &self,
        backend: &Containerd,
        container: Container,
    ) -> Arc<Container> {
        let root = backend.create(&container).await.expect("created");
        Arc::new(Container {
            root: Arc::new(root),
            ..container
        })
    }

    /// What to start.
    pub(crate) fn start_of(&self, container: &Arc<Container>) -> Start {
        let output = self.path(&format!("{}.log", container.id));
        fs::File::create(&output).expect("created");
        Start {
            container: Arc::clone(container),
            run: Run(1),
            stdio: wharf_server::model::StdioPaths {
                stdin: None,
                stdout: output.clone(),
                stderr: Some(output),
            },
            terminal_size: None,
            network_pid: None,
        }
    }

    /// Creates and starts a container.
    pub(crate) async fn run(
        &self,
        backend: &Containerd,
        args: &[&str],
    ) -> (Arc<Container>, ContainerdTask) {
        let container = self.create(backend, self.container(args)).await;
        let task = backend.start(self.start_of(&container)).await;
        (container, task.expect("started"))
    }

    /// Creates a container's task, and does not start it: as if a start had been cut short.
    pub(crate) async fn create_task(&self, container: &Container) {
        let socket = self.path("containerd.sock");
        let connector = tower::service_fn(move |_: http::Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .expect("connected");
        let mount = |mount: &RootMount| Mount {
            r#type: mount.kind.clone(),
            source: mount.source.clone(),
            target: String::new(),
            options: mount.options.clone(),
        };
        let mut request = tonic::Request::new(CreateTaskRequest {
            container_id: container.id.to_string(),
            rootfs: container.root.iter().map(mount).collect(),
            stdout: "/dev/null".to_owned(),
            stderr: "/dev/null".to_owned(),
            ..CreateTaskRequest::default()
        });
        let namespace = NAMESPACE.parse().expect("a header value");
        request
            .metadata_mut()
            .insert("containerd-namespace", namespace);
        let created = TasksClient::new(channel).create(request).await;
        created.expect("created");
    }

    /// A cgroup below ours.
    pub(crate) fn cgroup_of(&self, name: &str) -> String {
        self.cgroup_parent.join(name).display().to_string()
    }

    /// A cgroup below ours in every hierarchy, as a runtime leaves it that is killed while it makes a
    /// container.
    pub(crate) fn leave_cgroup(&self, name: &str) {
        for hierarchy in hierarchies() {
            let path = hierarchy.join(self.relative_parent()).join(name);
            fs::create_dir_all(path).expect("a cgroup");
        }
    }

    /// Has containerd remove everything that nothing refers to, before this returns.
    pub(crate) fn collect_garbage(&self) {
        let lease = self.ctr(&["leases", "create"]);
        self.ctr(&["leases", "delete", "--sync", lease.trim()]);
    }

    /// Kills all shims; what runs under them goes on.
    pub(crate) fn kill_shims(&self) {
        for shim in self.shims() {
            kill_process(shim, RawSignal::KILL).expect("killed");
        }
    }

    /// What a container wrote.
    pub(crate) fn output(&self, id: ContainerId) -> String {
        fs::read_to_string(self.path(&format!("{id}.log"))).expect("output")
    }

    /// Fails if anything of any container is left.
    pub(crate) fn finish(self) {
        assert_eq!(self.ctr(&["tasks", "list", "-q"]), "");
        assert_eq!(self.ctr(&["containers", "list", "-q"]), "");
        let snapshots = self.ctr(&["snapshots", "list"]);
        assert_eq!(snapshots.lines().count(), 2, "{snapshots}");
        assert_eq!(self.ctr(&["leases", "list", "-q"]), "");
        assert_eq!(self.shims(), [], "shims");
        assert_eq!(self.mounts(), Vec::<PathBuf>::new());
        for cgroup in self.cgroups() {
            assert_eq!(subdirectories(&cgroup), Vec::<PathBuf>::new());
        }
    }

    fn shims(&self) -> Vec<Pid> {
        let socket = self.path("containerd.sock").into_os_string();
        let socket = socket.into_string().expect("text");
        let processes = fs::read_dir("/proc").expect("proc").flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_shim = |pid: &i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("containerd-shim") && line.contains(&socket)
        };
        pids.filter(is_shim).filter_map(Pid::from_raw).collect()
    }

    fn mounts(&self) -> Vec<PathBuf> {
        let table = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let targets = table.lines().filter_map(|line| line.split(' ').nth(1));
        targets
            .map(PathBuf::from)
            .filter(|target| target.starts_with(self.directory.path()))
            .collect()
    }

    /// Our parent cgroup in every hierarchy.
    fn cgroups(&self) -> Vec<PathBuf> {
        let ours = hierarchies()
            .into_iter()
            .map(|root| root.join(self.relative_parent()));
        ours.filter(|path| path.is_dir()).collect()
    }

    fn relative_parent(&self) -> &Path {
        self.cgroup_parent.strip_prefix("/").expect("absolute")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            let _ = kill_process(Pid::from_child(child), RawSignal::CONT);
        }
        self.kill();
        for shim in self.shims() {
            let _ = kill_process(shim, RawSignal::KILL);
        }
        for cgroup in self.cgroups() {
            remove_cgroup(&cgroup);
        }
        for mount in self.mounts().iter().rev() {
            let _ = Command::new("umount").arg("-l").arg(mount).status();
        }
    }
}

/// The roots of the hierarchies: of cgroup v2 the mount itself.
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return vec![root];
    }
    subdirectories(&root)
}

fn subdirectories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path.is_dir() && !path.is_symlink())
        .collect()
}

/// Kills what is in a cgroup and removes it; only after a test that failed is there anything.
fn remove_cgroup(path: &Path) {
    for child in subdirectories(path) {
        remove_cgroup(&child);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::remove_dir(path).is_err() && path.exists() && Instant::now() < deadline {
        let _ = fs::write(path.join("freezer.state"), "THAWED");
        let pids = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.parse().ok()) {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, RawSignal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn record(chain_id: &Digest, args: &[&str]) -> Container {
    let id = ContainerId::generate();
    let now = SystemTime::now();
    Container {
        id,
        name: format!("test-{id}").into(),
        labels: Arc::default(),
        spec: Arc::new(spec()),
        process: Arc::new(Process {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: vec!["PATH=/bin".to_owned()],
            working_dir: "/".to_owned(),
            uid: 0,
            gid: 0,
            additional_gids: Vec::new(),
        }),
        image: Arc::new(ImageUse {
            reference: image::REFERENCE.to_owned(),
            id: chain_id.clone(),
            chain_id: chain_id.clone(),
            stop_signal: None,
        }),
        root: Arc::default(),
        state: State::Creating,
        run: Run(0),
        pid: None,
        exit_status: None,
        failure: None,
        stop: None,
        intent: Some(Intent {
            cause: Some(cause()),
            key: None,
            operation: Operation::Create,
        }),
        signaled: None,
        terminal_size: None,
        leash: None,
        create_time: now,
        start_time: None,
        update_time: now,
        generation: 1,
        last_event: Sequence(0),
        runs: Arc::default(),
    }
}

fn cause() -> Cause {
    Cause {
        request_id: RequestId::mint(),
        trace_id: None,
        method: "/wharf.v1.ContainerService/CreateContainer".into(),
        principal: Principal::user(0),
    }
}

fn spec() -> ContainerSpec {
    ContainerSpec {
        image: image::REFERENCE.to_owned(),
        process: ProcessSpec::default(),
        stdin_open: false,
        init: false,
        log: Log::default(),
        stop_signal: None,
        stop_grace_period: Some(Duration::from_secs(1)),
        auto_delete: false,
        mounts: Vec::new(),
        read_only_root: false,
        shm_size_bytes: 1 << 20,
        resources: Resources::default(),
        rlimits: Vec::new(),
        security: Security {
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            no_new_privileges: true,
            seccomp: Seccomp::Default,
        },
        network: Network::None,
        hostname: None,
        runtime: None,
        annotations: BTreeMap::new(),
    }
}

/// `container` with another spec.
pub(crate) fn with_spec(
    container: Container,
    change: impl FnOnce(&mut ContainerSpec),
) -> Container {
    let mut spec = (*container.spec).clone();
    change(&mut spec);
    Container {
        spec: Arc::new(spec),
        ..container
    }
}

/// `container` with another process.
pub(crate) fn with_process(container: Container, change: impl FnOnce(&mut Process)) -> Container {
    let mut process = (*container.process).clone();
    change(&mut process);
    Container {
        process: Arc::new(process),
        ..container
    }
}

/// Waits until the backend says that it is connected.
pub(crate) async fn until_connected(backend: &Containerd) {
    until(&mut backend.status(), |status| {
        matches!(status, Status::Connected { .. })
    })
    .await;
}

/// Waits until the backend says that it is not connected any more.
pub(crate) async fn until_disconnected(backend: &Containerd) {
    until(&mut backend.status(), |status| {
        matches!(status, Status::Disconnected { .. })
    })
    .await;
}

/// How a run ended, once it has.
pub(crate) async fn exit_of(task: &ContainerdTask) -> Exit {
    let exit = until(&mut task.exit(), Option::is_some).await;
    exit.expect("just checked")
}

async fn until<T: Clone>(receiver: &mut watch::Receiver<T>, is: impl Fn(&T) -> bool) -> T {
    let seen = timeout(SOON, receiver.wait_for(|value| is(value))).await;
    seen.expect("in time").expect("the sender lives").clone()
}
