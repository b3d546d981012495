//! Memory that is used again.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Elements that go back to a common store when they are no longer used.
///
/// A training step asks for the same sizes again and again, and fresh memory costs a page fault for
/// every four kilobytes.
#[derive(Debug)]
pub struct Buffer(Vec<f32>);

/// Below this many elements the allocator itself is quick.
const SMALLEST: usize = 1 << 13;

/// A size that nobody asked for in this many requests is given up.
const MEMORY: u64 = 2_000;

static STORE: Mutex<Store> = Mutex::new(Store { requests: 0, shelves: BTreeMap::new() });

struct Store {
    requests: u64,
    /// By length.
    shelves: BTreeMap<usize, Shelf>,
}

#[derive(Default)]
struct Shelf {
    last_request: u64,
    /// How often nothing was here: no more are kept, or memory that others allocated would pile up.
    misses: usize,
    free: Vec<Vec<f32>>,
}

fn store() -> MutexGuard<'static, Store> {
    // Whoever panicked while holding it left a store that is still one.
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Buffer {
    /// Gives `count` elements of any value.
    #[must_use]
    pub fn any(count: usize) -> Self {
        if count < SMALLEST {
            return Self(vec![0.0; count]);
        }
        Self(store().take(count).unwrap_or_else(|| vec![0.0; count]))
    }

    /// Gives `count` zeros.
    #[must_use]
    pub fn zeros(count: usize) -> Self {
        let mut buffer = Self::any(count);
        buffer.fill(0.0);
        buffer
    }

    /// Takes elements over.
    #[must_use]
    pub fn from_vec(values: Vec<f32>) -> Self {
        Self(values)
    }

    /// Gives the elements away.
    #[must_use]
    pub fn into_vec(mut self) -> Vec<f32> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.len() >= SMALLEST {
            store().put(std::mem::take(&mut self.0));
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Store {
    fn take(&mut self, count: usize) -> Option<Vec<f32>> {
        self.requests += 1;
        let requests = self.requests;
        if requests.is_multiple_of(MEMORY) {
            self.shelves.retain(|_, shelf| shelf.last_request + MEMORY > requests);
        }
        let shelf = self.shelves.entry(count).or_default();
        shelf.last_request = requests;
        let found = shelf.free.pop();
        shelf.misses += usize::from(found.is_none());
        found
    }

    fn put(&mut self, values: Vec<f32>) {
        if let Some(shelf) = self.shelves.get_mut(&values.len())
            && shelf.free.len() < shelf.misses
        {
            shelf.free.push(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_used_again_and_then_forgotten() {
        let mut store = Store { requests: 0, shelves: BTreeMap::new() };
        assert!(store.take(10_000).is_none());
        store.put(vec![1.0; 10_000]);
        assert_eq!(store.take(10_000).map(|v| v.len()), Some(10_000));
        store.put(vec![1.0; 10_000]);
        for _ in 0..2 * MEMORY {
            assert!(store.take(9_000).is_none());
        }
        assert!(!store.shelves.contains_key(&10_000));
    }

    #[test]
    fn no_more_is_kept_than_was_asked_for() {
        let mut store = Store { requests: 0, shelves: BTreeMap::new() };
        store.put(vec![1.0; 10_000]);
        assert!(store.take(10_000).is_none());
        for _ in 0..3 {
            store.put(vec![1.0; 10_000]);
        }
        assert!(store.take(10_000).is_some());
        assert!(store.take(10_000).is_none());
    }
}
