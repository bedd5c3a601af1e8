//! Servers in a condition that not every call could share.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::select_all;
use futures_util::stream;
use rusqlite::Connection;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;
use wharf_api::ErrorReason;
use wharf_api::v1::watch_events_request::Start;
use wharf_api::v1::{
    ListEventsRequest, WatchEventsRequest, WriteFileRequest, WriteFileStart, write_file_request,
};
use wharf_server::model::limits::MAX_FILE_CALLS;

use crate::harness::client::answer;
use crate::harness::proxy::{Fault, Proxy};
use crate::harness::wait::so;
use crate::harness::{Backend, Client, Refusal, World, keeper, scenario, until};

const SOON: Duration = Duration::from_secs(120);
const LIST_TASKS: &str = "/containerd.services.tasks.v1.Tasks/List";

/// Runs a scenario for the refusal that it ends in.
fn produced(body: impl AsyncFnOnce(&mut World) -> Refusal) -> Refusal {
    let mut refusal = None;
    scenario(async |world| refusal = Some(body(world).await));
    refusal.expect("a scenario that ends well has produced it")
}

fn after(cursor: &str) -> WatchEventsRequest {
    WatchEventsRequest {
        start: Some(Start::Cursor(cursor.to_owned())),
        ..Default::default()
    }
}

/// The server's records, while it is not running.
fn records(world: &World) -> Connection {
    Connection::open(world.wharfd.state_dir().join("wharf.db")).unwrap()
}

/// Somebody else removes the container from containerd.
pub fn container_failed(id: &str) -> Refusal {
    produced(async |world| {
        let client = world.up().await;
        let container = client.create("lost", &["true"]).await.unwrap();
        world.wharfd.stop().await;
        if world.containerd.is_running() {
            let removal = ["containers", "delete", container.id.as_str()];
            world.containerd.ctr(&removal).await;
        } else {
            let roots = world.wharfd.state_dir().join("local/roots");
            std::fs::remove_dir_all(roots.join(&container.id)).unwrap();
        }
        let client = world.wharfd.start().await;
        client.with_id(id).start("lost").await.unwrap_err()
    })
}

/// More uploads than are worked on at a time, and none of them goes on.
pub fn overloaded(id: &str) -> Refusal {
    produced(async |world| {
        let client = world.up().await;
        client.create("c", &["true"]).await.unwrap();
        let client = &client.with_id(id).with_deadline(None);
        let uploads = (0..=MAX_FILE_CALLS).map(|_| Box::pin(stuck_upload(client)));
        select_all(uploads).await.0
    })
}

async fn stuck_upload(client: &Client) -> Refusal {
    let start = write_file_request::Request::Start(WriteFileStart {
        container: "c".to_owned(),
        path: "/file".to_owned(),
        ..Default::default()
    });
    let start = WriteFileRequest {
        request: Some(start),
    };
    let messages = stream::iter([start]).chain(stream::pending());
    let refused = client.files().write_file(client.request(messages)).await;
    answer(refused).unwrap_err()
}

/// The journal holds less than has happened.
pub fn cursor_expired(id: &str) -> Refusal {
    produced(async |world| {
        world.configure(|options| {
            options.arguments = ["--journal-bytes", "2000"].map(str::to_owned).into();
        });
        let client = world.up().await;
        let early = client.info().await.unwrap().newest_cursor;
        let client = client.with_id(id);
        until("the first events are gone", SOON, async || {
            client.create("", &["true"]).await.unwrap();
            let watch = client.watch(after(&early)).await;
            watch.err().ok_or_else(|| "the cursor is good".to_owned())
        })
        .await
    })
}

/// The machine was started anew, without a clean shutdown before.
pub fn cursor_epoch_changed(id: &str) -> Refusal {
    produced(async |world| {
        let client = world.up().await;
        let earlier = client.info().await.unwrap().newest_cursor;
        world.wharfd.kill();
        let changed = records(world)
            .execute(
                "UPDATE meta SET value = 'another' WHERE key = 'boot_id'",
                [],
            )
            .unwrap();
        assert_eq!(changed, 1);
        let client = world.wharfd.start().await.with_id(id);
        client.watch(after(&earlier)).await.unwrap_err()
    })
}

/// An event's record is damaged.
pub fn state_corrupt(id: &str) -> Refusal {
    produced(async |world| {
        let client = world.up().await;
        client.create("any", &["true"]).await.unwrap();
        world.wharfd.stop().await;
        let records = records(world);
        let body: String = records
            .query_row("SELECT body FROM events WHERE sequence = 2", [], |row| {
                row.get(0)
            })
            .unwrap();
        let write = |body: &str| {
            let update = "UPDATE events SET body = ?1 WHERE sequence = 2";
            assert_eq!(records.execute(update, [body]).unwrap(), 1);
        };
        write("damaged");
        let client = world.wharfd.start().await.with_id(id);
        let refusal = client
            .list_events(ListEventsRequest::default())
            .await
            .unwrap_err();
        world.wharfd.stop().await;
        write(&body);
        refusal
    })
}

