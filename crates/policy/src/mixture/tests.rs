//! The eleven properties of a mixture, P1 to P11.

use proptest::prelude::*;
use terrace_base::{Fingerprint, Seed};

use super::*;

mod plans;
mod rewind;

fn edition(name: &str, windows: u64) -> SourceEdition {
    let fingerprint = Fingerprint::of_bytes(name.as_bytes());
    SourceEdition { name: name.to_owned(), fingerprint, windows, max_windows: None }
}

fn editions(windows: &[u64]) -> Vec<SourceEdition> {
    windows
        .iter()
        .enumerate()
        .map(|(s, windows)| edition(&format!("source-{s}"), *windows))
        .collect()
}

fn draw_all(schedule: &MixtureSchedule) -> Vec<Draw> {
    draw(schedule, &mut schedule.cursor_at_start(), u64::MAX)
}

fn draw(schedule: &MixtureSchedule, cursor: &mut MixtureCursor, count: u64) -> Vec<Draw> {
    (0..count).map_while(|_| schedule.next(cursor)).collect()
}

/// Weights with zeros, ones and giants, never all zero.
fn weights(sources: usize) -> impl Strategy<Value = Vec<u64>> {
    let weight = prop_oneof![Just(0u64), 1u64..5, 1u64..1000, Just(960_000)];
    prop::collection::vec(weight, sources)
        .prop_filter("one source needs a weight", |weights| weights.iter().any(|w| *w > 0))
}

fn segments(sources: usize) -> impl Strategy<Value = Vec<Segment>> {
    let segment = (1u64..300, weights(sources), weights(sources), any::<bool>()).prop_map(
        |(sequences, start, end, constant)| match constant {
            true => Segment::constant(sequences, start),
            false => Segment::linear(sequences, start, end),
        },
    );
    prop::collection::vec(segment, 1..4)
}

#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    sources: Vec<SourceEdition>,
    segments: Vec<Segment>,
}

impl Plan {
    fn schedule(&self) -> MixtureSchedule {
        MixtureSchedule::new(Seed(self.seed), self.sources.clone(), self.segments.clone()).unwrap()
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    (1usize..14).prop_flat_map(|n| {
        let windows = prop::collection::vec(1u64..40, n);
        (any::<u64>(), windows, segments(n)).prop_map(|(seed, windows, segments)| Plan {
            seed,
            sources: editions(&windows),
            segments,
        })
    })
}

/// Whether every epoch of every source shows each window once, the last as far as it goes.
fn epochs_are_permutations(sources: &[SourceEdition], draws: &[Draw]) -> bool {
    sources.iter().enumerate().all(|(source, edition)| {
        let own: Vec<u64> = draws.iter().filter(|d| d.source == source).map(|d| d.window).collect();
        own.chunks(edition.windows as usize).all(|epoch| {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            sorted.len() == epoch.len() && epoch.iter().all(|w| *w < edition.windows)
        })
    })
}

/// `c − A(t)` of each source of a segment, worked out apart from the code under test, with the
/// fraction's denominator.
fn deviations(segment: &Segment, drawn: &[u64], t: u64) -> (Vec<i128>, i128) {
    let total = |weights: &[u64]| weights.iter().map(|w| i128::from(*w)).sum::<i128>();
    let (w0, w1) = (total(&segment.weights_start), total(&segment.weights_end));
    let (t, k) = (i128::from(t), i128::from(segment.ramp_sequences));
    let one = |source: usize| {
        let start = i128::from(segment.weights_start[source]) * w1;
        let end = i128::from(segment.weights_end[source]) * w0;
        i128::from(drawn[source]) * 2 * k * w0 * w1 - (2 * k * start * t + (end - start) * t * t)
    };
    ((0..drawn.len()).map(one).collect(), 2 * k * w0 * w1)
}

proptest! {
    #[test]
    fn p1_every_epoch_is_a_permutation(plan in plans(), cut in 0u64..300) {
        prop_assert!(epochs_are_permutations(&plan.sources, &draw_all(&plan.schedule())));

        // The same across an edit in mid-run that turns the mix around.
        let schedule = plan.schedule();
        let mut cursor = schedule.cursor_at_start();
        let mut draws = draw(&schedule, &mut cursor, cut);
        let mut edited = plan.clone();
        edited.segments = schedule.past_segments(&cursor);
        edited.segments.push(Segment::constant(120, vec![1; plan.sources.len()]));
        let schedule = edited.schedule();
        let mut cursor = schedule.resume(&cursor).unwrap();
        draws.extend(draw(&schedule, &mut cursor, u64::MAX));
        prop_assert!(epochs_are_permutations(&plan.sources, &draws));
    }

    #[test]
    fn p2_every_prefix_is_within_one_of_its_quota(plan in plans()) {
        let schedule = plan.schedule();
        let mut draws = draw_all(&schedule).into_iter();
        for (place, segment) in plan.segments.iter().enumerate() {
            let mut drawn = vec![0; plan.sources.len()];
            let active = |s: &usize| segment.weights_start[*s] + segment.weights_end[*s] > 0;
            let n = (0..drawn.len()).filter(active).count() as i128;
            for t in 1..=segment.sequences {
                let draw = draws.next().unwrap();
                prop_assert_eq!(draw.segment, place);
                drawn[draw.source] += 1;
                let (deviations, one) = deviations(segment, &drawn, t);
                for deviation in deviations {
                    prop_assert!(deviation.abs() < one);
                    // The bound that Tijdeman proved is tighter still.
                    prop_assert!(n == 1 || deviation.abs() * (2 * n - 2) <= one * (2 * n - 3));
                }
            }
            prop_assert_eq!(drawn.iter().sum::<u64>(), segment.sequences);
        }
        prop_assert!(draws.next().is_none());
    }

    #[test]
    fn p4_saving_and_loading_changes_nothing(plan in plans(), place in 0u64..1000) {
        let schedule = plan.schedule();
        let expected = draw_all(&schedule);
        let mut cursor = schedule.cursor_at_start();
        let mut draws = draw(&schedule, &mut cursor, place % (expected.len() as u64 + 1));
        let json = serde_json::to_string(&cursor).unwrap();
        let loaded: MixtureCursor = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&loaded, &cursor);
        let mut resumed = plan.schedule().resume(&loaded).unwrap();
        prop_assert_eq!(&resumed, &cursor);
        draws.extend(draw(&schedule, &mut resumed, u64::MAX));
        prop_assert_eq!(draws, expected);
    }

