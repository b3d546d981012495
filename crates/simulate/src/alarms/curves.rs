//! Simulated loss curves whose truth is known.

use serde::{Deserialize, Serialize};
use terrace_base::{Seed, SeedStream};

/// Steps of a stage.
pub(super) const STAGE_STEPS: u64 = 6000;
/// The descent that counts as a plateau, in nats per step.
pub(super) const DELTA: f64 = 1e-5;
/// Standard deviations of one step's loss, in nats.
pub const NOISE_SD: [f64; 4] = [0.005, 0.01, 0.02, 0.05];
/// The descent of a curve that never becomes flat, over [`DELTA`]: the hardest to leave alone.
const STEADY: f64 = 1.05;
/// How often a step of a curve with spikes is one.
const SPIKE_CHANCE: f64 = 0.002;

/// How the noise of neighbouring steps hangs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseClass {
    /// Not at all.
    White,
    /// Up to half of the variance is autoregressive of order one, with a coefficient up to 0.9.
    Autoregressive,
}

/// The noise-free loss.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// `a (1 + t/τ)^-p`
    Power { a: f64, tau: f64, p: f64 },
    /// `a exp(-t/τ)`
    Exponential { a: f64, tau: f64 },
    /// Down by so much at each step, for ever.
    Line { descent: f64 },
}

impl Shape {
    fn at(self, t: f64) -> f64 {
        match self {
            Self::Power { a, tau, p } => a * (1.0 + t / tau).powf(-p),
            Self::Exponential { a, tau } => a * (-t / tau).exp(),
            Self::Line { descent } => -descent * t,
        }
    }

    /// The step from which on the descent is below delta; none for a line.
    fn flat_from(self) -> Option<f64> {
        match self {
            Self::Power { a, tau, p } => {
                Some(tau * ((a * p / (tau * DELTA)).powf(1.0 / (p + 1.0)) - 1.0))
            }
            Self::Exponential { a, tau } => Some(tau * (a / (tau * DELTA)).ln()),
            Self::Line { .. } => None,
        }
    }
}

/// One curve, of one stage or two.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// The last one is the one that may become flat.
    shapes: Vec<Shape>,
    /// By how much the loss jumps where the second stage begins.
    jump: f64,
    pub(super) sd: f64,
    share: f64,
    phi: f64,
    spikes: bool,
    stream: SeedStream,
}

impl Curve {
    /// The curve numbered `index` of a class. Standard deviations, shapes and disturbances take turns,
    /// so that every combination is there equally often.
    pub(super) fn new(seed: Seed, class: NoiseClass, index: u64) -> Self {
        let stream = seed.stream(&format!("curve/{class:?}/{index}"));
        let draw =
            |place: u64, low: f64, high: f64| low + (high - low) * stream.substream(1).unit(place);
        let sd = NOISE_SD[(index % 4) as usize];
        let (share, phi) = match class {
            NoiseClass::White => (0.0, 0.0),
            NoiseClass::Autoregressive => (draw(0, 0.0, 0.5), draw(1, 0.0, 0.9)),
        };
        let disturbance = index / 16 % 4;
        let last = shape(index / 4 % 4, stream.substream(2));
        let shapes = match disturbance {
            // A stage that improves to its end, then another one.
            3 => vec![Shape::Line { descent: 2.0 * DELTA }, last],
            _ => vec![last],
        };
        Self {
            shapes,
            jump: draw(2, 0.05, 0.5),
            sd,
            share,
            phi,
            spikes: disturbance == 1,
            stream: stream.substream(3),
        }
    }

    /// Stages in the curve.
    pub(super) fn stages(&self) -> u64 {
        self.shapes.len() as u64
    }

    /// The step, over all stages, from which on the descent is below delta.
    pub(super) fn flat_from(&self) -> Option<u64> {
        let last = self.shapes.last().expect("a curve has a shape");
        let before = (self.stages() - 1) * STAGE_STEPS;
        last.flat_from().map(|t| before + t.max(0.0).ceil() as u64)
    }

