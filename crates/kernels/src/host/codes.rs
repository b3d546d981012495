//! Numbers as bytes: codes of a table, with a scale for each block.

use std::sync::OnceLock;

/// The elements that share a scale.
pub const CODE_BLOCK: usize = 256;

/// A table of 256 numbers, ascending, of magnitudes from about 1e-7 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeTable {
    /// Of both signs.
    Signed,
    /// None below zero, with twice as many in each decade.
    Unsigned,
}

struct Tables {
    values: [f32; 256],
    /// Halfway between a number and the next; the last is above all.
    thresholds: [f32; 256],
    zero: u8,
}

impl CodeTable {
    /// The numbers, ascending.
    ///
    /// # Source
    ///
    /// The dynamic code of Dettmers 2016 (arXiv 1511.04561): of seven decades below 1 each has twice as
    /// many numbers as the one below it, in the middles of equal cells; with 0 and 1 there are 256.
    #[must_use]
    pub fn values(self) -> &'static [f32; 256] {
        &self.tables().values
    }

    /// Halfway between each number and the next, above all for the last.
    #[must_use]
    pub fn thresholds(self) -> &'static [f32; 256] {
        &self.tables().thresholds
    }

    /// The code of zero.
    #[must_use]
    pub fn zero(self) -> u8 {
        self.tables().zero
    }

    fn tables(self) -> &'static Tables {
        static TABLES: [OnceLock<Tables>; 2] = [OnceLock::new(), OnceLock::new()];
        TABLES[self as usize].get_or_init(|| Tables::new(self))
    }

    /// The code of the nearest number, the lower one of two as near.
    ///
    // NUMERICS: what is above zero never becomes zero in the unsigned table, unlike in the paper: a
    // second moment of zero beside a first one that is not would make a step without bound (Li et al.
    // 2023, arXiv 2309.01507, exclude zero for that reason).
    #[must_use]
    pub fn encode(self, value: f32) -> u8 {
        let tables = self.tables();
        let mut code = 0usize;
        for step in [128, 64, 32, 16, 8, 4, 2, 1] {
            let next = code + step;
            code = if value > tables.thresholds[next - 1] { next } else { code };
        }
        match self {
            Self::Unsigned if value > 0.0 => code.max(1) as u8,
            Self::Signed | Self::Unsigned => code as u8,
        }
    }
}

impl Tables {
    fn new(table: CodeTable) -> Self {
        let more = match table {
            CodeTable::Signed => 0,
            CodeTable::Unsigned => 1,
        };
        let mut values = vec![0.0, 1.0];
        for decade in 0..7 {
            let cells = 1 << (decade + more);
            let unit = 10f64.powi(decade - 6);
            for cell in 0..cells {
                let middle = 0.1 + 0.9 * (f64::from(cell) + 0.5) / f64::from(cells);
                values.push((unit * middle) as f32);
                if table == CodeTable::Signed {
                    values.push((-unit * middle) as f32);
                }
            }
        }
        values.sort_by(f32::total_cmp);
        let values: [f32; 256] = values.try_into().expect("seven decades, zero and one");
        let between = |i: usize| match values.get(i + 1) {
            Some(next) => f32::midpoint(values[i], *next),
            None => f32::INFINITY,
        };
        let zero = values.iter().position(|value| *value == 0.0).expect("zero is among them");
        Self { values, thresholds: std::array::from_fn(between), zero: zero as u8 }
    }
}

/// Reads a block.
pub(crate) fn decode_block(table: CodeTable, codes: &[u8], scale: f32, values: &mut [f32]) {
    let numbers = table.values();
    for (value, code) in values.iter_mut().zip(codes) {
        *value = numbers[usize::from(*code)] * scale;
    }
}

/// Writes a block; gives its scale.
pub(crate) fn encode_block(table: CodeTable, values: &[f32], codes: &mut [u8]) -> f32 {
    let scale = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    // Below this, its reciprocal is not finite, and so little is nothing.
    if scale < f32::MIN_POSITIVE {
        codes.fill(table.zero());
        return 0.0;
    }
    let unit = 1.0 / scale;
    for (value, code) in values.iter().zip(codes) {
        *code = table.encode(value * unit);
    }
    scale
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_tables_are_those_of_the_paper() {
        for (table, smallest, zero) in
            [(CodeTable::Signed, 5.5e-7, 127), (CodeTable::Unsigned, 3.25e-7, 0)]
        {
            let values = table.values();
            assert!(values.is_sorted() && values[255] == 1.0);
            assert_eq!(table.zero(), zero);
            let least = values[usize::from(zero) + 1];
            assert!((least / smallest - 1.0).abs() < 1e-6, "{least}");
        }
        // Of the top decade the signed table has 64 numbers, the other 128.
        let top = |table: CodeTable| table.values().iter().filter(|v| **v > 0.1).count() - 1;
        assert_eq!([top(CodeTable::Signed), top(CodeTable::Unsigned)], [64, 128]);
        assert_eq!(CodeTable::Signed.values()[0], -CodeTable::Signed.values()[254]);
    }

    #[test]
    fn every_number_is_its_own_code() {
        for table in [CodeTable::Signed, CodeTable::Unsigned] {
            for (code, value) in table.values().iter().enumerate() {
                assert_eq!(usize::from(table.encode(*value)), code);
            }
        }
    }

    #[test]
    fn only_zero_is_zero_where_a_root_is_divided_by() {
        assert_eq!(CodeTable::Unsigned.encode(1e-30), 1);
        assert_eq!(CodeTable::Unsigned.encode(0.0), 0);
        assert_eq!(CodeTable::Signed.encode(1e-30), CodeTable::Signed.zero());
        let mut codes = [9u8; 2];
        assert_eq!(encode_block(CodeTable::Unsigned, &[0.0, 1e-41], &mut codes), 0.0);
        assert_eq!(codes, [0, 0]);
    }

    proptest! {
        #[test]
        fn the_nearest_number_is_taken(value in -1.0f32..1.0) {
            for (table, value) in [(CodeTable::Signed, value), (CodeTable::Unsigned, value.abs())] {
                let distance = |number: &f32| (number - value).abs();
                let found = distance(&table.values()[usize::from(table.encode(value))]);
                let least = table.values().iter().map(distance).fold(f32::MAX, f32::min);
                // The halfway point is rounded, and tiny second moments stay above zero.
                prop_assert!(found <= least * 1.0001 + 3.3e-7, "{value}: {found} {least}");
            }
        }

        #[test]
        fn a_block_is_written_again_as_it_was_read(
            mut values in prop::collection::vec(-3.0f32..3.0, 1..300)
        ) {
            // The signed table ends at 1 above and short of it below.
            values.push(3.0);
            let mut codes = vec![0; values.len()];
            let scale = encode_block(CodeTable::Signed, &values, &mut codes);
            let mut read = vec![0.0; values.len()];
            decode_block(CodeTable::Signed, &codes, scale, &mut read);
            for (a, b) in values.iter().zip(&read) {
                prop_assert!((a - b).abs() <= 0.0142 * scale / 2.0 * 1.01, "{a} {b} {scale}");
            }
            let mut again = vec![0; values.len()];
            prop_assert_eq!(encode_block(CodeTable::Signed, &read, &mut again), scale);
            prop_assert_eq!(again, codes);
        }
    }
}
