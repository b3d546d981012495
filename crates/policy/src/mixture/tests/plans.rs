//! Plans at the edge of what makes sense, and beyond it.

use super::*;

#[test]
fn only_ratios_of_weights_matter() {
    let schedule = |weights: [Vec<u64>; 2]| {
        let [start, end] = weights;
        let segments = vec![Segment::linear(100, start, end)];
        MixtureSchedule::new(Seed(1), editions(&[50, 50]), segments).unwrap()
    };
    let one = schedule([vec![1, 2], vec![2, 1]]);
    let two = schedule([vec![100, 200], vec![4, 2]]);
    assert_eq!(draw_all(&one), draw_all(&two));
    assert_eq!(one.segment_hash(0), two.segment_hash(0));
}

#[test]
fn a_cap_error_states_the_largest_feasible_budget() {
    let mut sources = editions(&[100, 1000]);
    sources[0].max_windows = Some(250);
    let plan = |sequences| vec![Segment::constant(sequences, vec![1, 3])];
    let error = MixtureSchedule::new(Seed(1), sources.clone(), plan(2000)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the run of 2000 sequences exceeds the caps of `source-0` (needs 500 windows, may 250); \
         the largest feasible budget is 1000 sequences"
    );
    assert!(MixtureSchedule::new(Seed(1), sources.clone(), plan(1000)).is_ok());
    assert!(MixtureSchedule::new(Seed(1), sources, plan(1001)).is_err());
}

#[test]
fn a_run_of_trillions_is_counted_in_64_bits() {
    let sequences = 400_000_000_000;
    let segments = vec![
        Segment::linear(
            sequences,
            vec![700_000_000, 299_999_999, 1],
            vec![1, 499_999_999, 500_000_000],
        ),
        Segment::constant(sequences, vec![5, 0, 0]),
    ];
    let sources = editions(&[u64::from(u32::MAX) + 17, 3, 1 << 40]);
    let schedule = MixtureSchedule::new(Seed(1), sources, segments.clone()).unwrap();
    assert_eq!(schedule.sequences(), 2 * sequences);
    assert_eq!(schedule.planned_windows(1, 0), sequences);
    let mut cursor = schedule.cursor_at_start();
    // Half-way through the ramp, with the counts that the quotas ask for there.
    let owed = [0, 1, 2].map(|s| {
        let place = schedule.given_order()[s];
        schedule.rules[0].quota(place).unwrap().ceiling(sequences / 2)
    });
    cursor.index = owed.iter().sum();
    for (source, owed) in owed.into_iter().enumerate() {
        cursor.counts[schedule.given_order()[source]] = owed;
    }
    let first = cursor.index;
    for draw in draw(&schedule, &mut cursor, 1000) {
        assert!(draw.index.0 >= first && draw.segment == 0);
    }
    for source in &schedule.report(&cursor, &Journal::default())[0].sources {
        // The start was up to two sequences ahead of its quota.
        assert!(source.deviation_sequences.abs() < 3.0, "{source:?}");
    }
}

#[test]
fn a_cursor_that_does_not_belong_here_is_refused() {
    let segments = vec![Segment::constant(10, vec![1, 1]), Segment::constant(10, vec![1, 2])];
    let schedule = |seed, s: &[Segment]| {
        MixtureSchedule::new(Seed(seed), editions(&[8, 8]), s.to_vec()).unwrap()
    };
    let home = schedule(1, &segments);
    let mut cursor = home.cursor_at_start();
    draw(&home, &mut cursor, 15);

    let refusal =
        |schedule: &MixtureSchedule, cursor: &MixtureCursor| schedule.validate(cursor).unwrap_err();
    let other_seed = refusal(&schedule(2, &segments), &cursor);
    assert!(matches!(other_seed, MixtureError::SegmentChanged { segment: 0, .. }));
    let mut changed = segments.clone();
    changed[1].weights_start = vec![2, 1];
    changed[1].weights_end = vec![2, 1];
    let other_weights = refusal(&schedule(1, &changed), &cursor);
    assert!(matches!(other_weights, MixtureError::SegmentChanged { segment: 1, .. }));
    changed = segments.clone();
    changed[1].sequences = 4;
    let shorter = refusal(&schedule(1, &changed), &cursor);
    assert!(matches!(shorter, MixtureError::SegmentTooShort { segment: 1, drawn: 5, .. }));
    let missing = refusal(&schedule(1, &segments[..1]), &cursor);
    assert!(matches!(missing, MixtureError::SegmentMissing { segment: 1, segments: 1 }));

    let lone = MixtureSchedule::new(Seed(1), editions(&[8]), vec![Segment::constant(9, vec![1])]);
    let mut emptied = home.cursor_at_start();
    emptied.counts[0] += 1;
    assert!(matches!(refusal(&home, &emptied), MixtureError::Damaged { .. }));
    emptied.algorithm += 1;
    assert!(matches!(refusal(&home, &emptied), MixtureError::Algorithm { .. }));
    assert!(lone.unwrap().validate(&cursor).is_err());
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    let plan = |windows: &[u64], segments: Vec<Segment>| {
        MixtureSchedule::new(Seed(1), editions(windows), segments).unwrap_err()
    };
    let even = || vec![Segment::constant(10, vec![1, 1])];
    assert_eq!(plan(&[], even()), MixtureError::NoSources);
    assert_eq!(plan(&[1, 1], vec![]), MixtureError::NoSegments);
    assert!(matches!(plan(&[1, 0], even()), MixtureError::EmptySource { .. }));
    assert!(matches!(plan(&[1], even()), MixtureError::WeightCount { found: 2, expected: 1, .. }));
    let empty = vec![Segment::constant(0, vec![1])];
    assert_eq!(plan(&[1], empty), MixtureError::EmptySegment { segment: 0 });
    let weightless = vec![Segment::constant(1, vec![0])];
    assert_eq!(plan(&[1], weightless), MixtureError::NoWeight { segment: 0 });
    let mut short = Segment::linear(10, vec![1, 2], vec![2, 1]);
    short.ramp_sequences = 9;
    assert!(matches!(plan(&[1, 1], vec![short]), MixtureError::RampTooShort { .. }));
    let giant = Segment::linear(1 << 40, vec![u64::MAX, 1], vec![1, u64::MAX - 7]);
    assert!(matches!(plan(&[1, 1], vec![giant]), MixtureError::TooLarge { .. }));
    let twice = vec![edition("same", 3), edition("same", 3)];
    let duplicate = MixtureSchedule::new(Seed(1), twice, even()).unwrap_err();
    assert!(matches!(duplicate, MixtureError::DuplicateEdition { .. }));
}
