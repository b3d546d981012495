use proptest::prelude::*;

use super::*;

const SHAPES: [DecayShape; 3] = [DecayShape::Linear, DecayShape::Cosine, DecayShape::OneMinusSqrt];

fn decaying(
    warmup: u64,
    [start, budget]: [u64; 2],
    share: f64,
    shape: DecayShape,
    last: f64,
) -> LearningRate {
    let stage = [Tokens(start), Tokens(budget)];
    let decay = Decay::at_the_end_of(stage, share, shape, last).unwrap();
    LearningRate::new(2.0, Tokens(warmup)).unwrap().with_decay(Some(decay))
}

#[test]
fn it_rises_and_stays() {
    let rate = LearningRate::new(3e-5, Tokens(100)).unwrap();
    let at = |seen: u64| rate.at(Tokens(seen), Tokens(10));
    assert!((at(0) - 3e-6).abs() < 1e-18);
    assert!((at(40) - 1.5e-5).abs() < 1e-18);
    assert_eq!([at(90), at(91), at(1_000_000)], [3e-5; 3]);
    assert_eq!(rate.with_peak(1e-4).unwrap().at(Tokens(500), Tokens(1)), 1e-4);
    assert!(!rate.decays(Tokens(u64::MAX)));
}

#[test]
fn without_a_warm_up_it_is_constant() {
    let rate = LearningRate::new(1e-3, Tokens(0)).unwrap();
    assert_eq!(rate.at(Tokens(0), Tokens(8)), 1e-3);
}

#[test]
fn the_shapes_are_those_of_their_formulas() {
    let halves = SHAPES.map(|shape| shape.left(0.25));
    let expected = [0.75, 0.5 + 0.5 * std::f64::consts::FRAC_1_SQRT_2, 0.5];
    for (found, expected) in halves.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-15, "{found} {expected}");
    }
    assert_eq!(SHAPES.map(|shape| shape.left(0.0)), [1.0; 3]);
    assert_eq!(SHAPES.map(|shape| shape.left(1.0)), [0.0; 3]);
}

#[test]
fn a_tenth_of_the_stage_decays_to_the_fraction() {
    // A stage of tokens 1000 to 3000 that falls from 2800 on, to a tenth.
    let rate = decaying(0, [1000, 2000], 0.1, DecayShape::Linear, 0.1);
    let at = |seen: u64| rate.at(Tokens(seen), Tokens(50));
    assert_eq!([at(1000), at(2799), at(2800)], [2.0; 3]);
    assert!((at(2900) - 2.0 * 0.55).abs() < 1e-12);
    assert!((at(3000) - 2.0 * 0.1).abs() < 1e-12);
    let decays = [2799, 2800, 2801].map(|seen| rate.decays(Tokens(seen)));
    assert_eq!(decays, [false, false, true]);
}

#[test]
fn the_last_step_is_not_lost() {
    let rate = decaying(0, [0, 100], 1.0, DecayShape::Linear, 0.0);
    assert!((rate.at(Tokens(90), Tokens(10)) - 0.2).abs() < 1e-12);
    assert_eq!(rate.at(Tokens(100), Tokens(10)), 0.0);
    // The mean over ten steps is that of the line: nothing is lost at either end.
    let sum: f64 = (0..10).map(|step| rate.at(Tokens(10 * step), Tokens(10))).sum();
    assert!((sum / 10.0 - 1.1).abs() < 1e-12);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for peak in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(LearningRate::new(peak, Tokens(0)).is_err());
    }
    let decay = |share, last| Decay::at_the_end_of([Tokens(0), Tokens(9)], share, SHAPES[0], last);
    for share in [0.0, -0.1, 1.1, f64::NAN] {
        assert!(matches!(decay(share, 0.0), Err(LearningRateError::DecayShare { .. })));
    }
    for last in [-0.1, 1.0, f64::NAN] {
        assert!(matches!(decay(0.5, last), Err(LearningRateError::FinalFraction { .. })));
    }
}

prop_compose! {
    fn any_decaying()(
        warmup in 0u64..1000,
        start in 0u64..5000,
        budget in 1u64..5000,
        share in 0.001f64..=1.0,
        shape in prop::sample::select(SHAPES.to_vec()),
        last in 0.0f64..0.99,
    ) -> (LearningRate, [u64; 2], f64) {
        (decaying(warmup, [start, budget], share, shape, last), [start, budget], last)
    }
}

