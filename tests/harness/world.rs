//! One scenario's surroundings, and their end.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::timeout;

use super::containerd::Containerd;
use super::proxy::Proxy;

use super::{Backend, Client, Options, Wharfd, image, keeper, leaks};

/// No scenario takes longer, on two busy cores.
const LONGEST: Duration = Duration::from_secs(600);

/// What a scenario has: a directory, a `wharfd`, and a containerd if that is the backend.
#[derive(Debug)]
pub struct World {
    pub containerd: Containerd,
    pub wharfd: Wharfd,
    /// Outlives the scenario's body: containers are deleted through it.
    proxy: Option<Arc<Proxy>>,
    containerd_loses_shims: bool,
    directory: TempDir,
}

/// Runs one scenario and then, whatever came of it, ends all that it has started. A scenario that
/// left anything behind fails even if its body did not.
pub fn scenario(body: impl AsyncFnOnce(&mut World)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new();
        let whole = async {
            body(&mut world).await;
            world.finish().await;
        };
        let outcome = AssertUnwindSafe(timeout(LONGEST, whole))
            .catch_unwind()
            .await;
        let failed = !matches!(outcome, Ok(Ok(())));
        if failed {
            world.tell().await;
        }
        world.clean_up();
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(_)) => panic!("the scenario runs longer than {LONGEST:?}"),
            Err(cause) => panic::resume_unwind(cause),
        }
    });
}

/// As [`scenario`], of what only the containerd backend has; others say so and do nothing. The reason is
/// a literal: `tests/rules` keeps the list of these scenarios.
pub fn containerd_only(reason: &str, body: impl AsyncFnOnce(&mut World)) {
    match Backend::of_this_run() {
        Backend::Containerd => scenario(body),
        other => eprintln!("not for {other:?}: {reason}"),
    }
}

/// As [`scenario`], of what Wharf promises of itself and cannot of runc; where that launches, it says so and
/// does nothing. The reason is a literal, as for [`containerd_only`].
pub fn not_by_runc(reason: &str, body: impl AsyncFnOnce(&mut World)) {
    match Backend::of_this_run() {
        other @ (Backend::Containerd | Backend::LocalBy("runc")) => {
            eprintln!("not for {other:?}: {reason}");
        }
        Backend::Local | Backend::LocalBy(_) => scenario(body),
    }
}

/// The same of crun.
pub fn not_by_crun(reason: &str, body: impl AsyncFnOnce(&mut World)) {
    match Backend::of_this_run() {
        Backend::LocalBy("crun") => eprintln!("not for crun: {reason}"),
        _ => scenario(body),
    }
}

/// As [`not_by_runc`], of what no OCI runtime promises, or not in the versions that there are.
pub fn by_wharf_alone(reason: &str, body: impl AsyncFnOnce(&mut World)) {
    match Backend::of_this_run() {
        Backend::Local => scenario(body),
        other => eprintln!("not for {other:?}: {reason}"),
    }
}

impl World {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("wharf-").tempdir().unwrap();
        let containerd = Containerd::below(directory.path());
        let options = Options {
            containerd: containerd.socket(),
            arguments: Vec::new(),
            environment: Vec::new(),
        };
        let wharfd = Wharfd::below(directory.path(), options);
        Self {
            containerd,
            wharfd,
            proxy: None,
            containerd_loses_shims: false,
            directory,
        }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A `wharfd` that is started otherwise; before its first start.
    pub fn configure(&mut self, change: impl FnOnce(&mut Options)) {
        let mut options = Options {
            containerd: self.containerd.socket(),
            arguments: Vec::new(),
            environment: Vec::new(),
        };
        change(&mut options);
        self.wharfd = Wharfd::below(self.directory.path(), options);
    }

    /// For scenarios that break calls to containerd in the middle: one whose Tasks.Create is cut off may
    /// leave a shim that it knows nothing of, which no client can find or end through it. Such shims are
    /// counted and ended here; everything else must be gone as ever.
    pub fn containerd_may_lose_shims(&mut self) {
        self.containerd_loses_shims = true;
    }