    #[test]
    fn p5_random_access_equals_the_sequence(plan in plans(), places in prop::collection::vec(0u64..900, 5)) {
        let schedule = plan.schedule();
        let expected = draw_all(&schedule);
        let mut anchors = Anchors::new();
        for place in places {
            prop_assert_eq!(anchors.at(&schedule, place), expected.get(place as usize).copied());
        }
    }

    #[test]
    fn p6_the_future_may_change_and_the_past_may_not(
        plan in plans(),
        other in segments(20),
        added in 1u64..40,
        place in 0u64..900,
    ) {
        let schedule = plan.schedule();
        let expected = draw_all(&schedule);
        let mut cursor = schedule.cursor_at_start();
        draw(&schedule, &mut cursor, place % expected.len() as u64);
        let current = cursor.segment();

        // Another future, with a source that the past does not know.
        let mut future = plan.clone();
        future.sources.push(edition("a new source", added));
        let n = future.sources.len();
        future.segments.truncate(current + 1);
        future.segments.iter_mut().for_each(|s| {
            s.weights_start.push(0);
            s.weights_end.push(0);
        });
        future.segments.extend(other.iter().map(|segment| {
            let mut weights = segment.weights_start[..n].to_vec();
            weights[n - 1] = 1;
            Segment::constant(segment.sequences, weights)
        }));
        let changed = future.schedule();
        prop_assert_eq!(changed.segment_hash(current), schedule.segment_hash(current));
        let mut resumed = changed.resume(&cursor).unwrap();
        for edition in &plan.sources {
            prop_assert_eq!(resumed.count(edition.fingerprint), cursor.count(edition.fingerprint));
        }
        let next = expected[place as usize % expected.len()];
        if schedule.remaining_in_segment(&cursor) > 0 {
            prop_assert_eq!(changed.next(&mut resumed), Some(next));
        }

        // Another past: the first segment gets a weight that it did not have. What was not yet drawn
        // from is no past.
        let mut past = plan.clone();
        past.sources.push(edition("a new source", added));
        past.segments.iter_mut().for_each(|s| {
            s.weights_start.push(1);
            s.weights_end.push(1);
        });
        let resumed = past.schedule().resume(&cursor);
        let refused = matches!(resumed, Err(MixtureError::SegmentChanged { segment: 0, .. }));
        prop_assert_eq!(refused, cursor.index().0 > 0);
    }