/// The server is told to stop while somebody watches.
pub fn server_draining(id: &str) -> Refusal {
    produced(async |world| {
        let client = world.up().await.with_id(id);
        let mut watch = client.watch(WatchEventsRequest::default()).await.unwrap();
        let told = async {
            while watch.event_or_break().await?.is_some() {}
            Ok::<(), Refusal>(())
        };
        let (status, told) = tokio::join!(world.wharfd.stop(), told);
        assert!(status.success(), "{status}");
        told.unwrap_err()
    })
}

/// The server has not heard yet what its backend has.
pub fn server_starting(id: &str) -> Refusal {
    match Backend::of_this_run() {
        Backend::Containerd => starting_without_containerd(id),
        Backend::Local | Backend::LocalBy(_) => starting_without_the_keeper(id),
    }
}

fn starting_without_containerd(id: &str) -> Refusal {
    produced(async |world| {
        let through = world.directory().join("proxy.sock");
        let proxy = Proxy::start(&through, &world.containerd.socket());
        world.configure(|options| options.containerd = through);
        world.containerd.start().await;
        proxy.fail(LIST_TASKS, Fault::Hang);
        world.wharfd.launch();
        let refusal = refused_while_starting(world, id).await;
        proxy.heal();
        proxy.cut();
        world.wharfd.ready().await;
        // The proxy goes with this block.
        world.wharfd.stop().await;
        world.configure(|_| {});
        refusal
    })
}

fn starting_without_the_keeper(id: &str) -> Refusal {
    produced(async |world| {
        world.up().await;
        world.wharfd.kill();
        keeper::signal(world.directory(), Signal::STOP);
        world.wharfd.launch();
        let refusal = refused_while_starting(world, id).await;
        keeper::signal(world.directory(), Signal::CONT);
        world.wharfd.ready().await;
        refusal
    })
}

async fn refused_while_starting(world: &World, id: &str) -> Refusal {
    let client = world.wharfd.client().with_id(id);
    until("it listens", SOON, async || {
        let refusal = client.info().await.expect_err("it serves already");
        so(refusal.reason.is_some(), || refusal.to_string())?;
        Ok(refusal)
    })
    .await
}

/// The disk with the server's state is full.
pub fn no_space(id: &str) -> Refusal {
    produced(async |world| {
        let disk = Disk::mount(&world.wharfd.state_dir());
        let client = world.up().await;
        let filler = disk.fill();
        let refusal = create_until_refused(&client.with_id(id)).await;
        fs::remove_file(filler).unwrap();
        until("the server recovers", SOON, async || {
            let created = client.create("", &["true"]).await;
            created.map_err(|refusal| refusal.to_string())
        })
        .await;
        world.wharfd.stop().await;
        // It has its files there, too.
        keeper::end(world.directory()).await;
        disk.unmount();
        refusal
    })
}

/// What is written first may still fit into pages that are there.
async fn create_until_refused(client: &Client) -> Refusal {
    for _ in 0..200 {
        if let Err(refusal) = client.create("", &["true"]).await {
            assert!(refusal.is(ErrorReason::NoSpace), "{refusal}");
            return refusal;
        }
    }
    panic!("a full disk holds everything");
}

/// A small file system of its own.
#[derive(Debug)]
struct Disk {
    target: PathBuf,
}

impl Disk {
    const OPTIONS: &std::ffi::CStr = c"size=16m,mode=700";

    fn mount(target: &Path) -> Self {
        fs::create_dir(target).unwrap();
        mount(
            "wharf-test",
            target,
            "tmpfs",
            MountFlags::empty(),
            Self::OPTIONS,
        )
        .unwrap();
        Self {
            target: target.to_owned(),
        }
    }

    /// Takes all the space there is.
    fn fill(&self) -> PathBuf {
        let path = self.target.join("filler");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
        path
    }

    /// Takes the file system away and leaves its files.
    fn unmount(self) {
        let kept = self.target.with_extension("kept");
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([&self.target, &kept])
            .status();
        assert!(copied.unwrap().success());
        unmount(&self.target, UnmountFlags::empty()).unwrap();
        fs::remove_dir(&self.target).unwrap();
        fs::rename(&kept, &self.target).unwrap();
    }
}

impl Drop for Disk {
    /// Also if the scenario fails.
    fn drop(&mut self) {
        unmount(&self.target, UnmountFlags::DETACH).ok();
    }
}
