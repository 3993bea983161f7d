//! The matrix product with its epilogue: y = residual + gate · activation(x · w + bias), x `[M, K]`, w `[K, N]`, y `[M, N]`.
//!
//! Each task computes a block of y. It packs the weights of the block's columns, [`DEPTH`] inputs at a time, into panels that stay
//! in the L2 cache, and passes the rows over them in register tiles (Goto and van de Geijn 2008, without packed rows). A
//! [`RowSource`] says where the rows of x are, so that a convolution is a matrix product too.

use std::ops::Range;

use super::DEPTH;
use super::math::{activate, gelu};
use super::panel::{WeightSlice, accumulate_panels, pack, width};
use super::parallel::{OutputMatrix, parallel_for, threads};
use super::simd::{Lanes, SimdTask, dispatch};
use crate::options::{Activation, AdaLnChunk};

/// Columns of a block of y, a multiple of the columns of every panel.
const COLUMNS: usize = 64;
/// The most rows of a block of y.
const ROWS: usize = 1020;
/// The fewest blocks per core, so that all cores finish at about the same time.
const BLOCKS: usize = 4;
/// Rows that are passed over all panels while these are in the L2 cache, a multiple of the rows of every tile.
const HELD: usize = 96;

/// The epilogue of a matrix product, as slices.
#[derive(Clone, Copy, Default)]
pub(super) struct MatmulEpilogue<'a> {
    /// `[N]`.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) activation: Activation,
    pub(super) gate: Option<BroadcastRow<'a>>,
    /// Rows of N, repeated to the rows of y.
    pub(super) residual: Option<&'a [f32]>,
}

/// A row of a modulation table for each image, broadcast over its tokens: the row of image b begins at `start + b · stride`.
#[derive(Clone, Copy)]
pub(super) struct BroadcastRow<'a> {
    pub(super) table: &'a [f32],
    pub(super) start: usize,
    pub(super) stride: usize,
    /// Rows of x per image.
    pub(super) rows: usize,
}

impl<'a> BroadcastRow<'a> {
    /// The row `chunk` of a modulation `table`, for images of `rows` tokens.
    pub(super) fn new(table: &'a [f32], chunk: AdaLnChunk<'_>, rows: usize) -> Self {
        let [start, stride] = chunk.offset_and_stride();
        Self { table, start, stride, rows }
    }

    /// Returns the columns of the row that belongs to row `row` of x.
    pub(super) fn of(&self, row: usize, columns: Range<usize>) -> &[f32] {
        &self.table[self.start + row / self.rows * self.stride..][columns]
    }
}

/// The rows of the left matrix.
pub(super) trait RowSource: Sync {
    /// Returns the number of contiguous inputs: K, or a divisor of it.
    fn run(&self) -> usize;
    /// Returns the inputs `first..first + count` of a row, which lie in one run.
    fn row(&self, row: usize, first: usize, count: usize) -> &[f32];
}

struct DenseRows<'a> {
    values: &'a [f32],
    k: usize,
}

impl RowSource for DenseRows<'_> {
    fn run(&self) -> usize {
        self.k
    }

    #[inline(always)]
    fn row(&self, row: usize, first: usize, count: usize) -> &[f32] {
        &self.values[row * self.k + first..][..count]
    }
}

/// y `[M, N]` for x `[M, K]`; `[M, N/2]` with [`Activation::GatedGelu`], see [`linear`](crate::linear).
pub(super) fn matmul(x: &[f32], w: WeightSlice<'_>, shape: [usize; 2], epilogue: MatmulEpilogue<'_>) -> Vec<f32> {
    let [k, _] = shape;
    assert!(x.len().is_multiple_of(k), "{} values in rows of {k}", x.len());
    matmul_rows(&DenseRows { values: x, k }, x.len() / k, w, shape, epilogue)
}

