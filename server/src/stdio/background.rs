//! Something that is used on threads that may wait for the disk, by a caller that may stop waiting.

use tokio::task::{JoinHandle, spawn_blocking};

use super::StdioError;

/// A value that is used on such threads, one use at a time. A use whose caller stops waiting goes on, and
/// its outcome is kept for the next one who asks, so that nothing that was read is lost.
#[derive(Debug)]
pub struct Background<T, O> {
    place: Place<T, O>,
}

/// The value, or who has it.
#[derive(Debug)]
enum Place<T, O> {
    Here(T),
    Away(JoinHandle<(T, O)>),
    Gone,
}

/// The outcome of a use.
#[derive(Debug)]
pub enum Outcome<O> {
    /// Of an earlier one, whose caller had stopped waiting: it may know less than the caller does now.
    /// The new one was not begun.
    Earlier(O),
    /// Of this one.
    Now(O),
}

impl<T: Send + 'static, O: Send + 'static> Background<T, O> {
    /// A value that nobody uses yet.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self {
            place: Place::Here(value),
        }
    }

    /// Uses it, unless the outcome of an earlier use is there to be taken first. May be cancelled.
    ///
    /// # Errors
    /// [`StdioError::Interrupted`] if a thread ended without giving it back.
    pub async fn run(
        &mut self,
        work: impl FnOnce(&mut T) -> O + Send + 'static,
    ) -> Result<Outcome<O>, StdioError> {
        let earlier = matches!(self.place, Place::Away(_));
        if !earlier && let Place::Here(mut value) = std::mem::replace(&mut self.place, Place::Gone)
        {
            self.place = Place::Away(spawn_blocking(move || {
                let outcome = work(&mut value);
                (value, outcome)
            }));
        }
        let Place::Away(thread) = &mut self.place else {
            return Err(StdioError::Interrupted);
        };
        let done = thread.await;
        self.place = Place::Gone;
        let (value, outcome) = done.map_err(|_| StdioError::Interrupted)?;
        self.place = Place::Here(value);
        Ok(if earlier {
            Outcome::Earlier(outcome)
        } else {
            Outcome::Now(outcome)
        })
    }
}
