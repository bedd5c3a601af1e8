//! What a container is called in containerd.
//!
//! Its id; and after a start whose end nobody saw, the id with a number: `ID.2`, `ID.3` ... containerd
//! clears up late, or never, after a Tasks.Create whose caller went away, and does so by name: it may
//! take the bundle and the root of a task that was made under that name since. Under the next name
//! nothing old can reach the new task. The root stays: its snapshot has the container's id.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use parking_lot::Mutex;

use crate::model::{ContainerId, ExecId, InvalidId};

/// A container's name in containerd, of its record, its task and its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name {
    id: ContainerId,
    /// From 1.
    number: u32,
}

impl Name {
    /// The name that every container is created under.
    pub(super) fn first(id: ContainerId) -> Self {
        Self { id, number: 1 }
    }

    /// The name after this one.
    pub(super) fn next(self) -> Self {
        Self {
            number: self.number.saturating_add(1),
            ..self
        }
    }

    /// Whose name it is.
    pub(super) fn id(self) -> ContainerId {
        self.id
    }

    /// The names that came before this one.
    pub(super) fn earlier(self) -> impl Iterator<Item = Self> {
        (1..self.number).map(move |number| Self { number, ..self })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            1 => self.id.fmt(f),
            number => write!(f, "{}.{number}", self.id),
        }
    }
}

impl FromStr for Name {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let Some((id, number)) = text.split_once('.') else {
            return Ok(Self::first(text.parse()?));
        };
        let name = Self {
            id: id.parse()?,
            number: number.parse().map_err(|_| InvalidId)?,
        };
        // One name, one text.
        if number.starts_with(['0', '+']) || name.number < 2 {
            return Err(InvalidId);
        }
        Ok(name)
    }
}

/// An exec in containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ExecName {
    /// The container's name.
    pub(super) container: Name,
    /// The exec, which has its own id as name.
    pub(super) exec: ExecId,
}

/// The present names of this server's containers.
#[derive(Debug, Default)]
pub(super) struct Names {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whether it is known what earlier servers have renamed.
    known: bool,
    /// The containers that do not have their first name any more.
    renamed: HashMap<ContainerId, Name>,
}

impl Names {
    /// Whether [`Self::learn`] was called.
    pub(super) fn are_known(&self) -> bool {
        self.inner.lock().known
    }

    /// Learns what earlier servers have renamed, from all names there are in containerd: the last of
    /// a container's is its present one. Only the first time counts: what comes later is this
    /// server's own doing.
    pub(super) fn learn(&self, names: impl Iterator<Item = Name>) {
        let mut inner = self.inner.lock();
        if !std::mem::replace(&mut inner.known, true) {
            names.for_each(|name| inner.take(name));
        }
    }

    /// What the container is called now.
    pub(super) fn of(&self, id: ContainerId) -> Name {
        self.inner.lock().of(id)
    }

    /// The container is called `name` from now on, unless it has a later name already.
    pub(super) fn take(&self, name: Name) {
        self.inner.lock().take(name);
    }

    /// The container is gone.
    pub(super) fn forget(&self, id: ContainerId) {
        self.inner.lock().renamed.remove(&id);
    }
}

impl Inner {
    fn of(&self, id: ContainerId) -> Name {
        self.renamed.get(&id).copied().unwrap_or(Name::first(id))
    }

    fn take(&mut self, name: Name) {
        if name.number > self.of(name.id).number {
            self.renamed.insert(name.id, name);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_as_it_shows_itself() {
        let first = Name::first(ContainerId::generate());
        assert_eq!(first.to_string(), first.id().to_string());
        for name in [first, first.next(), first.next().next()] {
            assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
        }
        assert_eq!(first.next().to_string(), format!("{first}.2"));
        let earlier: Vec<_> = first.next().next().earlier().collect();
        assert_eq!(earlier, [first, first.next()]);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let id = ContainerId::generate();
        for number in ["", "0", "1", "02", "+2", "-2", "x", "2.3", "99999999999"] {
            assert!(
                format!("{id}.{number}").parse::<Name>().is_err(),
                "{number}"
            );
        }
        assert!("redis".parse::<Name>().is_err());
        assert!("redis.2".parse::<Name>().is_err());
    }

    #[test]
    fn the_last_of_the_names_that_are_there_is_the_present_one() {
        let first = Name::first(ContainerId::generate());
        let (second, third) = (first.next(), first.next().next());
        let names = Names::default();
        assert!(!names.are_known());
        names.learn([third, first, second].into_iter());
        assert!(names.are_known());
        assert_eq!(names.of(first.id()), third);
        names.take(second);
        assert_eq!(names.of(first.id()), third);
        names.forget(first.id());
        assert_eq!(names.of(first.id()), first);
    }

    #[test]
    fn what_is_listed_later_does_not_bring_back_what_is_gone() {
        let names = Names::default();
        names.learn(std::iter::empty());
        let first = Name::first(ContainerId::generate());
        names.learn([first.next()].into_iter());
        assert_eq!(names.of(first.id()), first);
    }
}
