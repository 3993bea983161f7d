//! Attention: softmax(scale · q·kᵀ + bias) · v for each head, on the register tiles of the matrix product.
//!
//! A task takes a block of queries of one head. It packs the head's keys, transposed, and its values into panels once, and then
//! computes all scores of a few queries at a time, which stay in the L2 cache: the `[T, L]` scores are never stored.

use std::ops::Range;

use burn::tensor::Tensor;

use super::DEPTH;
use super::flex::{Slice, tensor};
use super::math::{exp, reduce_max, reduce_sum};
use super::panel::{WeightSlice, accumulate_panels, pack, width};
use super::parallel::{OutputMatrix, parallel_for, threads};
use super::simd::{Lanes, SimdTask, dispatch};
use crate::options::{AttentionOptions, Heads, MIN_SCORE, broadcast_strides};

/// The most queries of a task.
const QUERIES: usize = 256;
/// The most and the fewest queries whose scores are in memory at a time, both multiples of the rows of every tile.
const HELD: usize = 48;
const LEAST_HELD: usize = 24;
/// Scores that fit the L2 cache.
const SCORES: usize = 1 << 15;

/// The difference from the largest score below which a weight is set to 0. It would be lost in rounding, and its products with
/// values would be subnormal, which cost a CPU a hundred times as long: captions are padded with such keys.
const NEGLIGIBLE: f32 = -60.0;

/// Computes attention; None on other devices.
pub(crate) fn attention(q: Heads<'_>, k: Heads<'_>, v: Heads<'_>, options: &AttentionOptions<'_>) -> Option<Tensor<3>> {
    let AttentionOptions { heads, head_channels, scale, bias } = *options;
    let [batch, t, _] = q.tensor.dims();
    let slices = [Slice::of(q.tensor)?, Slice::of(k.tensor)?, Slice::of(v.tensor)?];
    let view = |heads: Heads<'_>, slice| HeadSlice::new(slice, heads.tensor.dims(), heads.first);
    let views = [view(q, &slices[0]), view(k, &slices[1]), view(v, &slices[2])];
    let added = bias.and_then(Slice::of);
    let bias = bias.zip(added.as_ref()).map(|(bias, slice)| {
        let strides = broadcast_strides(bias.dims()).map(|stride| stride as usize);
        BiasSlice { values: slice.values(), strides }
    });
    let y = attend(views, batch, [heads, head_channels], Scoring { scale, bias });
    Some(tensor(y, [batch, t, heads * head_channels], q.tensor))
}

/// The columns `first..first + heads·D` of q, k or v `[B, T, columns]`.
#[derive(Clone, Copy)]
struct HeadSlice<'a> {
    values: &'a [f32],
    tokens: usize,
    columns: usize,
    first: usize,
}

impl<'a> HeadSlice<'a> {
    /// The columns from `first` on of a tensor `[B, tokens, columns]`.
    fn new(slice: &'a Slice, [_, tokens, columns]: [usize; 3], first: usize) -> Self {
        Self { values: slice.values(), tokens, columns, first }
    }

    fn token(&self, batch: usize, token: usize, columns: &Range<usize>) -> &'a [f32] {
        let start = (batch * self.tokens + token) * self.columns + self.first;
        &self.values[start + columns.start..start + columns.end]
    }
}

/// The bias of the scores. Element `[b, head, query, key]` lies at the dot product of its indices and the strides, which are 0
/// along an axis of length 1.
#[derive(Clone, Copy)]
struct BiasSlice<'a> {
    values: &'a [f32],
    strides: [usize; 4],
}

/// The scale and bias of q·kᵀ.
#[derive(Clone, Copy)]
struct Scoring<'a> {
    scale: f32,
    bias: Option<BiasSlice<'a>>,
}

/// q `[B, T, ..]`, k and v `[B, L, ..]` → `[B, T, heads·D]`.
fn attend(
    [q, k, v]: [HeadSlice<'_>; 3],
    batch: usize,
    [heads, head_channels]: [usize; 2],
    scoring: Scoring<'_>,
) -> Vec<f32> {
    assert_eq!(k.tokens, v.tokens, "tokens of keys and values");
    for HeadSlice { values, tokens, columns, first } in [q, k, v] {
        assert_eq!(values.len(), batch * tokens * columns, "{batch} images of {tokens} tokens of {columns}");
        assert!(first + heads * head_channels <= columns, "{heads} heads of {head_channels} from {first} in {columns}");
    }
    let columns = heads * head_channels;
    let mut y = vec![0.0; batch * q.tokens * columns];
    let out = OutputMatrix::new(&mut y, columns);
    let chunk = q.tokens.div_ceil((4 * threads()).div_ceil(batch * heads)).clamp(LEAST_HELD, QUERIES);
    let chunks = q.tokens.div_ceil(chunk);
    parallel_for(0..batch * heads * chunks, |scratch: &mut AttentionScratch, task| {
        let (image, head, first) = (task / (heads * chunks), task / chunks % heads, task % chunks * chunk);
        let queries = first..q.tokens.min(first + chunk);
        dispatch(QueryChunk { q, k, v, head_channels, scoring, image, head, queries, out: &out, scratch });
    });
    y
}

struct QueryChunk<'a> {
    q: HeadSlice<'a>,
    k: HeadSlice<'a>,
    v: HeadSlice<'a>,
    head_channels: usize,
    scoring: Scoring<'a>,
    image: usize,
    head: usize,
    queries: Range<usize>,
    out: &'a OutputMatrix<'a>,
    scratch: &'a mut AttentionScratch,
}

