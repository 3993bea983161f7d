//! Feature maps `[B, H, W, C]` in strips of rows, each in its own buffer. A convolution gets its halo rows from the
//! neighbouring strips, and a norm reads all strips, so results equal those of the whole feature map with smaller buffers. A
//! feature map that fits one buffer is one strip and is not copied.

use std::collections::VecDeque;

use burn::tensor::Tensor;

/// Bytes of one f32.
const F32_BYTES: u64 = 4;
/// Strips per buffer limit: a strip's inputs and outputs are live beside it.
const STRIPS_PER_LIMIT: u64 = 4;
/// Neighbouring rows that a 3×3 convolution reads.
const HALO: usize = 1;

/// Rows of a feature map, and the partial moments of every four channels if the kernel that computed them wrote some.
#[derive(Clone)]
pub(super) struct Strip {
    pub(super) rows: Tensor<4>,
    pub(super) moments: Option<Tensor<4>>,
}

impl From<Tensor<4>> for Strip {
    fn from(rows: Tensor<4>) -> Self {
        Self { rows, moments: None }
    }
}

/// A feature map in strips. `limit_bytes` bounds the buffers of what is computed from it.
#[derive(Clone)]
pub(super) struct Strips {
    strips: VecDeque<Strip>,
    /// Rows above the first strip that have been dropped.
    dropped: usize,
    limit_bytes: u64,
}

/// A range of rows of a feature map of `height` rows, with its halo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowRange {
    from: usize,
    to: usize,
    height: usize,
}

impl RowRange {
    pub(crate) fn top(self) -> usize {
        self.from.saturating_sub(HALO)
    }

    pub(crate) fn bottom(self) -> usize {
        (self.to + HALO).min(self.height)
    }

    pub(crate) fn rows(self) -> usize {
        self.to - self.from
    }

    /// Returns y without its halo rows; y has `scale` rows per input row. Partial moments are valid for all rows only, so
    /// cropping drops them.
    pub(super) fn crop_halo(self, y: impl Into<Strip>, scale: usize) -> Strip {
        let (y, start, rows) = (y.into(), scale * (self.from - self.top()), scale * self.rows());
        if y.rows.dims()[1] == rows { y } else { y.rows.narrow(1, start, rows).into() }
    }
}

/// Returns the row ranges in which a feature map of `height` rows is computed when its widest tensor has `row_bytes` a row.
pub(crate) fn row_ranges(height: usize, row_bytes: u64, limit_bytes: u64) -> impl Iterator<Item = RowRange> {
    let fits = height as u64 * row_bytes <= limit_bytes;
    let rows = (limit_bytes / STRIPS_PER_LIMIT / row_bytes) as usize;
    let rows = if fits { height } else { rows.saturating_sub(2 * HALO).max(1) };
    (0..height).step_by(rows).map(move |from| RowRange { from, to: (from + rows).min(height), height })
}

impl Strips {
    /// Wraps x as one strip.
    pub(super) fn whole(x: impl Into<Strip>) -> Self {
        Self { strips: VecDeque::from([x.into()]), dropped: 0, limit_bytes: u64::MAX }
    }

    /// Limits the buffers of what is computed from this feature map to `limit_bytes`.
    pub(super) fn with_limit(self, limit_bytes: u64) -> Self {
        Self { limit_bytes, ..self }
    }

    /// Returns a feature map without rows and with the same limit.
    pub(super) fn empty_like(&self) -> Self {
        Self { strips: VecDeque::new(), dropped: 0, limit_bytes: self.limit_bytes }
    }

    pub(super) fn push(&mut self, strip: Strip) {
        self.strips.push_back(strip);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Strip> {
        self.strips.iter()
    }

    /// Concatenates all strips.
    pub(super) fn concat(self) -> Tensor<4> {
        concat_rows(self.strips.into_iter().map(|strip| strip.rows).collect())
    }

    /// Calls `compute` with the rows of each range and its halo. `widest` is the number of channels of the widest tensor
    /// that `compute` makes, per input pixel.
    pub(super) fn for_each_range(mut self, widest: usize, mut compute: impl FnMut(Tensor<4>, RowRange)) {
        let [b, _, w, _] = self.strips[0].rows.dims();
        let row_bytes = (b * w * widest) as u64 * F32_BYTES;
        let height = self.strips.iter().map(|strip| strip.rows.dims()[1]).sum();
        for range in row_ranges(height, row_bytes, self.limit_bytes) {
            let rows = self.take_rows(range);
            compute(rows, range);
        }
    }

    /// Returns the rows of a range with its halo, and drops the strips that no later range reads.
    pub(super) fn take_rows(&mut self, range: RowRange) -> Tensor<4> {
        let mut found = Vec::new();
        let mut first = self.dropped;
        for Strip { rows: tensor, .. } in &self.strips {
            let rows = tensor.dims()[1];
            let (start, end) = (range.top().max(first), range.bottom().min(first + rows));
            if start < end {
                let all = end - start == rows;
                let tensor = tensor.clone();
                found.push(if all { tensor } else { tensor.narrow(1, start - first, end - start) });
            }
            first += rows;
        }
        let next = RowRange { from: range.to, to: range.height, ..range };
        while self.strips.front().is_some_and(|front| self.dropped + front.rows.dims()[1] <= next.top()) {
            self.dropped += self.strips.pop_front().map_or(0, |front| front.rows.dims()[1]);
        }
        concat_rows(found)
    }
}

fn concat_rows(mut parts: Vec<Tensor<4>>) -> Tensor<4> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_contiguous_and_no_buffer_exceeds_the_limit() {
        for (height, row_bytes, limit_bytes) in [(1, 4, 64), (31, 4, 64), (16, 4, 64), (17, 4, 64), (5, 64, 64)] {
            let ranges: Vec<RowRange> = row_ranges(height, row_bytes, limit_bytes).collect();
            assert_eq!((ranges[0].from, ranges[ranges.len() - 1].to), (0, height));
            assert!(ranges.windows(2).all(|pair| pair[0].to == pair[1].from), "{ranges:?}");
            let rows = |range: &RowRange| (range.bottom() - range.top()) as u64;
            // A row wider than the limit is still computed, with its halo.
            let most = limit_bytes.max(3 * row_bytes);
            assert!(ranges.iter().all(|range| rows(range) * row_bytes <= most), "{ranges:?}");
        }
    }
}