    #[test]
    fn p7_weight_zero_is_never_drawn_and_caps_hold(plan in plans(), caps in prop::collection::vec(0u64..200, 14)) {
        for draw in draw_all(&plan.schedule()) {
            let segment = &plan.segments[draw.segment];
            prop_assert!(segment.weights_start[draw.source] + segment.weights_end[draw.source] > 0);
        }
        let mut capped = plan.clone();
        for (edition, cap) in capped.sources.iter_mut().zip(&caps) {
            edition.max_windows = Some(*cap);
        }
        let segments = capped.segments.clone();
        let made = MixtureSchedule::new(Seed(plan.seed), capped.sources.clone(), segments);
        let feasible = match made {
            Ok(schedule) => schedule.sequences(),
            Err(MixtureError::CapExceeded { largest_feasible_sequences, .. }) => {
                largest_feasible_sequences
            }
            Err(error) => panic!("{error}"),
        };
        let mut cursor = plan.schedule().cursor_at_start();
        draw(&plan.schedule(), &mut cursor, feasible);
        for (edition, cap) in plan.sources.iter().zip(&caps) {
            prop_assert!(cursor.count(edition.fingerprint) <= *cap);
        }
    }

    #[test]
    fn p8_seeds_change_the_order_and_not_the_counts(mut plan in plans()) {
        let one = draw_all(&plan.schedule());
        plan.seed = plan.seed.wrapping_add(1);
        let two = draw_all(&plan.schedule());
        let sources = |draws: &[Draw]| draws.iter().map(|d| d.source).collect::<Vec<_>>();
        prop_assert_eq!(sources(&one), sources(&two));
        // Twenty draws from long sources agree by chance in fewer than one of 10²⁰ cases.
        let shuffled = one.iter().filter(|d| plan.sources[d.source].windows >= 20).count();
        prop_assert!(one != two || shuffled < 20);
    }

    #[test]
    fn p9_names_and_listing_order_do_not_matter(plan in plans(), turn in 0usize..14) {
        let n = plan.sources.len();
        let mut turned = plan.clone();
        turned.sources.rotate_left(turn % n);
        turned.sources.iter_mut().for_each(|edition| edition.name.push('x'));
        for segment in &mut turned.segments {
            segment.weights_start.rotate_left(turn % n);
            segment.weights_end.rotate_left(turn % n);
        }
        let identity = |plan: &Plan| -> Vec<(Fingerprint, u64)> {
            let draws = draw_all(&plan.schedule()).into_iter();
            draws.map(|d| (plan.sources[d.source].fingerprint, d.window)).collect()
        };
        prop_assert_eq!(identity(&plan), identity(&turned));
        let last = plan.segments.len() - 1;
        prop_assert_eq!(plan.schedule().segment_hash(last), turned.schedule().segment_hash(last));
    }

