//! What the server counts, in the text form that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;

/// Upper ends of the latency histogram's bins, in seconds.
const BINS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long the answers of a route took.
#[derive(Debug, Default)]
struct Latency {
    bins: [u64; BINS.len()],
    count: u64,
    seconds: f64,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) prompt_tokens: Counter,
    pub(crate) generated_tokens: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) model_failures: Counter,
    pub(crate) handler_failures: Counter,
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    latencies: Mutex<BTreeMap<String, Latency>>,
}

impl Metrics {
    pub(crate) fn healthy(&self) -> bool {
        self.model_failures.get() == 0
    }

    pub(crate) fn request(&self, route: &str, status: StatusCode) {
        *lock(&self.requests).entry((route.to_owned(), status.as_u16())).or_default() += 1;
    }

    /// An answer whose last byte was handed over after this time.
    pub(crate) fn took(&self, route: &str, time: Duration) {
        let seconds = time.as_secs_f64();
        let mut latencies = lock(&self.latencies);
        let latency = latencies.entry(route.to_owned()).or_default();
        latency.count += 1;
        latency.seconds += seconds;
        for (bin, end) in latency.bins.iter_mut().zip(BINS) {
            *bin += u64::from(seconds <= end);
        }
    }

    /// All of it, with the queue as it is now.
    pub(crate) fn render(&self, queue: usize, limit: usize) -> String {
        let mut page = Page::default();
        let name = "terrace_requests_total";
        page.head(name, "counter", "Requests by route and status.");
        for ((route, status), count) in &*lock(&self.requests) {
            page.line(&format!("{name}{{route=\"{route}\",status=\"{status}\"}}"), count);
        }
        self.latencies(&mut page);
        for (name, help, counter) in [
            ("prompt_tokens", "Tokens of prompts.", &self.prompt_tokens),
            ("generated_tokens", "Tokens generated.", &self.generated_tokens),
            ("cancelled", "Prompts whose client went away.", &self.cancelled),
            ("model_failures", "Errors and panics of the model.", &self.model_failures),
            ("handler_failures", "Panics of the server itself.", &self.handler_failures),
        ] {
            page.number(&format!("terrace_{name}_total"), "counter", help, counter.get());
        }
        let help = "Prompts waiting or being worked on.";
        page.number("terrace_queue_length", "gauge", help, queue as u64);
        let help = "Prompts beyond which requests are refused.";
        page.number("terrace_queue_limit", "gauge", help, limit as u64);
        let help = "1 while the model answers.";
        page.number("terrace_model_healthy", "gauge", help, u64::from(self.healthy()));
        page.0
    }

    fn latencies(&self, page: &mut Page) {
        let name = "terrace_request_seconds";
        page.head(name, "histogram", "Time to the end of an answer, by route.");
        for (route, latency) in &*lock(&self.latencies) {
            for (bin, end) in latency.bins.iter().zip(BINS) {
                page.line(&format!("{name}_bucket{{route=\"{route}\",le=\"{end}\"}}"), bin);
            }
            let count = latency.count;
            page.line(&format!("{name}_bucket{{route=\"{route}\",le=\"+Inf\"}}"), count);
            page.line(&format!("{name}_sum{{route=\"{route}\"}}"), latency.seconds);
            page.line(&format!("{name}_count{{route=\"{route}\"}}"), count);
        }
    }
}

/// A page in Prometheus' text form.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("memory");
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        writeln!(self.0, "{name} {value}").expect("memory");
    }

    fn number(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(name, value);
    }
}

/// Counts stay usable after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_cumulative_and_end_in_the_count() {
        let metrics = Metrics::default();
        for millis in [1, 40, 700_000] {
            metrics.took("/health", Duration::from_millis(millis));
        }
        metrics.request("/health", StatusCode::OK);
        let page = metrics.render(3, 8);
        let value = |name: &str| {
            let line = page.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.rsplit(' ').next()).unwrap().to_owned()
        };
        let bucket =
            |le: &str| format!("terrace_request_seconds_bucket{{route=\"/health\",le=\"{le}\"}}");
        assert_eq!(value(&bucket("0.005")), "1");
        assert_eq!(value(&bucket("0.05")), "2");
        assert_eq!(value(&bucket("300")), "2");
        assert_eq!(value(&bucket("+Inf")), "3");
        assert_eq!(value("terrace_request_seconds_sum"), "700.041");
        assert_eq!(value("terrace_requests_total{route=\"/health\",status=\"200\"}"), "1");
        assert_eq!(value("terrace_queue_length "), "3");
        assert_eq!(value("terrace_model_healthy "), "1");
    }
}