    /// Puts a counting proxy between `wharfd` and containerd; before the first start.
    pub fn behind_a_proxy(&mut self) -> Arc<Proxy> {
        let socket = self.directory.path().join("proxy.sock");
        let proxy = Arc::new(Proxy::start(&socket, &self.containerd.socket()));
        self.proxy = Some(Arc::clone(&proxy));
        self.configure(|options| options.containerd = socket);
        proxy
    }

    /// Containerd and `wharfd` running, with the busybox image.
    pub async fn up(&mut self) -> Client {
        self.start_backend().await;
        let client = self.wharfd.start().await;
        client.import(image::busybox()).await.unwrap();
        client
    }

    /// Starts what the server needs beside itself.
    pub async fn start_backend(&mut self) {
        if Backend::of_this_run() == Backend::Containerd {
            self.containerd.start().await;
        }
    }

    /// The ids of the containers that the backend has something of, whatever the server says.
    pub async fn containers_of_the_backend(&self) -> BTreeSet<String> {
        let names = match Backend::of_this_run() {
            Backend::Containerd => self.containerd.ctr(&["containers", "list", "-q"]).await,
            Backend::Local | Backend::LocalBy(_) => self.roots(),
        };
        // After a start that was cut off, a container is called ID.2, ID.3 ... by containerd.
        let id = |name: String| name.split('.').next().unwrap_or_default().to_owned();
        names.into_iter().map(id).collect()
    }

    fn roots(&self) -> Vec<String> {
        let entries = std::fs::read_dir(leaks::roots(&self.wharfd.state_dir()));
        let entries = entries.into_iter().flatten().flatten();
        let name = |entry: DirEntry| entry.file_name().to_string_lossy().into_owned();
        entries.map(name).collect()
    }

    /// Deletes every container through the API, stops the server, and proves that nothing is left.
    async fn finish(&mut self) {
        if self.wharfd.state_dir().exists() {
            self.end_wharfd().await;
        }
        keeper::end(self.directory.path()).await;
        leaks::none_in_state(&self.wharfd.state_dir()).await;
        if self.containerd.is_running() {
            leaks::none_in_containerd(&self.containerd).await;
        }
        if self.containerd_loses_shims && self.containerd.is_running() {
            let lost = leaks::end_lost_shims(self.directory.path()).await;
            eprintln!("containerd has lost {lost} shims");
        }
        leaks::none_on_the_host(self.directory.path()).await;
        self.containerd.stop().await;
    }

    async fn end_wharfd(&mut self) {
        if let Some(proxy) = &self.proxy {
            proxy.heal();
        }
        self.containerd.thaw();
        if !self.containerd.is_running() && Backend::of_this_run() == Backend::Containerd {
            self.containerd.start().await;
        }
        if !self.wharfd.is_running() {
            self.wharfd.launch();
        }
        let client = self.wharfd.ready().await;
        leaks::note_ids(self.directory.path(), &client.every_container_id().await);
        client.delete_every_container().await;
        let status = self.wharfd.stop().await;
        assert!(status.success(), "wharfd ended with {status}");
        let panics = self.wharfd.log().matches("panicked at").count();
        assert_eq!(
            panics,
            0,
            "wharfd has panicked:\n{}",
            self.wharfd.log_tail(40)
        );
    }

    /// What somebody wants to know who has to find out why.
    async fn tell(&self) {
        eprintln!("--- end of wharfd's log\n{}", self.wharfd.log_tail(30));
        eprintln!(
            "--- end of containerd's log\n{}",
            self.containerd.log_tail(8)
        );
        if self.containerd.is_running() {
            let tasks = self.containerd.ctr_output(&["tasks", "list"]).await;
            eprintln!(
                "--- tasks\n{}",
                tasks.map_or_else(|problem| problem, |lines| lines.join("\n"))
            );
        }
        let host = leaks::on_the_host(self.directory.path());
        eprintln!("--- on the host\n{}", host.join("\n"));
    }

    fn clean_up(mut self) {
        self.wharfd.kill();
        keeper::signal(self.directory.path(), Signal::KILL);
        self.containerd.thaw();
        leaks::remove_all(self.directory.path(), &mut self.containerd);
        if std::env::var_os("WHARF_KEEP").is_some() {
            eprintln!("kept: {}", self.directory.keep().display());
        }
    }
}
