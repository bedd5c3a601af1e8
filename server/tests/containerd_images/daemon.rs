//! A private containerd, all of it below one temporary directory and one cgroup.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;
use wharf_server::backend::containerd::{Containerd, ContainerdOptions};
use wharf_server::backend::{BackendError, ContainerBackend};
use wharf_server::model::image::Platform;
use wharf_server::model::{Image, ServerId};
use wharf_server::oci::archive::{Archive, ImageContent};

const NAMESPACE: &str = "wharf";
const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Daemon {
    directory: TempDir,
    child: Child,
}

/// What is in containerd, counted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) images: usize,
    pub(crate) blobs: usize,
    pub(crate) snapshots: usize,
    pub(crate) leases: usize,
}

impl Counts {
    pub(crate) const NOTHING: Self = Self {
        images: 0,
        blobs: 0,
        snapshots: 0,
        leases: 0,
    };
}

impl Daemon {
    #[expect(
        clippy::disallowed_methods,
        reason = "a real process is waited for, before there is a runtime"
    )]
    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("wharf-images-")
            .tempdir()
            .expect("a directory");
        let path = directory.path();
        write_config(path);
        let log = fs::File::create(path.join("log")).expect("a log");
        let child = Command::new("containerd")
            .arg("--config")
            .arg(path.join("config.toml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd is installed");
        let daemon = Self { directory, child };
        let deadline = Instant::now() + SOON;
        while !daemon.answers() {
            assert!(Instant::now() < deadline, "containerd does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn answers(&self) -> bool {
        let mut ctr = self.ctr_command(&["version"]);
        let status = ctr.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.expect("ctr is installed").success()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn backend(&self) -> Containerd {
        let socket = self.path("containerd.sock");
        let options = ContainerdOptions::new(socket, ServerId::generate());
        Containerd::connect(options).expect("the namespace is valid")
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

    /// Runs a program of an image, and gives what it wrote.
    pub(crate) fn run(&self, reference: &str, args: &[&str]) -> String {
        let cgroup = format!("{}/run", self.cgroup());
        let run = ["run", "--rm", "--cgroup", &cgroup, reference, "run"];
        self.ctr(&[&run[..], args].concat())
    }

    fn cgroup(&self) -> String {
        let name = self.directory.path().file_name().expect("a name");
        format!("/{}", name.to_string_lossy())
    }

    /// Makes the garbage collector run, and waits for it.
    pub(crate) fn collect_garbage(&self) {
        self.ctr(&["leases", "create", "--id", "collect"]);
        self.ctr(&["leases", "delete", "--sync", "collect"]);
    }

    pub(crate) fn counts(&self) -> Counts {
        let lines = |args: &[&str]| self.ctr(args).lines().count();
        Counts {
            images: lines(&["images", "ls", "-q"]),
            blobs: lines(&["content", "ls", "-q"]),
            snapshots: lines(&["snapshots", "ls"]) - 1,
            leases: lines(&["leases", "ls", "-q"]),
        }
    }

    /// The images of an archive.
    pub(crate) fn read(&self, archive: &[u8]) -> Vec<ImageContent> {
        let scratch = tempfile::tempdir_in(self.directory.path()).expect("a directory");
        let scratch = scratch.keep();
        let path = scratch.join("archive.tar");
        fs::write(&path, archive).expect("written");
        let blobs = scratch.join("blobs");
        fs::create_dir(&blobs).expect("made");
        let archive = Archive::open(&path, &blobs).expect("an archive");
        archive.images(&Platform::host()).expect("images")
    }

    /// The one image of an archive, with its record.
    pub(crate) fn read_one(&self, archive: &[u8]) -> (Image, Arc<ImageContent>) {
        let content = self.read(archive).pop().expect("an image");
        (record(&content), Arc::new(content))
    }

    /// Takes an archive's image in.
    pub(crate) async fn ingest(
        &self,
        backend: &Containerd,
        archive: &[u8],
    ) -> Result<(Image, u64), BackendError> {
        let (image, content) = self.read_one(archive);
        let size = backend.ingest(&image, content).await?;
        Ok((image, size))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let roots = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let roots = roots.map(|root| root.path());
        for root in roots.chain([PathBuf::from("/sys/fs/cgroup")]) {
            let _ = fs::remove_dir(root.join(&self.cgroup()[1..]));
        }
    }
}

fn write_config(directory: &Path) {
    let path = directory.display();
    let config = format!(
        r#"version = 2
root = "{path}/root"
state = "{path}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{path}/containerd.sock"
[ttrpc]
address = "{path}/containerd.ttrpc"
"#
    );
    fs::write(directory.join("config.toml"), config).expect("written");
}

fn record(content: &ImageContent) -> Image {
    let top = content.layers.last().expect("a layer");
    Image {
        id: content.config.digest.clone(),
        references: content.references.clone(),
        target: content.target.clone(),
        platform: content.platform.clone(),
        content_bytes: 0,
        unpacked_bytes: 0,
        chain_id: top.chain_id.clone(),
        create_time: SystemTime::now(),
        config: Arc::new(content.process.clone()),
        accounts: Arc::new(content.accounts.clone()),
        config_json: Arc::clone(&content.config_json),
    }
}