proptest! {
    #[test]
    fn it_never_falls_and_never_is_zero(warmup in 0u64..1000, batches in prop::collection::vec(1u64..100, 1..50)) {
        let rate = LearningRate::new(1.0, Tokens(warmup)).unwrap();
        let (mut seen, mut last) = (0, 0.0);
        for batch in batches {
            let now = rate.at(Tokens(seen), Tokens(batch));
            seen += batch;
            prop_assert!(now > 0.0 && now <= 1.0);
            prop_assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn no_step_of_a_decaying_stage_is_lost_or_negative(
        (rate, [start, budget], _) in any_decaying(),
        batches in prop::collection::vec(1u64..700, 1..50),
    ) {
        let mut seen = start;
        for batch in batches {
            let batch = batch.min(start + budget - seen);
            if batch == 0 {
                break;
            }
            let now = rate.at(Tokens(seen), Tokens(batch));
            prop_assert!(now > 0.0 && now <= rate.peak(), "{now} at {seen}");
            seen += batch;
        }
    }

    #[test]
    fn it_is_the_same_however_the_tokens_are_cut(
        (rate, [start, budget], _) in any_decaying(),
        batches in prop::collection::vec(1u64..300, 1..50),
    ) {
        // The sum of rate times tokens, over any cut of the stage into steps, is that over single
        // tokens but for what the rate moves within a step: it rises once and falls once, by the
        // peak at most, in a step that is no longer than the longest.
        let end = start + budget;
        let sum = |lengths: &mut dyn Iterator<Item = u64>| {
            let (mut seen, mut sum) = (start, 0.0);
            while seen < end {
                let batch = lengths.next().unwrap().min(end - seen);
                sum += rate.at(Tokens(seen), Tokens(batch)) * batch as f64;
                seen += batch;
            }
            sum
        };
        let coarse = sum(&mut batches.iter().copied().cycle());
        let fine = sum(&mut std::iter::repeat(1));
        let longest = *batches.iter().max().unwrap() as f64;
        prop_assert!((coarse - fine).abs() <= 2.0 * rate.peak() * longest, "{coarse} {fine}");
    }

    #[test]
    fn it_comes_back_from_json((rate, [start, budget], _) in any_decaying(), place in 0.0f64..1.0) {
        let read: LearningRate = serde_json::from_str(&serde_json::to_string(&rate).unwrap()).unwrap();
        let seen = Tokens(start + (place * budget as f64) as u64);
        prop_assert_eq!(read.at(seen, Tokens(3)).to_bits(), rate.at(seen, Tokens(3)).to_bits());
        prop_assert_eq!(read.decays(seen), rate.decays(seen));
    }

    #[test]
    fn it_has_no_jumps_and_ends_at_its_fraction(
        shape in prop::sample::select(SHAPES.to_vec()),
        share in 0.01f64..=1.0,
        last in 0.0f64..0.99,
    ) {
        // One token of a trillion moves the rate by no more than the steepest curve does there:
        // 1 - √x falls by the root of one over the tokens of the decay.
        let [start, budget] = [3_000_000_000_000, 1_000_000_000_000];
        let rate = decaying(0, [start, budget], share, shape, last);
        let at = |seen: u64| rate.at(Tokens(seen), Tokens(1)) / rate.peak();
        let edge = start + budget - (share * budget as f64).round() as u64;
        for seen in [edge, edge + 1, edge + budget / 200, start + budget - 1, start + budget] {
            let step = at(seen.saturating_sub(1)) - at(seen);
            prop_assert!((-1e-12..2e-5).contains(&step), "{step} at {seen}");
        }
        prop_assert_eq!(at(edge), 1.0);
        prop_assert!((at(start + budget) - last).abs() < 1e-12);
    }

    #[test]
    fn a_decay_never_rises((rate, [start, budget], last) in any_decaying(), step in 1u64..300) {
        let rate = LearningRate::new(1.0, Tokens(0)).unwrap().with_decay(rate.decay);
        let mut before = f64::INFINITY;
        for seen in (start..=start + budget).step_by(step as usize) {
            let now = rate.at(Tokens(seen), Tokens(1));
            prop_assert!(now <= before && now >= last);
            before = now;
        }
    }
}
