// y[b, oh, ow, co] = residual + Σ x[b, ih, iw, ci] · w[(ky, kx, ci), co] + bias, 3 × 3, for fallback adapters
//
// x [B, H, W, CI] and y [B, OH, OW, CO] stored as f32 or f16, w [9·CI, CO] packed in its format; bias [CO] f32; moments
// [⌈m / ROWS⌉, CO / 4] of vec4<f32>, of each four channels of y; accumulators f32. CI and CO are multiples of 4. A matrix product
// whose rows are the m pixels of y: one invocation per 16 or 32 pixels and 16 channels of y. The accumulators are in registers and
// nothing is shared, so that there is no barrier. Rust: crates/kernels/src/gpu/conv.rs, crates/kernels/src/gpu/tiling.rs

alias Stored4 = vec4<f32>; // spec

// A block of weights that shares a scale does not span two taps: its length divides CI.
#import conv_window
#import weights_f32
#import tile_registers
#import conv_epilogue

fn load_row(at: u32) -> vec4<f32> {
    return select(vec4<f32>(x[at & ~OUTSIDE]), vec4<f32>(), at >= OUTSIDE);
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
    for (var tap = 0u; tap < TAPS; tap++) {
        var offsets: array<u32, ROWS>;
        for (var i = 0u; i < row_count; i++) {
            offsets[i] = tap_offset(row + i, tap);
        }
        var row_start: array<u32, ROWS>; //#scalars
        //#unroll
        for (var i = 0u; i < ROWS; i++) {
            row_start[i] = offsets[i];
        }
        // One loop: a loop over blocks around it takes longer than to load the scales again.
        for (var k = 0u; k < params.c4; k++) {
            let k4 = tap * params.c4 + k;
            var w0: array<Pair, PAIRS>; //#scalars
            var w1: array<Pair, PAIRS>; //#scalars
            var w2: array<Pair, PAIRS>; //#scalars
            var w3: array<Pair, PAIRS>; //#scalars
            load_tile_weights(&w0, &w1, &w2, &w3, &left4, &right4, k4, n4);
            accumulate(&l, &r, &row_start, &w0, &w1, &w2, &w3, k);
        }
    }
    store_accumulators(&l, &r, row, column4, row_count);
    for (var column = 0u; column < min(2u * PAIRS, n4 - column4); column++) {
        moments[row / ROWS * n4 + column4 + column] = pack_moments(tile_moments[column]);
    }
}
