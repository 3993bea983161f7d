//! Matrices that stay in the file they are in, which the operating system keeps in memory: nothing is copied, and what is
//! not used can be dropped and read again.

use std::ops::Range;
use std::sync::Arc;

use half::bf16;

use crate::Precision;

/// Bytes of a file in memory.
#[derive(Clone)]
pub struct Mapped {
    pub file: Arc<dyn AsRef<[u8]> + Send + Sync>,
    pub range: Range<usize>,
}

impl Mapped {
    fn bytes(&self) -> &[u8] {
        &(*self.file).as_ref()[self.range.clone()]
    }
}

/// Where the columns of several maps lie in the one matrix they make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    SideBySide,
    /// Four columns of each in turn.
    InTurnsOfFour,
}

/// A matrix `[inputs, outputs]` of maps that are stored as `[outputs, inputs]` each, in f32 or bf16, little endian.
#[derive(Clone)]
pub struct Rows {
    maps: Vec<Mapped>,
    order: Order,
    /// Of each map: inputs and outputs.
    shape: [usize; 2],
    precision: Precision,
}

impl Rows {
    /// # Panics
    /// Where a map does not have the shape, or the precision is another.
    #[must_use]
    pub fn new(maps: Vec<Mapped>, order: Order, shape: [usize; 2], precision: Precision) -> Self {
        let [inputs, outputs] = shape;
        assert!(matches!(precision, Precision::F32 | Precision::Bf16), "rows of {precision:?}");
        let bytes = precision.bytes(inputs, outputs);
        assert!(maps.iter().all(|map| map.bytes().len() == bytes), "maps of {bytes} bytes");
        Self { maps, order, shape, precision }
    }

    /// Inputs and outputs of the whole.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        let [inputs, outputs] = self.shape;
        [inputs, outputs * self.maps.len()]
    }

    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The bytes of some inputs of a column.
    #[must_use]
    pub fn column(&self, column: usize, inputs: Range<usize>) -> &[u8] {
        let ([k, outputs], maps) = (self.shape, self.maps.len());
        let (map, row) = match self.order {
            Order::SideBySide => (column / outputs, column % outputs),
            Order::InTurnsOfFour => (column / 4 % maps, column / (4 * maps) * 4 + column % 4),
        };
        let each = self.precision.bits() / 8;
        &self.maps[map].bytes()[(row * k + inputs.start) * each..(row * k + inputs.end) * each]
    }

    /// The values `[inputs, outputs]`.
    #[must_use]
    pub fn values(&self) -> Vec<f32> {
        let [inputs, outputs] = self.shape();
        let mut values = vec![0.0; inputs * outputs];
        for column in 0..outputs {
            let bytes = self.column(column, 0..inputs);
            let number = |input: usize| match self.precision {
                Precision::F32 => f32::from_le_bytes(bytes.as_chunks().0[input]),
                _ => bf16::from_le_bytes(bytes.as_chunks().0[input]).to_f32(),
            };
            (0..inputs).for_each(|input| values[input * outputs + column] = number(input));
        }
        values
    }

    /// The map, the place in it and the value of a number that is not finite. All of the file is read for it.
    pub(crate) fn not_finite(&self) -> Option<(usize, usize, f32)> {
        self.maps.iter().enumerate().find_map(|(map, mapped)| {
            let (index, value) = match self.precision {
                Precision::F32 => infinite(mapped.bytes(), f32::from_le_bytes),
                _ => infinite(mapped.bytes(), |bytes| bf16::from_le_bytes(bytes).to_f32()),
            }?;
            Some((map, index, value))
        })
    }
}

fn infinite<const BYTES: usize>(bytes: &[u8], number: impl Fn([u8; BYTES]) -> f32) -> Option<(usize, f32)> {
    // Long runs are judged without a branch; the run of the culprit is looked through.
    const RUN: usize = 4096;
    let numbers = bytes.as_chunks::<BYTES>().0;
    let run = numbers.chunks(RUN).position(|run| {
        run.iter().fold(false, |any, bytes| any | (number(*bytes).to_bits() & 0x7f80_0000 == 0x7f80_0000))
    })?;
    let mut values = numbers.iter().map(|bytes| number(*bytes)).enumerate().skip(run * RUN);
    values.find(|(_, value)| !value.is_finite())
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} maps {:?} of {:?}, {:?}", self.maps.len(), self.shape, self.precision, self.order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Packed;

    fn mapped(values: &[f32], precision: Precision) -> Mapped {
        let bytes: Vec<u8> = match precision {
            Precision::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        };
        // A file has other bytes before.
        let file = [vec![7; 3], bytes].concat();
        Mapped { range: 3..file.len(), file: Arc::new(file) }
    }

    #[test]
    fn they_stand_for_what_the_packed_maps_do() {
        let ([inputs, outputs], numbers) = ([12, 8], |seed: usize| -> Vec<f32> {
            (0..96).map(|i| ((i * 37 + seed * 11) % 64) as f32 / 4.0 - 8.0).collect()
        });
        for precision in [Precision::F32, Precision::Bf16] {
            let maps = [numbers(1), numbers(2)];
            let packed = maps
                .each_ref()
                .map(|map| Packed::new(&crate::transposed(map, outputs, inputs), [inputs, outputs], precision));
            for (order, want) in [
                (Order::SideBySide, Packed::side_by_side(&packed)),
                (Order::InTurnsOfFour, Packed::in_turns_of_four(&packed)),
            ] {
                let stored = maps.iter().map(|map| mapped(map, precision)).collect();
                let rows = Rows::new(stored, order, [inputs, outputs], precision);
                assert_eq!((rows.shape(), rows.values()), (want.shape, want.values()), "{precision:?} {order:?}");
                assert_eq!(rows.not_finite(), None);
            }
        }
    }

    #[test]
    fn a_number_that_is_not_finite_is_found() {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut values = vec![1.0; 9000];
            let good = mapped(&values, precision);
            values[8191] = f32::NEG_INFINITY;
            let rows = Rows::new(vec![good, mapped(&values, precision)], Order::SideBySide, [90, 100], precision);
            assert_eq!(rows.not_finite(), Some((1, 8191, f32::NEG_INFINITY)));
        }
    }
}