#[derive(Default)]
struct AttentionScratch {
    key_panels: Vec<f32>,
    value_panels: Vec<f32>,
    scores: Vec<f32>,
    means: Vec<f32>,
}

impl SimdTask for QueryChunk<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { q, k, v, image, .. } = self;
        let (d, keys) = (self.head_channels, k.tokens);
        let columns = self.head * d..(self.head + 1) * d;
        let [across, wide] = [keys, d].map(|count| count.next_multiple_of(width::<L>()));

        let AttentionScratch { mut key_panels, mut value_panels, mut scores, mut means } = std::mem::take(self.scratch);
        key_panels.resize(across * d, 0.0);
        for key in 0..keys {
            let panel = &mut key_panels[key / width::<L>() * width::<L>() * d + key % width::<L>()..];
            let channels = k.token(image, key, &columns);
            panel.iter_mut().step_by(width::<L>()).zip(channels).for_each(|(to, channel)| *to = *channel);
        }
        value_panels.resize(keys * wide, 0.0);
        let values = WeightSlice::Dense(&v.values[image * keys * v.columns..]);
        for (at, panels) in value_panels.chunks_mut(DEPTH * wide).enumerate() {
            let inputs = at * DEPTH..keys.min((at + 1) * DEPTH);
            let columns = v.first + columns.start..v.first + columns.end;
            pack::<L>(values, [keys, v.columns], inputs, columns, panels);
        }

        let most = (SCORES / across / LEAST_HELD * LEAST_HELD).clamp(LEAST_HELD, HELD);
        scores.resize(most * across, 0.0);
        means.resize(most * wide, 0.0);
        for first in self.queries.clone().step_by(most) {
            let held = most.min(self.queries.end - first);
            scores.fill(0.0);
            let queries: Vec<&[f32]> = (first..first + held).map(|query| q.token(image, query, &columns)).collect();
            accumulate_panels::<L>(&queries, &key_panels, &mut scores, across);
            let mut totals = [0.0; HELD];
            for (at, scores) in scores.chunks_exact_mut(across).take(held).enumerate() {
                totals[at] = self.exponentials(first + at, &mut scores[..keys]);
            }
            means.fill(0.0);
            for (at, panels) in value_panels.chunks(DEPTH * wide).enumerate() {
                let keys = at * DEPTH..at * DEPTH + panels.len() / wide;
                let shares: Vec<&[f32]> =
                    scores.chunks_exact(across).take(held).map(|row| &row[keys.clone()]).collect();
                accumulate_panels::<L>(&shares, panels, &mut means, wide);
            }
            for (at, means) in means.chunks_exact(wide).take(held).enumerate() {
                // SAFETY: no other task has these queries of this head.
                let y = unsafe { self.out.row(image * q.tokens + first + at, columns.clone()) };
                y.iter_mut().zip(means).for_each(|(y, mean)| *y = mean / totals[at]);
            }
        }
        *self.scratch = AttentionScratch { key_panels, value_panels, scores, means };
    }
}

impl QueryChunk<'_> {
    /// Replaces each score by exp(score - largest score), and returns the sum.
    #[inline(always)]
    fn exponentials(&self, query: usize, scores: &mut [f32]) -> f32 {
        let Scoring { scale, bias } = self.scoring;
        scores.iter_mut().for_each(|score| *score *= scale);
        if let Some(BiasSlice { values, strides }) = bias {
            let index = [self.image, self.head, query];
            let start: usize = index.iter().zip(strides).map(|(index, stride)| index * stride).sum();
            match strides[3] {
                0 => scores.iter_mut().for_each(|score| *score += values[start]),
                stride => {
                    let bias = values[start..].iter().step_by(stride);
                    scores.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
                }
            }
        }
        scores.iter_mut().for_each(|score| *score = if *score < MIN_SCORE { MIN_SCORE } else { *score });
        let most = reduce_max(scores);
        scores.iter_mut().for_each(|score| {
            let below = *score - most;
            *score = if below < NEGLIGIBLE { 0.0 } else { exp(below) };
        });
        reduce_sum(scores, |score| score)
    }
}
