// y[m, n] = epilogue(Σ_k a[m, k] · w[k, n]), for fallback adapters
//
// a [M, K] and y [M, N] stored as f32 or f16, w [K, N] packed in its format; bias [N] and modulation f32; accumulators f32. K and N
// are multiples of 4. One invocation per 8 or 16 rows and 16 columns of y. The accumulators are in registers and nothing is shared,
// so that there is no barrier. Rust: crates/kernels/src/gpu/gemm.rs, crates/kernels/src/gpu/tiling.rs

alias Stored4 = vec4<f32>; // spec

#import gemm_params
#import weights_f32
#import gemm_epilogue
#import tile_registers

fn load_row(at: u32) -> vec4<f32> {
    return vec4<f32>(a[at]);
}

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n4 = params.n4;
    let across = (n4 + 2u * PAIRS - 1u) / (2u * PAIRS);
    let row = id.x / across * ROWS;
    let column4 = id.x % across * 2u * PAIRS;
    if (row >= params.m) {
        return;
    }
    // A loop to a limit that is unknown at compile time is not unrolled by drivers, so that its body is compiled once.
    let row_count = min(ROWS, params.m - row);
    var left4: array<u32, PAIRS>; //#scalars
    var right4: array<u32, PAIRS>; //#scalars
    place_columns(&left4, &right4, column4, n4);
    var l: array<array<vec4<f32>, PAIRS>, ROWS>; //#scalars
    var r: array<array<vec4<f32>, PAIRS>, ROWS>; //#scalars
    clear_accumulators(&l, &r);
    // Past the edge the last row is computed again and not stored.
    let last = params.m - 1u;
    var row_start: array<u32, ROWS>; //#scalars
    //#unroll
    for (var i = 0u; i < ROWS; i++) {
        row_start[i] = min(row + i, last) * params.k4;
    }
    for (var k = 0u; k < params.k4; k++) {
        let k4 = k;
        var w0: array<Pair, PAIRS>; //#scalars
        var w1: array<Pair, PAIRS>; //#scalars
        var w2: array<Pair, PAIRS>; //#scalars
        var w3: array<Pair, PAIRS>; //#scalars
        load_tile_weights(&w0, &w1, &w2, &w3, &left4, &right4, k4, n4);
        accumulate(&l, &r, &row_start, &w0, &w1, &w2, &w3, k);
    }
    store_accumulators(&l, &r, row, column4, row_count);
}
