//! Where the time of a step goes, and how near it comes to what its products would take alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::commands::bench::peaks;
use crate::shares::{Share, Shares};
use crate::table::Table;

/// The span in which the threads of the pool work on tiles of attention.
const WAITING: &str = "scores";

/// The shares of the operations of a step, measured on steps of their own.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Operations {
    /// The mean of the steps that were listened to.
    seconds_per_step: f64,
    /// By share, the largest first; `rest` is what no span says.
    shares: Vec<Operation>,
    /// The matrix products together.
    products: Products,
    /// How long the products that were made would take at the peak.
    ceiling_seconds: f64,
    /// That, divided by the time of a step that nobody listened to.
    of_ceiling: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Operation {
    name: String,
    seconds: f64,
    share: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Products {
    seconds: f64,
    share: f64,
    /// What was made, recomputed products and what tiles make beyond the causal half included.
    flops: u64,
    flops_per_second: f64,
    /// Of the fastest square product on this machine in this process.
    peak_flops_per_second: f64,
    efficiency: f64,
}

impl Operations {
    /// Listens to `steps` steps; `undisturbed` is the time of one that nobody listens to.
    pub(super) fn measure<E>(
        shares: &Shares,
        steps: usize,
        undisturbed: f64,
        mut step: impl FnMut() -> Result<(), E>,
    ) -> Result<Self, E> {
        let threads = rayon::current_num_threads();
        let begin = std::time::Instant::now();
        let (done, spent) = shares.of(threads, WAITING, || (0..steps).try_for_each(|_| step()));
        done?;
        let seconds = begin.elapsed().as_secs_f64() / steps as f64;
        Ok(Self::new(&spent, steps, seconds, undisturbed, peaks::products()))
    }

    fn new(
        spent: &BTreeMap<String, Share>,
        steps: usize,
        seconds_per_step: f64,
        undisturbed: f64,
        peak: f64,
    ) -> Self {
        let per_step = |share: &Share| share.seconds / steps as f64;
        let mut shares: Vec<Operation> = spent
            .iter()
            .map(|(name, share)| (name.clone(), per_step(share)))
            .chain([(
                "rest".to_owned(),
                seconds_per_step - spent.values().map(per_step).sum::<f64>(),
            )])
            .map(|(name, seconds)| Operation { name, seconds, share: seconds / seconds_per_step })
            .collect();
        shares.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let products = spent.values().filter(|share| share.operations > 0);
        let (seconds, flops) = products.fold((0.0, 0), |(seconds, flops), share| {
            (seconds + per_step(share), flops + share.operations / steps as u64)
        });
        let speed = flops as f64 / seconds;
        let ceiling_seconds = flops as f64 / peak;
        let products = Products {
            seconds,
            share: seconds / seconds_per_step,
            flops,
            flops_per_second: speed,
            peak_flops_per_second: peak,
            efficiency: speed / peak,
        };
        let of_ceiling = ceiling_seconds / undisturbed;
        Self { seconds_per_step, shares, products, ceiling_seconds, of_ceiling }
    }

    pub(super) fn render(&self) -> String {
        let mut table = Table::new(["operation", "ms/step", "share"]);
        for Operation { name, seconds, share } in self.shares.iter().filter(|o| o.share >= 5e-4) {
            let row =
                [name.clone(), format!("{:.2}", seconds * 1e3), format!("{:.1} %", share * 100.0)];
            table.row(row);
        }
        let Products { share, flops_per_second, peak_flops_per_second, efficiency, .. } =
            self.products;
        format!(
            "{}products: {:.1} % of the step at {:.1} GFLOP/s, {efficiency:.2} of the {:.1} of the fastest square \
             product\nceiling: {:.3} s per step if there were only products, at that speed; {:.2} of it is reached\n",
            table.render(),
            share * 100.0,
            flops_per_second / 1e9,
            peak_flops_per_second / 1e9,
            self.ceiling_seconds,
            self.of_ceiling,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_rest_make_a_step() {
        let share = |seconds, operations| Share { seconds, operations };
        let spent = BTreeMap::from([
            ("norm".to_owned(), share(1.0, 0)),
            ("product".to_owned(), share(4.0, 800)),
            ("scores: product".to_owned(), share(2.0, 200)),
        ]);
        let found = Operations::new(&spent, 2, 4.0, 3.0, 500.0);
        let order: Vec<&str> = found.shares.iter().map(|o| o.name.as_str()).collect();
        assert_eq!(order, ["product", "scores: product", "norm", "rest"]);
        assert_eq!(found.shares.iter().map(|o| o.share).sum::<f64>(), 1.0);
        assert_eq!((found.products.seconds, found.products.flops), (3.0, 500));
        assert_eq!(found.products.efficiency, 500.0 / 3.0 / 500.0);
        assert_eq!((found.ceiling_seconds, found.of_ceiling), (1.0, 1.0 / 3.0));
    }
}
