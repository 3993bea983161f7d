// Tiles in workgroup memory: ROWS · DOWN rows and 64 columns of 4 · STAGE4 inputs.
//
// A slice of 8 · DOWN invocations has all sums of the tile, ROWS × 8 each; SLICES of them share the inputs of a stage and
// add up their sums at the end. More slices occupy a GPU that the tiles alone would leave empty.

// Rows of an invocation, and invocations along the rows.
const ROWS: u32 = 8u; // spec
const DOWN: u32 = 8u; // spec
const SLICES: u32 = 1u; // spec
// Columns of an invocation, in pairs of fours.
const PAIRS: u32 = 1u;
// Inputs of one stage, in fours, and those that share a scale.
const STAGE4: u32 = 4u; // spec
const BLOCK4: u32 = 8u;
// Columns of a tile, in fours and in pairs of fours.
const TILE4: u32 = 16u;
const ACROSS: u32 = 8u;
const LANES: u32 = ACROSS * DOWN;
const INVOCATIONS: u32 = LANES * SLICES;
const TILE_ROWS: u32 = ROWS * DOWN;
// What an invocation copies for a stage: fours of rows, and pairs of fours of columns.
const ROW_COPIES: u32 = 4u; // spec
const PAIR_COPIES: u32 = 2u; // spec

var<workgroup> rows: array<vec4<f32>, TILE_ROWS * STAGE4>; // [TILE_ROWS, STAGE4]
// The left fours of all pairs, then the right ones: neighbours read neighbours.
var<workgroup> columns: array<vec4<f32>, 4u * STAGE4 * TILE4>; // [4·STAGE4, 2, ACROSS]

fn load_row(at: u32) -> vec4<f32> {
    return rows[at];
}

fn load_tile_weights(k: u32, lane: u32) -> Pair {
    let at = k * TILE4 + lane;
    return Pair(columns[at], columns[at + ACROSS]);
}

// Four inputs of the row that begins at `start`; at `end` and where there is no row there are zeros, which add nothing.
fn load_input_or_zero(start: u32, k: u32, end: u32) -> vec4<f32> {
    if (start == OUTSIDE || k >= end) {
        return vec4<f32>();
    }
    return load_input(start + k);
}

// The weights of a pair of columns for input k; at `end` and beyond the last column there are zeros, which add nothing.
fn load_weights_or_zero(k: u32, end: u32, column4: u32) -> Pair {
    if (k >= end || column4 >= params.n4) {
        return Pair();
    }
    let right = min(1u, params.n4 - 1u - column4);
    return load_weights(k * params.n4 + column4, right, load_scales(k / (4u * BLOCK4), column4, right));
}
