//! A picture in strips: whole rows of `[B, H, W, C]`, from the top, each in a buffer of its own. What reads the rows beside
//! a strip gets them from its neighbours and what reads the whole picture reads all strips, so the numbers are those of the
//! undivided picture; only buffers are smaller. A picture that fits into one buffer is one strip, and nothing is copied.

use std::collections::VecDeque;

use burn::tensor::Tensor;

/// Bytes of a number.
const NUMBER: u64 = 4;
/// A strip takes this part of the largest buffer: what is computed from it, and for it, lives beside it.
const SHARE: u64 = 4;
/// Rows beside a strip that a 3×3 convolution reads.
const HALO: usize = 1;

/// Rows of a picture, and the moments of their fours of channels where what computed them left some.
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

/// Strips of one width; `limit_bytes` is the largest buffer.
#[derive(Clone)]
pub(super) struct Strips {
    parts: VecDeque<Strip>,
    /// Rows above the first part that have been dropped.
    dropped: usize,
    limit_bytes: u64,
}

/// Rows of a picture with those beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    from: usize,
    to: usize,
    /// Of the picture.
    height: usize,
}

impl Part {
    pub(super) fn top(self) -> usize {
        self.from.saturating_sub(HALO)
    }

    pub(super) fn bottom(self) -> usize {
        (self.to + HALO).min(self.height)
    }

    pub(super) fn rows(self) -> usize {
        self.to - self.from
    }

    /// y without the rows that were computed for those beside the part; y has `scale` rows for each of them. Moments are those
    /// of all rows or of none.
    pub(super) fn cut(self, y: impl Into<Strip>, scale: usize) -> Strip {
        let (y, start, rows) = (y.into(), scale * (self.from - self.top()), scale * self.rows());
        if y.rows.dims()[1] == rows { y } else { y.rows.narrow(1, start, rows).into() }
    }
}

/// The parts in which a picture of `height` rows is computed where the widest tensor has `row_bytes` for each of them.
pub(super) fn parts(height: usize, row_bytes: u64, limit_bytes: u64) -> impl Iterator<Item = Part> {
    let fits = height as u64 * row_bytes <= limit_bytes;
    let rows = (limit_bytes / SHARE / row_bytes) as usize;
    let rows = if fits { height } else { rows.saturating_sub(2 * HALO).max(1) };
    (0..height).step_by(rows).map(move |from| Part { from, to: (from + rows).min(height), height })
}

impl Strips {
    /// x as one strip.
    pub(super) fn whole(x: impl Into<Strip>) -> Self {
        Self { parts: VecDeque::from([x.into()]), dropped: 0, limit_bytes: u64::MAX }
    }

    /// The same picture; what is computed from it has buffers of so many bytes at most.
    pub(super) fn within(self, limit_bytes: u64) -> Self {
        Self { limit_bytes, ..self }
    }

    /// A picture that has no rows yet, bounded as this one.
    pub(super) fn begun(&self) -> Self {
        Self { parts: VecDeque::new(), dropped: 0, limit_bytes: self.limit_bytes }
    }

    pub(super) fn push(&mut self, part: Strip) {
        self.parts.push_back(part);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Strip> {
        self.parts.iter()
    }

    /// The undivided picture.
    pub(super) fn joined(self) -> Tensor<4> {
        joined(self.parts.into_iter().map(|part| part.rows).collect())
    }

    /// Gives `work` each part's rows with those beside them. The widest tensor of the work has `widest` numbers for each
    /// number of a row and channel 1.
    pub(super) fn walk(mut self, widest: usize, mut work: impl FnMut(Tensor<4>, Part)) {
        let [b, _, w, _] = self.parts[0].rows.dims();
        let row_bytes = (b * w * widest) as u64 * NUMBER;
        let height = self.parts.iter().map(|part| part.rows.dims()[1]).sum();
        for part in parts(height, row_bytes, self.limit_bytes) {
            let rows = self.take(part);
            work(rows, part);
        }
    }

    /// The rows of a part with those beside them; what lies above all later parts is dropped.
    pub(super) fn take(&mut self, part: Part) -> Tensor<4> {
        let mut found = Vec::new();
        let mut first = self.dropped;
        for Strip { rows: tensor, .. } in &self.parts {
            let rows = tensor.dims()[1];
            let (start, end) = (part.top().max(first), part.bottom().min(first + rows));
            if start < end {
                let all = end - start == rows;
                let tensor = tensor.clone();
                found.push(if all { tensor } else { tensor.narrow(1, start - first, end - start) });
            }
            first += rows;
        }
        let next = Part { from: part.to, to: part.height, ..part };
        while self.parts.front().is_some_and(|front| self.dropped + front.rows.dims()[1] <= next.top()) {
            self.dropped += self.parts.pop_front().map_or(0, |front| front.rows.dims()[1]);
        }
        joined(found)
    }
}

fn joined(mut parts: Vec<Tensor<4>>) -> Tensor<4> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_and_no_buffer_is_too_large() {
        for (height, row_bytes, limit_bytes) in [(1, 4, 64), (31, 4, 64), (16, 4, 64), (17, 4, 64), (5, 64, 64)] {
            let parts: Vec<Part> = parts(height, row_bytes, limit_bytes).collect();
            assert_eq!((parts[0].from, parts[parts.len() - 1].to), (0, height));
            assert!(parts.windows(2).all(|pair| pair[0].to == pair[1].from), "{parts:?}");
            let rows = |part: &Part| (part.bottom() - part.top()) as u64;
            // A row wider than a strip may be is still computed, with those beside it.
            let most = limit_bytes.max(3 * row_bytes);
            assert!(parts.iter().all(|part| rows(part) * row_bytes <= most), "{parts:?}");
        }
    }
}
