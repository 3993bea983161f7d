// Tiles in workgroup memory: ROWS · DOWN rows and 64 columns, of 4 · STAGE4 inputs at a time.
//
// A slice of 8 · DOWN invocations has all accumulators of the tile, ROWS × 8 each; SLICES of them share the inputs of a stage and
// add up their accumulators at the end (sliced K). More slices occupy a GPU that the tiles alone would leave idle.
//#needs struct Params { n4: u32 }
//#needs @group(0) @binding(9) var<storage, read> params: Params;
//#needs const OUTSIDE: u32 = 0x80000000u;
//#needs fn load_input(at: u32) -> vec4<f32> { return vec4<f32>(); }
//#needs fn store(row: u32, first_column4: u32, pair: u32, left: vec4<f32>, right: vec4<f32>) {}

#import weights_f32

// Rows of an invocation, and invocations along the rows.
const ROWS: u32 = 8u; // spec
const DOWN: u32 = 8u; // spec
const SLICES: u32 = 1u; // spec
// Columns of an invocation, in pairs of vec4s.
const PAIRS: u32 = 1u;
// Inputs of one stage, and those that share a scale, in vec4s.
const STAGE4: u32 = 4u; // spec
const BLOCK4: u32 = 8u;
// Columns of a tile, in vec4s and in pairs of them.
const TILE4: u32 = 16u;
const ACROSS: u32 = 8u;
const LANES: u32 = ACROSS * DOWN;
const INVOCATIONS: u32 = LANES * SLICES;
const TILE_ROWS: u32 = ROWS * DOWN;
// Copies of an invocation per stage: vec4s of rows, and pairs of vec4s of columns.
const ROW_COPIES: u32 = 4u; // spec
const PAIR_COPIES: u32 = 2u; // spec

var<workgroup> rows: array<vec4<f32>, TILE_ROWS * STAGE4>; // [TILE_ROWS, STAGE4]
// The left vec4s of all pairs, then the right ones, so that neighbours read neighbours.
var<workgroup> columns: array<vec4<f32>, 4u * STAGE4 * TILE4>; // [4·STAGE4, 2, ACROSS]

fn load_row(at: u32) -> vec4<f32> {
    return rows[at];
}

fn load_tile_weights(k: u32, lane: u32) -> Pair {
    let at = k * TILE4 + lane;
    return Pair(columns[at], columns[at + ACROSS]);
}

// Four inputs of the row that begins at `start`. From `end` on, and where there is no row, they are zeros, which add nothing.
fn load_input_or_zero(start: u32, k: u32, end: u32) -> vec4<f32> {
    if (start == OUTSIDE || k >= end) {
        return vec4<f32>();
    }
    return load_input(start + k);
}

// The weights of a pair of columns for input k. From `end` on, and beyond the last column, they are zeros, which add nothing.
fn load_weights_or_zero(k: u32, end: u32, column4: u32) -> Pair {
    if (k >= end || column4 >= params.n4) {
        return Pair();
    }
    let right = min(1u, params.n4 - 1u - column4);
    return load_weights(k * params.n4 + column4, right, load_scales(k / (4u * BLOCK4), column4, right));
}

#import tile_accumulators

// Copies the inputs from 4 · begin to 4 · end4 to workgroup memory and accumulates them; they meet the weights' inputs from
// 4 · first4 on. The rows begin at `input_start`. All loads come first, so that they are in flight together, also while other
// invocations still multiply.
//#inline
fn accumulate_stage(
    l: ptr<function, array<array<vec4<f32>, PAIRS>, ROWS>>,
    r: ptr<function, array<array<vec4<f32>, PAIRS>, ROWS>>,
    row_start: ptr<function, array<u32, ROWS>>,
    input_start: ptr<function, array<u32, ROW_COPIES>>,
    first4: u32,
    begin: u32,
    end4: u32,
    first_column4: u32,
    index: u32,
    slice: u32,
    lane: u32,
) {
    var input_copy: array<vec4<f32>, ROW_COPIES>; //#scalars
    //#unroll
    for (var i = 0u; i < ROW_COPIES; i++) {
        input_copy[i] = load_input_or_zero((*input_start)[i], begin + (index + i * INVOCATIONS) % STAGE4, end4);
    }
    var weights_copy: array<Pair, PAIR_COPIES>; //#scalars
    //#unroll
    for (var i = 0u; i < PAIR_COPIES; i++) {
        weights_copy[i] = load_weights_or_zero(
            4u * (first4 + begin) + (index + i * INVOCATIONS) / ACROSS,
            4u * (first4 + end4),
            first_column4 + 2u * (index % ACROSS),
        );
    }
    workgroupBarrier();
    //#unroll
    for (var i = 0u; i < ROW_COPIES; i++) {
        rows[index + i * INVOCATIONS] = input_copy[i];
    }
    //#unroll
    for (var i = 0u; i < PAIR_COPIES; i++) {
        let place = (index + i * INVOCATIONS) / ACROSS * TILE4 + index % ACROSS;
        columns[place] = weights_copy[i].left;
        columns[place + ACROSS] = weights_copy[i].right;
    }
    workgroupBarrier();
    for (var k = slice * (STAGE4 / SLICES); k < (slice + 1u) * (STAGE4 / SLICES); k++) {
        var w0: array<Pair, PAIRS>; //#scalars
        var w1: array<Pair, PAIRS>; //#scalars
        var w2: array<Pair, PAIRS>; //#scalars
        var w3: array<Pair, PAIRS>; //#scalars
        w0[0] = load_tile_weights(4u * k, lane % ACROSS);
        w1[0] = load_tile_weights(4u * k + 1u, lane % ACROSS);
        w2[0] = load_tile_weights(4u * k + 2u, lane % ACROSS);
        w3[0] = load_tile_weights(4u * k + 3u, lane % ACROSS);
        accumulate(l, r, row_start, &w0, &w1, &w2, &w3, k);
    }
}

// Adds the accumulators of all slices to those of the first.
//#inline
fn sum_slices(
    l: ptr<function, array<array<vec4<f32>, PAIRS>, ROWS>>,
    r: ptr<function, array<array<vec4<f32>, PAIRS>, ROWS>>,
    slice: u32,
    lane: u32,
) {
    for (var other = 1u; other < SLICES; other++) {
        workgroupBarrier();
        if (slice == other) {
            //#unroll
            for (var i = 0u; i < ROWS; i++) {
                columns[i * LANES + lane] = (*l)[i][0];
            }
        }
        workgroupBarrier();
        if (slice == 0u) {
            //#unroll
            for (var i = 0u; i < ROWS; i++) {
                (*l)[i][0] += columns[i * LANES + lane];
            }
        }
        workgroupBarrier();
        if (slice == other) {
            //#unroll
            for (var i = 0u; i < ROWS; i++) {
                columns[i * LANES + lane] = (*r)[i][0];
            }
        }
        workgroupBarrier();
        if (slice == 0u) {
            //#unroll
            for (var i = 0u; i < ROWS; i++) {
                (*r)[i][0] += columns[i * LANES + lane];
            }
        }
    }
}
