//! Which source comes next: Tijdeman's rule.

use super::quota::Quota;

/// Picks the source of draw `slot` of a segment, counted from zero.
///
/// Among the sources that have earned a draw, `A(slot + 1) − c ≥ 1/(2n − 2)`, it takes the one
/// whose deadline is earliest: the least `t` with `A(t) − c ≥ 1 − 1/(2n − 2)`, where `c` counts the
/// source's draws within the segment. Ties go to the source that comes first.
///
/// `quotas` holds the sources with a weight above zero somewhere in the segment, at least one, and
/// `drawn` tells how often each was drawn in it.
///
/// # Source
///
/// R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980): every prefix of
/// every source stays within `1 − 1/(2n − 2)` of its quota, for any weights that are known in
/// advance, changing ones included.
pub(super) fn pick(
    quotas: &[Quota],
    drawn: impl Fn(usize) -> u64,
    slot: u64,
    sequences: u64,
) -> usize {
    if quotas.len() == 1 {
        return 0;
    }
    let parts = 2 * quotas.len() as u128 - 2;
    let mut best = None;
    for (source, quota) in quotas.iter().enumerate() {
        let drawn = drawn(source);
        if !quota.has_reached(slot + 1, drawn, 1, parts) {
            continue;
        }
        let deadline = quota.first_reaching(slot + 1, sequences, drawn, parts - 1, parts);
        if best.is_none_or(|(earliest, _)| deadline < earliest) {
            best = Some((deadline, source));
        }
    }
    // The quotas minus the draws sum to one, so one of n sources is owed at least 1/n ≥ 1/(2n − 2).
    best.expect("some source has earned the draw").1
}