    #[test]
    fn p10_the_ledger_adds_up(plan in plans(), skips in prop::collection::vec((0u64..50, 1u64..30), 0..5)) {
        let schedule = plan.schedule();
        let (mut cursor, mut journal) = (schedule.cursor_at_start(), Journal::default());
        let mut trained = Vec::new();
        for (ahead, skipped) in skips {
            trained.extend(draw(&schedule, &mut cursor, ahead));
            schedule.skip(&mut cursor, &mut journal, skipped);
        }
        trained.extend(draw(&schedule, &mut cursor, u64::MAX));
        let drawn = draw_all(&schedule);

        for report in schedule.report(&cursor, &journal) {
            prop_assert_eq!(report.sequences, plan.segments[report.segment].sequences);
            for source in &report.sources {
                let own = |d: &&Draw| {
                    d.segment == report.segment && plan.sources[d.source].name == source.source
                };
                prop_assert_eq!(source.sequences, drawn.iter().filter(own).count() as u64);
                prop_assert_eq!(source.trained_sequences, trained.iter().filter(own).count() as u64);
                prop_assert!(source.deviation_sequences.abs() < 1.0);
                let excess = (source.share - source.target_share) * report.sequences as f64;
                prop_assert!((excess - source.deviation_sequences).abs() < 1e-9);
            }
        }
        for (edition, progress) in plan.sources.iter().zip(schedule.progress(&cursor)) {
            prop_assert_eq!(progress.drawn, cursor.count(edition.fingerprint));
            prop_assert_eq!(progress.epoch * edition.windows + progress.drawn_in_epoch, progress.drawn);
        }
        let mut anchors = Anchors::new();
        prop_assert_eq!(anchors.cursor_at(&schedule, schedule.sequences()).unwrap().counts, cursor.counts);

        // A run that goes back to the start with the journal trains on the same sequences.
        let mut again = schedule.cursor_at_start();
        let replayed: Vec<Draw> =
            std::iter::from_fn(|| schedule.next_trained(&mut again, &journal)).collect();
        prop_assert_eq!(replayed, trained);
    }
}

proptest! {
    // Every slot is a random access: a case costs what a hundred of the others do.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn p3_the_stream_knows_nothing_of_batches_or_ranks(
        plan in plans(),
        world in 1u64..5,
        batches in prop::collection::vec(1u64..40, 1..20),
    ) {
        let schedule = plan.schedule();
        let expected = draw_all(&schedule);
        let mut anchors = vec![Anchors::new(); world as usize];
        let (mut flattened, mut start, mut step) = (Vec::new(), 0, 0);
        while start < schedule.sequences() {
            let batch = batches[step % batches.len()].min(schedule.sequences() - start);
            let mut row = vec![None; batch as usize];
            for (rank, own) in (0u64..).zip(&mut anchors) {
                for slot in (rank..batch).step_by(world as usize) {
                    row[slot as usize] = own.at(&schedule, start + slot);
                }
            }
            flattened.extend(row.into_iter().map(Option::unwrap));
            start += batch;
            step += 1;
        }
        prop_assert_eq!(flattened, expected);
    }
}

#[test]
fn p11_the_first_windows_are_spread_evenly() {
    const SHARDS: usize = 100;
    for windows in [50_000u64, (1 << 20) + 1, 1 << 20, 1_000_003, (1 << 26) + 1, 195_312_500] {
        let weights = vec![1];
        let segment = Segment::constant(windows / 100, weights);
        let schedule = MixtureSchedule::new(Seed(5), editions(&[windows]), vec![segment]).unwrap();
        let mut cursor = schedule.cursor_at_start();
        let first: Vec<f64> = draw(&schedule, &mut cursor, 20_000.min(windows / 100))
            .iter()
            .map(|draw| draw.window as f64 / windows as f64)
            .collect();
        let n = first.len() as f64;
        let mut shards = [0.0; SHARDS];
        first.iter().for_each(|x| shards[(x * SHARDS as f64) as usize] += 1.0);
        let expected = n / SHARDS as f64;
        let chi_square: f64 = shards.iter().map(|seen| (seen - expected).powi(2) / expected).sum();
        // 99 degrees of freedom: 99.9999 % of random orders are below 183.
        assert!(chi_square < 183.0, "{windows}: {chi_square}");
        let mean = first.iter().sum::<f64>() / n;
        let variance = first.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        for lag in [1, 2, 4, 8] {
            let products = first.iter().zip(&first[lag..]).map(|(a, b)| (a - mean) * (b - mean));
            let correlation = products.sum::<f64>() / n / variance;
            assert!(correlation.abs() < 5.0 / n.sqrt(), "{windows}, lag {lag}: {correlation}");
        }
    }
}

// A change here re-orders the data of every run that resumes: it needs a new ALGORITHM.
#[test]
fn the_stream_is_pinned() {
    let segments = vec![
        Segment::constant(20, vec![7, 2, 1]),
        Segment::linear(12, vec![7, 2, 1], vec![0, 1, 4]),
    ];
    let schedule = MixtureSchedule::new(Seed(17), editions(&[9, 5, 3]), segments).unwrap();
    let draws: Vec<(usize, u64, u64)> =
        draw_all(&schedule).iter().map(|d| (d.source, d.window, d.epoch)).collect();
    assert_eq!(draws, PINNED);
    assert_eq!(schedule.segment_hash(1).short(), PINNED_HASH);
}

