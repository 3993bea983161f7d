// The accumulators of one invocation of a matrix product: ROWS rows × PAIRS pairs of vec4s of columns, l the left and r the right
// vec4 of each pair.
//
// These functions are inlined and unrolled when a shader is rendered (crates/kernels/src/gpu/unroll.rs).
//#needs const ROWS: u32 = 8u;
//#needs const PAIRS: u32 = 2u;
//#needs struct Pair { left: vec4<f32>, right: vec4<f32> }
//#needs fn load_row(at: u32) -> vec4<f32> { return vec4<f32>(); }
//#needs fn store(row: u32, first_column4: u32, pair: u32, left: vec4<f32>, right: vec4<f32>) {}

//#inline
fn clear_accumulators(
    l: ptr<function, array<array<vec4<f32>, PAIRS>, ROWS>>,
    r: ptr<function, array<array<vec4<f32>, PAIRS>, ROWS>>,
) {
    //#unroll
    for (var i = 0u; i < ROWS; i++) {
        //#unroll
        for (var j = 0u; j < PAIRS; j++) {
            (*l)[i][j] = vec4<f32>();
            (*r)[i][j] = vec4<f32>();
        }
    }
}

// Adds four terms to every accumulator: rows begin at `row_start`, and w0 to w3 are the weights of inputs 4 · k to 4 · k + 3.
//#inline
fn accumulate(
    l: ptr<function, array<array<vec4<f32>, PAIRS>, ROWS>>,
    r: ptr<function, array<array<vec4<f32>, PAIRS>, ROWS>>,
    row_start: ptr<function, array<u32, ROWS>>,
    w0: ptr<function, array<Pair, PAIRS>>,
    w1: ptr<function, array<Pair, PAIRS>>,
    w2: ptr<function, array<Pair, PAIRS>>,
    w3: ptr<function, array<Pair, PAIRS>>,
    k: u32,
) {
    //#unroll
    for (var i = 0u; i < ROWS; i++) {
        let v = load_row((*row_start)[i] + k);
        //#unroll
        for (var j = 0u; j < PAIRS; j++) {
            (*l)[i][j] += v.x * (*w0)[j].left + v.y * (*w1)[j].left + v.z * (*w2)[j].left + v.w * (*w3)[j].left;
            (*r)[i][j] += v.x * (*w0)[j].right + v.y * (*w1)[j].right + v.z * (*w2)[j].right + v.w * (*w3)[j].right;
        }
    }
}

// Stores the first `row_count` rows, through the epilogue.
//#inline
fn store_accumulators(
    l: ptr<function, array<array<vec4<f32>, PAIRS>, ROWS>>,
    r: ptr<function, array<array<vec4<f32>, PAIRS>, ROWS>>,
    row: u32,
    column4: u32,
    row_count: u32,
) {
    // In a loop, so that the epilogue is compiled once.
    var lefts: array<vec4<f32>, ROWS * PAIRS>;
    var rights: array<vec4<f32>, ROWS * PAIRS>;
    //#unroll
    for (var i = 0u; i < ROWS; i++) {
        //#unroll
        for (var j = 0u; j < PAIRS; j++) {
            lefts[i * PAIRS + j] = (*l)[i][j];
            rights[i * PAIRS + j] = (*r)[i][j];
        }
    }
    for (var i = 0u; i < row_count * PAIRS; i++) {
        store(row + i / PAIRS, column4, i % PAIRS, lefts[i], rights[i]);
    }
}
