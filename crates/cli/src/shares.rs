//! Where the time of a piece of work goes: its spans, summed by name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use terrace_kernels::host::TILES;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, reload};

/// Listens to the spans of our own crates while it is told to.
#[derive(Clone)]
pub(crate) struct Shares {
    sums: Arc<Mutex<Sums>>,
    gate: reload::Handle<Targets, Registry>,
}

/// What was spent under one name, without what was spent in the spans within.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Share {
    /// The time; where threads share work, the mean of them.
    pub(crate) seconds: f64,
    /// The floating-point operations of products.
    pub(crate) operations: u64,
}

/// Of the thread that works, and of those that help it.
#[derive(Default)]
struct Sums {
    worker: Option<ThreadId>,
    own: BTreeMap<&'static str, Share>,
    helpers: BTreeMap<&'static str, Share>,
}

impl Shares {
    /// Gives what listens, and what says when.
    pub(crate) fn listener() -> (impl Layer<Registry>, Self) {
        // Nothing is enabled, so that a span costs no more than a look at a flag.
        let (filter, gate) = reload::Layer::new(Targets::new());
        let sums = Arc::<Mutex<Sums>>::default();
        (Listener(sums.clone()).with_filter(filter), Self { sums, gate })
    }

    /// Does a piece of work; gives what it gave and what was spent under each name.
    ///
    /// The helpers' time under a name is divided by `threads`, which all wait for the same work; what
    /// the working thread spent in `waiting` on them is told without it.
    pub(crate) fn of<T>(
        &self,
        threads: usize,
        waiting: &'static str,
        work: impl FnOnce() -> T,
    ) -> (T, BTreeMap<String, Share>) {
        *lock(&self.sums) = Sums { worker: Some(thread::current().id()), ..Sums::default() };
        self.listen(LevelFilter::TRACE);
        let result = work();
        self.listen(LevelFilter::OFF);
        let Sums { own, helpers, .. } = std::mem::take(&mut *lock(&self.sums));
        (result, combine(&own, &helpers, threads, waiting))
    }

    fn listen(&self, level: LevelFilter) {
        let ours = Targets::new().with_target("terrace", level).with_target(TILES, level);
        // The subscriber lives as long as the process.
        let _ = self.gate.reload(ours);
    }
}

fn combine(
    own: &BTreeMap<&'static str, Share>,
    helpers: &BTreeMap<&'static str, Share>,
    threads: usize,
    waiting: &'static str,
) -> BTreeMap<String, Share> {
    let name = |name: &&'static str| (*name).to_owned();
    let mut all: BTreeMap<String, Share> = own.iter().map(|(n, share)| (name(n), *share)).collect();
    let mut helped = 0.0;
    for (helper, share) in helpers {
        let seconds = share.seconds / threads as f64;
        helped += seconds;
        all.insert(format!("{waiting}: {helper}"), Share { seconds, operations: share.operations });
    }
    if let Some(share) = all.get_mut(waiting) {
        share.seconds = (share.seconds - helped).max(0.0);
    }
    all
}

fn lock(sums: &Mutex<Sums>) -> MutexGuard<'_, Sums> {
    sums.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A span that a thread is in.
struct Open {
    since: Instant,
    /// What was spent in spans within.
    within: Duration,
}

thread_local! {
    static OPEN: RefCell<Vec<Open>> = const { RefCell::new(Vec::new()) };
}

struct Listener(Arc<Mutex<Sums>>);

impl Listener {
    fn add(&self, metadata: &'static Metadata<'static>, share: Share) {
        let mut sums = lock(&self.0);
        let is_own = sums.worker == Some(thread::current().id());
        let of = if is_own { &mut sums.own } else { &mut sums.helpers };
        let sum = of.entry(metadata.name()).or_default();
        sum.seconds += share.seconds;
        sum.operations += share.operations;
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Listener {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut operations = Operations(0);
        attributes.record(&mut operations);
        if operations.0 > 0 {
            self.add(attributes.metadata(), Share { seconds: 0.0, operations: operations.0 });
        }
    }

    fn on_enter(&self, _: &Id, _: Context<'_, S>) {
        let open = Open { since: Instant::now(), within: Duration::ZERO };
        OPEN.with_borrow_mut(|spans| spans.push(open));
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let spent = OPEN.with_borrow_mut(|spans| {
            let open = spans.pop()?;
            let all = open.since.elapsed();
            if let Some(outer) = spans.last_mut() {
                outer.within += all;
            }
            Some(all.saturating_sub(open.within))
        });
        // A span that was entered before anyone listened is not counted.
        if let (Some(spent), Some(metadata)) = (spent, context.metadata(id)) {
            self.add(metadata, Share { seconds: spent.as_secs_f64(), operations: 0 });
        }
    }
}

/// Reads the field of that name.
struct Operations(u64);

impl Visit for Operations {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "operations" {
            self.0 = value;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(seconds: f64, operations: u64) -> Share {
        Share { seconds, operations }
    }

    #[test]
    fn what_helpers_did_is_taken_from_the_waiting() {
        let own = BTreeMap::from([("scores", share(3.0, 0)), ("product", share(5.0, 70))]);
        let helpers = BTreeMap::from([("product", share(4.0, 30)), ("softmax", share(1.0, 0))]);
        let all = combine(&own, &helpers, 2, "scores");
        let expected = [
            ("product", share(5.0, 70)),
            ("scores", share(0.5, 0)),
            ("scores: product", share(2.0, 30)),
            ("scores: softmax", share(0.5, 0)),
        ];
        assert_eq!(all, expected.map(|(name, share)| (name.to_owned(), share)).into());
        let total: f64 = all.values().map(|share| share.seconds).sum();
        assert_eq!(total, 8.0, "the working thread's time");
    }
}