const PINNED_HASH: &str = "79baaf0cf3a5";
#[rustfmt::skip]
const PINNED: [(usize, u64, u64); 32] = [
    (0, 5, 0), (0, 4, 0), (1, 3, 0), (0, 1, 0), (0, 3, 0), (2, 1, 0), (0, 8, 0), (1, 0, 0),
    (0, 0, 0), (0, 6, 0), (0, 2, 0), (0, 7, 0), (1, 1, 0), (0, 0, 1), (0, 8, 1), (2, 0, 0),
    (0, 5, 1), (1, 4, 0), (0, 3, 1), (0, 6, 1), (0, 1, 1), (0, 7, 1), (2, 2, 0), (1, 2, 0),
    (0, 2, 1), (2, 2, 1), (1, 4, 1), (2, 1, 1), (0, 4, 1), (2, 0, 1), (2, 1, 2), (2, 2, 2),
];

/// A swap to another mix and back, wherever it happens: no window of a source comes twice before
/// all have come, and none is left out.
#[test]
fn swapped_there_and_back_no_window_is_repeated_or_lost() {
    let mix = |sequences, weights: [u64; 2]| Segment::constant(sequences, weights.to_vec());
    let (a, b) = ([3, 1], [1, 4]);
    let plan = |segments| MixtureSchedule::new(Seed(3), editions(&[40, 24]), segments).unwrap();
    let begun = plan(vec![mix(96, a)]);
    for (first, second) in [(1, 1), (17, 8), (40, 1), (7, 80)] {
        let mut cursor = begun.cursor_at_start();
        let mut draws = draw(&begun, &mut cursor, first);
        let mut past = begun.past_segments(&cursor);
        past.push(mix(96 - first, b));
        let there = plan(past);
        let mut cursor = there.resume(&cursor).unwrap();
        draws.extend(draw(&there, &mut cursor, second));
        let mut past = there.past_segments(&cursor);
        past.push(mix(96 - first - second, a));
        let back = plan(past);
        let mut cursor = back.resume(&cursor).unwrap();
        assert_eq!(back.upcoming(&cursor, &Journal::default()), (2, 96 - first - second));
        draws.extend(std::iter::from_fn(|| back.next(&mut cursor)));
        assert_eq!(draws.len(), 96);
        for (index, draw) in draws.iter().enumerate() {
            assert_eq!(draw.index.0, index as u64);
        }
        for source in 0..2 {
            let own: Vec<_> = draws.iter().filter(|draw| draw.source == source).collect();
            let cursors: Vec<u64> = own.iter().map(|draw| draw.cursor).collect();
            assert_eq!(cursors, (0..own.len() as u64).collect::<Vec<_>>());
            for epoch in own.chunk_by(|one, next| one.epoch == next.epoch) {
                let mut windows: Vec<u64> = epoch.iter().map(|draw| draw.window).collect();
                windows.sort_unstable();
                windows.dedup();
                assert_eq!(windows.len(), epoch.len(), "a window came twice in one epoch");
            }
        }
    }
}

#[test]
fn what_is_upcoming_counts_what_is_passed_over() {
    let segments = vec![Segment::constant(10, vec![1]), Segment::constant(5, vec![1])];
    let schedule = MixtureSchedule::new(Seed(1), editions(&[50]), segments).unwrap();
    let mut journal = Journal::default();
    let mut cursor = schedule.cursor_at_start();
    assert_eq!(schedule.upcoming(&cursor, &journal), (0, 10));
    draw(&schedule, &mut cursor, 6);
    let before = cursor.clone();
    schedule.skip(&mut cursor, &mut journal, 2);
    assert_eq!(schedule.upcoming(&before, &journal), (0, 2));
    schedule.skip(&mut cursor, &mut journal, 2);
    // The rest of the segment is passed over: the next is drawn from the one behind it.
    assert_eq!(schedule.upcoming(&before, &journal), (1, 5));
    assert_eq!(before.index().0, 6);
    draw(&schedule, &mut cursor, 5);
    assert_eq!(schedule.upcoming(&cursor, &journal), (1, 0));
}
