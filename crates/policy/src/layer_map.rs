//! Which layer of the base each layer of a deeper model is: depth up-scaling without a tensor.

mod initialization;
mod notation;

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use self::initialization::{Initialization, ParseInitializationError};
pub use self::notation::ParseSelectionError;

/// A way of repeating layers.
///
/// # Source
///
/// `Range`: Yi-9B (arXiv 2403.04652, section 7.3), which repeats `[12, 28)` of 32. `Solar`: SOLAR
/// (arXiv 2312.15166). `Stack`: `G_stack` (arXiv 2405.15319). `Interleave`: LLaMA Pro
/// (arXiv 2401.02415). `Slices`: mergekit's passthrough merge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Selection {
    /// `a..b`: the layers `[0, b)` and then `[a, n)`; the copies lie at `[b, 2b - a)`.
    Range(Range<usize>),
    /// `solar m`: all but the last `m` layers, and then all but the first `m`.
    Solar(usize),
    /// `stack g`: the whole stack `g` times.
    Stack(usize),
    /// `interleave k`: after every `k` layers a copy of the last of them.
    Interleave(usize),
    /// `a..b, c..d, ...`: these ranges one after the other.
    Slices(Vec<Range<usize>>),
}

/// Why a selection makes no deeper model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A range ends beyond the last layer.
    #[error("{start}..{end} reaches beyond the model: it has {layers} layers, 0..{layers}")]
    Outside {
        /// The first layer of the range.
        start: usize,
        /// The layer after its last.
        end: usize,
        /// The layers of the base.
        layers: usize,
    },
    /// A range holds nothing.
    #[error("{start}..{end} holds no layer: ranges are half-open, and the end must be greater")]
    Empty {
        /// The first layer of the range.
        start: usize,
        /// The layer after its last.
        end: usize,
    },
    /// A layer of the base would be left out.
    #[error(
        "slice {slice} begins with layer {begins}, but layer {skipped} has not been used: \
         up-scaling keeps every layer, so begin at {skipped} or below"
    )]
    Skipped {
        /// The slice's number, from 1.
        slice: usize,
        /// The first layer of the slice.
        begins: usize,
        /// The layer that would never be run before.
        skipped: usize,
    },
    /// The last slice does not lead to the output head.
    #[error(
        "the last slice ends before layer {end}, but the output head follows layer {}: \
         end it with {layers}", layers - 1
    )]
    HeadCutOff {
        /// The layer after the last slice's last.
        end: usize,
        /// The layers of the base.
        layers: usize,
    },
    /// Nothing is repeated.
    #[error("`{selection}` repeats no layer of a model with {layers}: {remedy}")]
    NothingRepeated {
        /// What was asked for.
        selection: String,
        /// The layers of the base.
        layers: usize,
        /// What would repeat some.
        remedy: String,
    },
    /// The groups of `interleave` do not fill the model.
    #[error("interleave {every}: {layers} layers are no multiple of {every}; {remedy}")]
    Uneven {
        /// The size of a group.
        every: usize,
        /// The layers of the base.
        layers: usize,
        /// What would fit.
        remedy: String,
    },
}

/// One layer of the deeper model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedLayer {
    /// The layer of the base that it is.
    pub source: usize,
    /// Whether a layer below it is the same one of the base.
    pub copy: bool,
}

/// Which layer of the base each layer of the deeper model is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMap {
    source_layers: usize,
    layers: Vec<MappedLayer>,
}

impl LayerMap {
    /// Works out what `selection` makes of a model with `layers` layers.
    ///
    /// # Errors
    ///
    /// A range is empty or outside the model, a layer would be left out, or nothing is repeated.
    pub fn new(layers: usize, selection: &Selection) -> Result<Self, Error> {
        let nothing = |remedy: &str| {
            Err(Error::NothingRepeated {
                selection: selection.to_string(),
                layers,
                remedy: remedy.to_owned(),
            })
        };
        let slices = match selection {
            Selection::Range(range) => {
                check_range(range, layers)?;
                vec![0..range.end, range.start..layers]
            }
            Selection::Solar(drop) if 2 * drop >= layers => {
                return nothing("m must be less than half of the layers");
            }
            Selection::Solar(drop) => vec![0..layers - drop, *drop..layers],
            Selection::Stack(times) if *times < 2 => return nothing("stack at least 2 times"),
            Selection::Stack(times) => vec![0..layers; *times],
            Selection::Interleave(every) => groups(layers, *every)?,
            Selection::Slices(slices) => slices.clone(),
        };
        check_slices(&slices, layers)?;
        let map = Self::of_slices(layers, &slices);
        if map.layers.len() == layers {
            return nothing("name a range that lies in two slices");
        }
        Ok(map)
    }

    /// The layers of the base.
    #[must_use]
    pub fn source_layers(&self) -> usize {
        self.source_layers
    }

    /// The layers of the deeper model, from the bottom up.
    #[must_use]
    pub fn layers(&self) -> &[MappedLayer] {
        &self.layers
    }

    /// The numbers of the layers that are copies.
    pub fn copies(&self) -> impl Iterator<Item = usize> + '_ {
        self.layers.iter().enumerate().filter_map(|(index, layer)| layer.copy.then_some(index))
    }

    /// Each copy with the layer of the deeper model that it is a copy of: the lowest one.
    pub fn twins(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.copies().map(|copy| {
            let source = self.layers[copy].source;
            let original = self.layers.iter().position(|layer| layer.source == source);
            (original.expect("a copy has an original below it"), copy)
        })
    }

    fn of_slices(source_layers: usize, slices: &[Range<usize>]) -> Self {
        let mut used = vec![false; source_layers];
        let layers = slices.iter().cloned().flatten().map(|source| {
            let copy = std::mem::replace(&mut used[source], true);
            MappedLayer { source, copy }
        });
        Self { source_layers, layers: layers.collect() }
    }
}

/// `0..k, k-1..2k, 2k-1..3k, ...`, and after the last group its copy.
fn groups(layers: usize, every: usize) -> Result<Vec<Range<usize>>, Error> {
    if every == 0 || !layers.is_multiple_of(every) {
        let divisors = (1..=layers).filter(|k| layers.is_multiple_of(*k));
        let list: Vec<String> = divisors.map(|k| k.to_string()).collect();
        let remedy = format!("choose one of {}", list.join(", "));
        return Err(Error::Uneven { every, layers, remedy });
    }
    let groups = (0..layers).step_by(every).flat_map(|start| {
        let end = start + every;
        [start..end, end - 1..end]
    });
    Ok(groups.collect())
}

fn check_range(range: &Range<usize>, layers: usize) -> Result<(), Error> {
    let Range { start, end } = *range;
    if start >= end {
        return Err(Error::Empty { start, end });
    }
    if end > layers {
        return Err(Error::Outside { start, end, layers });
    }
    Ok(())
}

fn check_slices(slices: &[Range<usize>], layers: usize) -> Result<(), Error> {
    let mut reached = 0;
    for (index, slice) in slices.iter().enumerate() {
        check_range(slice, layers)?;
        if slice.start > reached {
            return Err(Error::Skipped { slice: index + 1, begins: slice.start, skipped: reached });
        }
        reached = reached.max(slice.end);
    }
    let end = slices.last().map_or(0, |slice| slice.end);
    if end == layers { Ok(()) } else { Err(Error::HeadCutOff { end, layers }) }
}

#[cfg(test)]
mod tests;
