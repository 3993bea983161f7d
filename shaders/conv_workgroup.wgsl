// y[b, oh, ow, co] = residual + Σ x[b, ih, iw, ci] · w[(ky, kx, ci), co] + bias, 3 × 3, for GPUs
//
// x [B, H, W, CI] and y [B, OH, OW, CO] stored as f32 or f16, w [9·CI, CO] packed in its format; bias [CO] f32; moments
// [⌈m / TILE_ROWS⌉, CO / 4] of vec4<f32>, of each four channels of y; accumulators f32. CI and CO are multiples of 4. A matrix
// product whose rows are the m pixels of y: one workgroup per tile of 32 or 64 pixels and 64 channels of y. Some channels of one
// tap at a time, the pixels and the columns of w are unpacked once into workgroup memory, and read from there by all invocations:
// shared/tile_workgroup.wgsl. Rust: crates/kernels/src/gpu/conv.rs, crates/kernels/src/gpu/tiling.rs

alias Stored4 = vec4<f32>; // spec

// A block of weights that shares a scale does not span two taps: its length divides CI.
#import conv_window
#import weights_f32
#import tile_workgroup
#import conv_epilogue

fn load_input(at: u32) -> vec4<f32> {
    return vec4<f32>(x[at]);
}

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let first_row = group.y * TILE_ROWS;
    let first_column4 = group.x * TILE4;
    let slice = index / LANES;
    let lane = index % LANES;
    var row_start: array<u32, ROWS>; //#scalars
    //#unroll
    for (var i = 0u; i < ROWS; i++) {
        row_start[i] = (lane / ACROSS * ROWS + i) * STAGE4;
    }
    var l: array<array<vec4<f32>, PAIRS>, ROWS>; //#scalars
    var r: array<array<vec4<f32>, PAIRS>, ROWS>; //#scalars
    clear_accumulators(&l, &r);
    let end4 = params.c4;
    for (var tap = 0u; tap < TAPS; tap++) {
        var input_start: array<u32, ROW_COPIES>; //#scalars
        //#unroll
        for (var i = 0u; i < ROW_COPIES; i++) {
            input_start[i] = tap_offset(first_row + (index + i * INVOCATIONS) / STAGE4, tap);
        }
        let first4 = tap * end4;
        for (var begin = 0u; begin < end4; begin += STAGE4) {
            accumulate_stage(&l, &r, &row_start, &input_start, first4, begin, end4, first_column4, index, slice, lane);
        }
    }
    sum_slices(&l, &r, slice, lane);
    let row = first_row + lane / ACROSS * ROWS;
    let column4 = first_column4 + 2u * (lane % ACROSS);
    if (slice == 0u) {
        let row_count = ROWS;
        store_accumulators(&l, &r, row, column4, row_count);
    }
    // The moments of the invocations of a column are combined.
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
