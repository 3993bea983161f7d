// y[b, oh, ow, co] = residual + Σ x[b, ih, iw, ci] · w[(ky, kx, ci), co] + bias, 3 × 3, for GPUs
//
// x [B, H, W, CI] and y [B, OH, OW, CO] stored as f32 or f16, w [9·CI, CO] as its precision packs it; bias [CO] f32; moments
// [⌈m / TILE_ROWS⌉, CO / 4] of vec4<f32>, of y's fours of channels; sums f32. CI and CO are multiples of 4. A matrix product
// whose rows are y's pixels, m of them: one workgroup per tile of 32 or 64 pixels and 64 channels of y. Some channels of one tap
// at a time, the pixels and the columns of w are unpacked once into workgroup memory and read from there by all:
// shared/tile_workgroup.wgsl. Rust: crates/kernels/src/gpu/conv.rs, crates/kernels/src/gpu/tiling.rs

alias Stored4 = vec4<f32>; // spec

// Scales, where there are some, divide CI.
//#import conv_window
//#import weights
//#import tile_workgroup
//#import conv_epilogue

fn load_input(at: u32) -> vec4<f32> {
    return vec4<f32>(x[at]);
}

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
//#import tile_begin
    let end4 = params.c4;
    for (var tap = 0u; tap < TAPS; tap++) {
//#each i < ROW_COPIES
        let start$i = tap_offset(first_row + (index + $iu * INVOCATIONS) / STAGE4, tap);
//#end
        let first4 = tap * end4;
        for (var begin = 0u; begin < end4; begin += STAGE4) {
//#import tile_stage
        }
    }
//#import tile_end
    // The moments of a column's invocations, together.
    workgroupBarrier();
    if (slice == 0u) {
        columns[lane] = pack_moments(tile_moments[0]);
        columns[LANES + lane] = pack_moments(tile_moments[1]);
    }
    workgroupBarrier();
    let moments_column4 = first_column4 + 2u * (index % ACROSS) + index / ACROSS;
    if (index >= 2u * ACROSS || moments_column4 >= params.n4) {
        return;
    }
    var total = Moments();
    for (var down = 0u; down < DOWN; down++) {
        let packed = columns[index / ACROSS * LANES + down * ACROSS + index % ACROSS];
        total = combine_moments(total, unpack_moments(packed));
    }
    moments[group.y * params.n4 + moments_column4] = pack_moments(total);
}
