//! A stretch of a run with one rule for its weights.

use serde::{Deserialize, Serialize};
use terrace_base::{Fingerprint, FingerprintHasher};

use super::SourceEdition;
use super::error::MixtureError;
use super::quota::{self, Quota};
use super::tijdeman;

/// A stretch of a run whose weights are constant or change along a straight line.
///
/// Weights are integers, one per source in the order in which the sources are given; only their
/// ratios matter, and zero means never.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Sequences that are drawn from it.
    pub sequences: u64,
    /// Weights at its first sequence.
    pub weights_start: Vec<u64>,
    /// Weights after `ramp_sequences`.
    pub weights_end: Vec<u64>,
    /// Sequences over which the weights change; more than `sequences` if the segment was cut short.
    pub ramp_sequences: u64,
}

impl Segment {
    /// A segment whose weights do not change.
    #[must_use]
    pub fn constant(sequences: u64, weights: Vec<u64>) -> Self {
        Self {
            sequences,
            weights_start: weights.clone(),
            weights_end: weights,
            ramp_sequences: sequences,
        }
    }

    /// A segment whose weights change linearly from its start to its end.
    #[must_use]
    pub fn linear(sequences: u64, weights_start: Vec<u64>, weights_end: Vec<u64>) -> Self {
        Self { sequences, weights_start, weights_end, ramp_sequences: sequences }
    }
}

/// A segment made ready: quotas of its active sources in canonical order.
#[derive(Clone, Debug)]
pub(super) struct SegmentRule {
    pub(super) sequences: u64,
    /// Canonical places of the sources that have a weight.
    pub(super) active: Vec<usize>,
    /// Their quotas.
    quotas: Vec<Quota>,
    /// The sequences of the ramp; zero with constant weights.
    ramp: u64,
}

impl SegmentRule {
    /// Checks a segment and computes its quotas.
    ///
    /// `order` lists the given sources in canonical order.
    pub(super) fn new(
        segment: &Segment,
        place: usize,
        order: &[usize],
    ) -> Result<Self, MixtureError> {
        check(segment, place, order.len())?;
        let start: Vec<u128> = order.iter().map(|s| segment.weights_start[*s].into()).collect();
        let end: Vec<u128> = order.iter().map(|s| segment.weights_end[*s].into()).collect();
        let (start, end, total) = common_total(&start, &end);
        let is_ramp = start != end;
        let ramp = if is_ramp { segment.ramp_sequences } else { 0 };
        let quota = |s: usize| match is_ramp {
            true => Quota::ramp(start[s], end[s], total, ramp),
            false => Quota::constant(start[s], total),
        };
        let quotas = (0..order.len()).map(quota);
        let (active, quotas): (Vec<_>, Vec<_>) =
            quotas.enumerate().filter(|(_, quota)| quota.is_active()).unzip();
        let length = segment.sequences.max(ramp);
        if !quota::fits(is_ramp, length, total, active.len()) {
            return Err(MixtureError::TooLarge { segment: place, sequences: length, total });
        }
        Ok(Self { sequences: segment.sequences, active, quotas, ramp })
    }

    /// The canonical place of the source that draw `slot` goes to.
    pub(super) fn pick(&self, drawn: impl Fn(usize) -> u64, slot: u64) -> usize {
        let drawn = |active: usize| drawn(self.active[active]);
        // The horizon is the ramp's end even where the segment was cut short, so that cutting it
        // leaves what was drawn before as it was.
        let horizon = if self.ramp == 0 { u64::MAX } else { self.ramp };
        self.active[tijdeman::pick(&self.quotas, drawn, slot, horizon)]
    }

    /// The quota of the source at canonical place `source`, if it has one.
    pub(super) fn quota(&self, source: usize) -> Option<&Quota> {
        self.active.iter().position(|s| *s == source).map(|active| &self.quotas[active])
    }

    /// A hash over all that the order of draws depends on, `before` standing for what came earlier.
    ///
    /// The number of sequences is no part of it: a segment may be cut or prolonged behind what was
    /// drawn. The length of a ramp is, because it decides the slope.
    pub(super) fn hash(&self, before: Fingerprint, sources: &[SourceEdition]) -> Fingerprint {
        let mut hasher = FingerprintHasher::new();
        hasher.update(b"segment").update(&before.0).update(&self.ramp.to_le_bytes());
        for (source, quota) in self.active.iter().zip(&self.quotas) {
            let edition = &sources[*source];
            hasher.update(&edition.fingerprint.0).update(&edition.windows.to_le_bytes());
            for weight in quota.weights() {
                hasher.update(&weight.to_le_bytes());
            }
        }
        hasher.finish()
    }
}

fn check(segment: &Segment, place: usize, sources: usize) -> Result<(), MixtureError> {
    if segment.sequences == 0 {
        return Err(MixtureError::EmptySegment { segment: place });
    }
    if segment.ramp_sequences < segment.sequences && segment.weights_start != segment.weights_end {
        return Err(MixtureError::RampTooShort {
            segment: place,
            sequences: segment.sequences,
            ramp: segment.ramp_sequences,
        });
    }
    for weights in [&segment.weights_start, &segment.weights_end] {
        if weights.len() != sources {
            return Err(MixtureError::WeightCount {
                segment: place,
                found: weights.len(),
                expected: sources,
            });
        }
        if weights.iter().all(|w| *w == 0) {
            return Err(MixtureError::NoWeight { segment: place });
        }
    }
    Ok(())
}

/// Brings the weights at both ends to one total, in lowest terms, without rounding.
///
/// Sums of 64-bit weights stay below 2⁹⁶ for fewer than 2³² sources, and what does not fit after
/// the multiplication saturates to a total that [`quota::fits`] refuses.
fn common_total(start: &[u128], end: &[u128]) -> (Vec<u128>, Vec<u128>, u128) {
    let (start, start_total) = lowest_terms(start);
    let (end, end_total) = lowest_terms(end);
    let divisor = gcd(start_total, end_total);
    let scale = |weights: Vec<u128>, factor: u128| -> Vec<u128> {
        weights.into_iter().map(|w| w.saturating_mul(factor)).collect()
    };
    let total = start_total.saturating_mul(end_total / divisor);
    (scale(start, end_total / divisor), scale(end, start_total / divisor), total)
}

fn lowest_terms(weights: &[u128]) -> (Vec<u128>, u128) {
    let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, *weight));
    let weights: Vec<u128> = weights.iter().map(|weight| weight / divisor).collect();
    let total = weights.iter().sum();
    (weights, total)
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}
