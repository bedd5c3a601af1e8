//! What others hold, by name, for as long as somebody holds it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Names are cleaned up only when there are more than that.
const FEW: usize = 64;

/// Values that somebody else holds, by name. Cleans up after those that nobody holds any more whenever the names have
/// become twice as many, so that one costs the same however many there are.
#[derive(Debug)]
pub struct ByName<T> {
    entries: Mutex<Entries<T>>,
}

#[derive(Debug)]
struct Entries<T> {
    by_name: HashMap<String, Weak<T>>,
    clean_up_at: usize,
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self {
            entries: Mutex::new(Entries {
                by_name: HashMap::new(),
                clean_up_at: FEW,
            }),
        }
    }
}

impl<T> ByName<T> {
    /// The value of this name from now on.
    pub fn insert(&self, name: &str, value: &Arc<T>) {
        self.entries.lock().insert(name, value);
    }

    /// The value of this name, if somebody holds it.
    pub fn get(&self, name: &str) -> Option<Arc<T>> {
        self.entries.lock().get(name)
    }

    /// The value of this name, made if nobody holds one.
    pub fn get_or_insert(&self, name: &str, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let mut entries = self.entries.lock();
        entries.get(name).unwrap_or_else(|| {
            let value = make();
            entries.insert(name, &value);
            value
        })
    }

    /// Those that somebody holds, in no order.
    pub fn all(&self) -> Vec<(String, Arc<T>)> {
        let entries = self.entries.lock();
        let held = entries.by_name.iter();
        held.filter_map(|(name, value)| Some((name.clone(), value.upgrade()?)))
            .collect()
    }
}

impl<T> Entries<T> {
    fn get(&self, name: &str) -> Option<Arc<T>> {
        self.by_name.get(name).and_then(Weak::upgrade)
    }

    fn insert(&mut self, name: &str, value: &Arc<T>) {
        if self.by_name.len() >= self.clean_up_at {
            self.by_name.retain(|_, value| value.strong_count() > 0);
            self.clean_up_at = FEW.max(self.by_name.len() * 2);
        }
        self.by_name.insert(name.to_owned(), Arc::downgrade(value));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_nobody_holds_do_not_pile_up() {
        let by_name = ByName::default();
        let held: Vec<_> = (0..1000).map(Arc::new).collect();
        for value in &held {
            by_name.insert(&value.to_string(), value);
        }
        for name in 1000..100_000 {
            by_name.insert(&name.to_string(), &Arc::new(name));
            assert!(by_name.entries.lock().by_name.len() <= 4 * held.len());
        }
        assert_eq!(by_name.all().len(), held.len());
        assert_eq!(*by_name.get("7").unwrap(), 7);
        assert!(by_name.get("1001").is_none());
        assert_eq!(*by_name.get_or_insert("1001", || Arc::new(1)), 1);
    }
}
