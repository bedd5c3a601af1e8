//! Lending the container's root to who works on its files.
//!
//! A root is opened once and shared by all who have it lent: while there is a process, as that sees it;
//! else through a mount of our own. It is called back before the next start and before the deletion, which
//! wait until the last one has let go of it: two mounts of one root at a time would damage it. So nobody
//! can hold up either by not reading.

use std::sync::{Arc, Weak};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::actor::{Actor, Outcome};
use super::command::Reply;
use crate::engine::Error;
use crate::files::{FileError, Root, Writable};
use crate::model::Container;

/// A root, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Loan {
    // Let go of before the token below says so.
    root: Arc<Root>,
    /// The container when it was lent.
    pub(crate) container: Arc<Container>,
    /// Cancelled when the root is needed: whoever has it gives it back soon.
    pub(crate) called_back: CancellationToken,
    _out: TaskTrackerToken,
}

impl Loan {
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }
}

/// What is lent of one container.
#[derive(Debug)]
pub(super) struct Loans {
    root: Weak<Root>,
    call_back: CancellationToken,
    out: TaskTracker,
    shutdown: CancellationToken,
}

impl Loans {
    /// The server's end calls everything back.
    pub(super) fn new(shutdown: &CancellationToken) -> Self {
        Self {
            root: Weak::new(),
            call_back: shutdown.child_token(),
            out: TaskTracker::new(),
            shutdown: shutdown.clone(),
        }
    }

    fn lend(&mut self, root: Arc<Root>, container: Arc<Container>) -> Loan {
        self.root = Arc::downgrade(&root);
        Loan {
            root,
            container,
            called_back: self.call_back.clone(),
            _out: self.out.token(),
        }
    }

    /// Calls back what is lent; the future ends once all of it is returned.
    pub(super) fn call_back(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let lent = std::mem::replace(self, Self::new(&self.shutdown));
        lent.call_back.cancel();
        all_returned(lent.out)
    }
}

async fn all_returned(out: TaskTracker) {
    out.close();
    out.wait().await;
}

impl Actor {
    pub(super) fn lend_root(&mut self, span: &tracing::Span, reply: Reply<Loan>) {
        let container = self.record.snapshot();
        if let Some(root) = self.loans.root.upgrade() {
            return drop(reply.send(Ok(self.loans.lend(root, container))));
        }
        // Who had it has let go of it, or is about to.
        let out = std::mem::take(&mut self.loans.out);
        self.begin(span, async move {
            all_returned(out).await;
            let opened = tokio::task::spawn_blocking(move || open(&container)).await;
            let result = opened.unwrap_or(Err(FileError::Stopped));
            Outcome::RootOpened(reply, result)
        });
    }

    pub(super) fn root_opened(&mut self, reply: Reply<Loan>, result: Result<Root, FileError>) {
        let container = self.record.snapshot();
        let answer = match result {
            Ok(root) => Ok(self.loans.lend(Arc::new(root), container)),
            Err(error) => Err(Error::file(&container, error)),
        };
        drop(reply.send(answer));
    }
}

/// The process may have ended, and its number may be another's: it is found by the container's id.
fn open(container: &Container) -> Result<Root, FileError> {
    let Container { spec, root, .. } = container;
    if let Some(pid) = container.pid.filter(|_| container.state.has_process()) {
        return Root::of_process(pid, &container.id.to_string());
    }
    let writable = if spec.read_only_root {
        Writable::No
    } else {
        Writable::Yes
    };
    let targets: Vec<_> = spec.mounts.iter().map(|mount| &*mount.target).collect();
    Root::of_mounts(root, writable, &targets)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::model::samples;

    fn root() -> Arc<Root> {
        Arc::new(Root::of_directory(&std::env::temp_dir()).unwrap())
    }

    #[tokio::test]
    async fn a_root_that_is_called_back_is_waited_for() {
        let mut loans = Loans::new(&CancellationToken::new());
        let loan = loans.lend(root(), Arc::new(samples::container(samples::spec())));
        let mut returned = std::pin::pin!(loans.call_back());
        assert!(loan.called_back.is_cancelled());
        assert!(futures_util::poll!(returned.as_mut()).is_pending());
        drop(loan);
        returned.await;
    }

    #[tokio::test]
    async fn what_is_lent_after_a_call_back_is_not_called_back() {
        let mut loans = Loans::new(&CancellationToken::new());
        loans.call_back().await;
        let loan = loans.lend(root(), Arc::new(samples::container(samples::spec())));
        assert!(!loan.called_back.is_cancelled());
        assert!(loans.root.upgrade().is_some(), "others share it");
        drop(loan);
        assert!(loans.root.upgrade().is_none());
    }

    #[tokio::test]
    async fn the_servers_end_calls_everything_back() {
        let shutdown = CancellationToken::new();
        let mut loans = Loans::new(&shutdown);
        let loan = loans.lend(root(), Arc::new(samples::container(samples::spec())));
        shutdown.cancel();
        assert!(loan.called_back.is_cancelled());
    }
}
