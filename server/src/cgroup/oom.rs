//! Being told of what the OOM killer does.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe;

use super::CgroupError;

/// Becomes readable whenever the OOM killer acts in a group, or the group is removed. One descriptor.
#[derive(Debug)]
pub struct OomNotices {
    /// No pipe, but read and waited for like one.
    notices: pipe::Receiver,
}

impl OomNotices {
    /// Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control". The kernel keeps the file open by itself.
    pub(super) fn of_v1(directory: &Path) -> Result<Self, CgroupError> {
        let control = directory.join("memory.oom_control");
        let opened = File::open(&control).map_err(CgroupError::at(&control))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = eventfd(0, flags).map_err(|error| CgroupError::at(&control)(error.into()))?;
        let registry = directory.join("cgroup.event_control");
        let line = format!("{} {}", event.as_raw_fd(), opened.as_raw_fd());
        OpenOptions::new()
            .write(true)
            .open(&registry)
            .and_then(|mut registry| registry.write_all(line.as_bytes()))
            .map_err(CgroupError::at(registry))?;
        Self::of(event, &control)
    }

    /// Documentation/admin-guide/cgroup-v2.rst: a change of `memory.events` is told.
    pub(super) fn of_v2(directory: &Path) -> Result<Self, CgroupError> {
        let events = directory.join("memory.events");
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let watch = inotify::init(flags).and_then(|watch| {
            inotify::add_watch(&watch, &events, WatchFlags::MODIFY)?;
            Ok(watch)
        });
        Self::of(
            watch.map_err(|error| CgroupError::at(&events)(error.into()))?,
            &events,
        )
    }

    fn of(descriptor: OwnedFd, path: &Path) -> Result<Self, CgroupError> {
        let notices = pipe::Receiver::from_file_unchecked(descriptor.into());
        Ok(Self {
            notices: notices.map_err(CgroupError::at(path))?,
        })
    }

    /// Waits until there is another one. The kernel may give it before it has counted the kill.
    ///
    /// # Errors
    /// If there will be none.
    pub async fn next(&self) -> std::io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            self.notices.readable().await?;
            match self.notices.try_read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                read => return read.map(drop),
            }
        }
    }
}
