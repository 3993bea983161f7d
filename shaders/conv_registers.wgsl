// y[b, oh, ow, co] = residual + Σ x[b, ih, iw, ci] · w[(ky, kx, ci), co] + bias, 3 × 3, for adapters that are software
//
// x [B, H, W, CI] and y [B, OH, OW, CO] stored as f32 or f16, w [9·CI, CO] as its precision packs it; bias [CO] f32; moments
// [⌈m / ROWS⌉, CO / 4] of vec4<f32>, of y's fours of channels; sums f32. CI and CO are multiples of 4. A matrix product whose
// rows are y's pixels, m of them: one invocation per 16 or 32 pixels and 16 channels of y. The sums live in registers and
// nothing is shared, so there is no barrier. Rust: crates/kernels/src/gpu/conv.rs, crates/kernels/src/gpu/tiling.rs

alias Stored4 = vec4<f32>; // spec

// Scales, where there are some, divide CI.
//#import conv_window
//#import weights
//#import tile_registers
//#import conv_epilogue

fn load_row(at: u32) -> vec4<f32> {
    return select(vec4<f32>(x[at & ~OUTSIDE]), vec4<f32>(), at >= OUTSIDE);
}

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
//#import tile_place
    for (var tap = 0u; tap < TAPS; tap++) {
        var offsets: array<u32, ROWS>;
        for (var i = 0u; i < row_count; i++) {
            offsets[i] = tap_offset(row + i, tap);
        }
//#each i < ROWS
        let a$i = offsets[$i];
//#end
        // One loop: to go over the blocks in a loop of their own takes longer than to read scales again.
        for (var k = 0u; k < params.c4; k++) {
            let k4 = tap * params.c4 + k;
//#import tile_weights
//#import tile_step
        }
    }
//#import tile_store
    for (var column = 0u; column < min(2u * PAIRS, n4 - column4); column++) {
        moments[row / ROWS * n4 + column4 + column] = pack_moments(tile_moments[column]);
    }
}
