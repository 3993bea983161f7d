// Tiles in registers: one invocation has all accumulators of ROWS rows and PAIRS · 8 columns. Neighbours have the same rows.
//
// On a fallback adapter each number that is loaded costs as much as ten products, and accumulators are in fast memory in any case:
// the larger a tile, the better, until its text takes longer to compile than it saves.
//#needs struct Params { n4: u32 }
//#needs @group(0) @binding(9) var<storage, read> params: Params;
//#needs fn load_row(at: u32) -> vec4<f32> { return vec4<f32>(); }
//#needs fn store(row: u32, first_column4: u32, pair: u32, left: vec4<f32>, right: vec4<f32>) {}

#import weights_f32

const ROWS: u32 = 16u; // spec
const PAIRS: u32 = 2u; // spec
const INVOCATIONS: u32 = 32u;
// Inputs that share a scale, in vec4s.
const BLOCK4: u32 = 8u;

#import tile_accumulators

// The columns of each pair: its left vec4, and the distance to its right one. Past the edge the last vec4 is computed again and not
// stored.
//#inline
fn place_columns(
    left4: ptr<function, array<u32, PAIRS>>,
    right4: ptr<function, array<u32, PAIRS>>,
    column4: u32,
    n4: u32,
) {
    //#unroll
    for (var j = 0u; j < PAIRS; j++) {
        (*left4)[j] = min(column4 + 2u * j, n4 - 1u);
        (*right4)[j] = min(1u, n4 - 1u - (*left4)[j]);
    }
}

// Loads the weights of inputs 4 · k4 to 4 · k4 + 3, for all columns of the tile.
//#inline
fn load_tile_weights(
    w0: ptr<function, array<Pair, PAIRS>>,
    w1: ptr<function, array<Pair, PAIRS>>,
    w2: ptr<function, array<Pair, PAIRS>>,
    w3: ptr<function, array<Pair, PAIRS>>,
    left4: ptr<function, array<u32, PAIRS>>,
    right4: ptr<function, array<u32, PAIRS>>,
    k4: u32,
    n4: u32,
) {
    let at = 4u * k4 * n4;
    //#unroll
    for (var j = 0u; j < PAIRS; j++) {
        let scales = load_scales(k4 / BLOCK4, (*left4)[j], (*right4)[j]);
        (*w0)[j] = load_weights(at + (*left4)[j], (*right4)[j], scales);
        (*w1)[j] = load_weights(at + n4 + (*left4)[j], (*right4)[j], scales);
        (*w2)[j] = load_weights(at + 2u * n4 + (*left4)[j], (*right4)[j], scales);
        (*w3)[j] = load_weights(at + 3u * n4 + (*left4)[j], (*right4)[j], scales);
    }
}