pub(super) fn matmul_rows(
    x: &impl RowSource,
    m: usize,
    w: WeightSlice<'_>,
    [k, n]: [usize; 2],
    epilogue: MatmulEpilogue<'_>,
) -> Vec<f32> {
    assert!(k.is_multiple_of(x.run()), "runs of {} in {k} inputs", x.run());
    let halved = if epilogue.activation == Activation::GatedGelu { 2 } else { 1 };
    let mut y = vec![0.0; m * n / halved];
    let out = OutputMatrix::new(&mut y, n / halved);
    let across = n.div_ceil(COLUMNS);
    // Fewer rows per block where there would be too few blocks for the cores, but enough to pay for the packing.
    let rows = m.div_ceil((BLOCKS * threads()).div_ceil(across)).clamp(HELD / 2, ROWS);
    let rows = m.div_ceil(m.div_ceil(rows)).next_multiple_of(24);
    parallel_for(0..across * m.div_ceil(rows), |scratch: &mut MatmulScratch, task| {
        let (down, across) = (task / across * rows, task % across * COLUMNS);
        dispatch(MatmulBlock {
            x,
            w,
            shape: [k, n],
            epilogue,
            rows: down..m.min(down + rows),
            columns: across..n.min(across + COLUMNS),
            out: &out,
            scratch,
        });
    });
    y
}

struct MatmulBlock<'a, X> {
    x: &'a X,
    w: WeightSlice<'a>,
    shape: [usize; 2],
    epilogue: MatmulEpilogue<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
    out: &'a OutputMatrix<'a>,
    scratch: &'a mut MatmulScratch,
}

#[derive(Default)]
struct MatmulScratch {
    panels: Vec<f32>,
    sums: Vec<f32>,
}

impl<X: RowSource> SimdTask for MatmulBlock<'_, X> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let [k, n] = self.shape;
        let MatmulScratch { mut panels, mut sums } = std::mem::take(self.scratch);
        panels.resize(COLUMNS * DEPTH, 0.0);
        sums.clear();
        sums.resize(self.rows.len() * COLUMNS, 0.0);
        let run = self.x.run();
        let pieces = (0..k).step_by(run).flat_map(|start| {
            (start..start + run).step_by(DEPTH).map(move |first| first..(start + run).min(first + DEPTH))
        });
        for inputs in pieces {
            pack::<L>(self.w, [k, n], inputs.clone(), self.columns.clone(), &mut panels);
            let panels = &panels[..self.columns.len().next_multiple_of(width::<L>()) * inputs.len()];
            for (held, sums) in sums.chunks_mut(HELD * COLUMNS).enumerate() {
                let rows = self.rows.clone().skip(held * HELD).take(HELD);
                let rows: Vec<&[f32]> = rows.map(|row| self.x.row(row, inputs.start, inputs.len())).collect();
                accumulate_panels::<L>(&rows, panels, sums, COLUMNS);
            }
        }
        for (row, sums) in self.rows.clone().zip(sums.chunks_exact_mut(COLUMNS)) {
            self.store_row(row, &mut sums[..self.columns.len()]);
        }
        *self.scratch = MatmulScratch { panels, sums };
    }
}

impl<X: RowSource> MatmulBlock<'_, X> {
    #[inline(always)]
    fn store_row(&self, row: usize, sums: &mut [f32]) {
        let MatmulEpilogue { bias, activation, gate, residual } = &self.epilogue;
        let ([_, n], columns) = (self.shape, &self.columns);
        if *activation == Activation::GatedGelu {
            // SAFETY: no other task has these rows and columns.
            let y = unsafe { self.out.row(row, columns.start / 2..columns.end / 2) };
            for (y, turn) in y.chunks_exact_mut(4).zip(sums.chunks_exact(8)) {
                for (i, y) in y.iter_mut().enumerate() {
                    *y = gelu(turn[i]) * turn[4 + i];
                }
            }
            return;
        }
        let change = |sums: &mut [f32], by: &[f32], with: fn(f32, f32) -> f32| {
            sums.iter_mut().zip(by).for_each(|(sum, by)| *sum = with(*sum, *by));
        };
        if let Some(bias) = bias {
            change(sums, &bias[columns.clone()], |sum, bias| sum + bias);
        }
        activate(sums, *activation);
        if let Some(gate) = gate {
            change(sums, gate.of(row, columns.clone()), |sum, gate| sum * gate);
        }
        if let Some(residual) = residual {
            let row = row % (residual.len() / n);
            change(sums, &residual[row * n..][columns.clone()], |sum, residual| sum + residual);
        }
        // SAFETY: as above.
        unsafe { self.out.row(row, columns.clone()) }.copy_from_slice(sums);
    }
}