    /// The standard deviation that a mean over many steps has, times the root of their number.
    pub(super) fn long_run_sd(&self) -> f64 {
        let widening = (1.0 + self.phi) / (1.0 - self.phi);
        self.sd * (1.0 - self.share + self.share * widening).sqrt()
    }

    /// The losses of all steps.
    pub(super) fn losses(&self) -> Vec<f64> {
        let (mut memory, kept) = (self.stream.normal(u64::MAX / 4), self.phi);
        let innovation = (1.0 - kept * kept).sqrt();
        (0..self.stages() * STAGE_STEPS)
            .map(|step| {
                let (stage, t) = ((step / STAGE_STEPS) as usize, (step % STAGE_STEPS) as f64);
                memory = kept * memory + innovation * self.stream.normal(4 * step);
                let white = self.stream.normal(4 * step + 1);
                let noise = self.share.sqrt() * memory + (1.0 - self.share).sqrt() * white;
                let spike = self.spikes && self.stream.unit(8 * step + 4) < SPIKE_CHANCE;
                let height = if spike { 0.1 + self.stream.unit(8 * step + 5) } else { 0.0 };
                let jump = if stage > 0 { self.jump } else { 0.0 };
                2.0 + self.shapes[stage].at(t) + jump + self.sd * noise + height
            })
            .collect()
    }
}

/// A power law, an exponential, one that is soon flat, or a line; all but the line become flat between a
/// twentieth and seven tenths of the stage.
fn shape(kind: u64, stream: SeedStream) -> Shape {
    if kind == 3 {
        return Shape::Line { descent: STEADY * DELTA };
    }
    let (low, high) = if kind == 2 { (0.05, 0.2) } else { (0.2, 0.7) };
    let steps = STAGE_STEPS as f64;
    for attempt in 0.. {
        let draw =
            |place: u64, low: f64, high: f64| low + (high - low) * stream.unit(4 * attempt + place);
        let a = draw(0, 0.02, 0.5);
        let found = if kind == 0 {
            Shape::Power { a, tau: draw(1, 20.0, 500.0), p: draw(2, 0.3, 1.5) }
        } else {
            Shape::Exponential { a, tau: draw(1, 50.0, 1500.0) }
        };
        let share = found.flat_from().expect("it becomes flat") / steps;
        if (low..high).contains(&share) {
            return found;
        }
    }
    unreachable!("some attempt fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_flat_from_where_it_says() {
        let mut flat = 0;
        for index in 0..256 {
            let curve = Curve::new(Seed(1), NoiseClass::Autoregressive, index);
            let shape = *curve.shapes.last().unwrap();
            let descent = |t: f64| shape.at(t - 0.5) - shape.at(t + 0.5);
            if let Some(from) = shape.flat_from() {
                assert!(descent(from - 20.0) > DELTA && descent(from + 20.0) < DELTA, "{index}");
                flat += 1;
            } else {
                assert!(descent(5000.0) > DELTA);
            }
        }
        assert_eq!(flat, 192, "a quarter of the curves never becomes flat");
    }

    #[test]
    fn the_noise_has_its_deviation_and_its_memory() {
        let mut curve = Curve::new(Seed(2), NoiseClass::Autoregressive, 13);
        (curve.share, curve.phi, curve.sd, curve.spikes) = (0.5, 0.9, 0.02, false);
        curve.shapes = vec![Shape::Line { descent: 0.0 }; 8];
        curve.jump = 0.0;
        let losses = curve.losses();
        let count = losses.len() as f64;
        let mean = losses.iter().sum::<f64>() / count;
        let variance = losses.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let lagged: f64 = losses.windows(2).map(|p| (p[0] - mean) * (p[1] - mean)).sum();
        assert!((variance.sqrt() / 0.02 - 1.0).abs() < 0.05, "{}", variance.sqrt());
        assert!((lagged / count / variance - 0.45).abs() < 0.05);
    }
}
