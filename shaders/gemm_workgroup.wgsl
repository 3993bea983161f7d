// y[m, n] = epilogue(Σ_k a[m, k] · w[k, n]), for GPUs
//
// a [M, K] and y [M, N] stored as f32 or f16, w [K, N] packed in its format; bias [N] and modulation f32; accumulators f32. K and N
// are multiples of 4. One workgroup per tile of y, of 32 or 64 rows and 64 columns. Some inputs at a time, the rows of a and the
// columns of w are unpacked once into workgroup memory, and read from there by all invocations: shared/tile_workgroup.wgsl.
// Rust: crates/kernels/src/gpu/gemm.rs, crates/kernels/src/gpu/tiling.rs

alias Stored4 = vec4<f32>; // spec

#import gemm_params
#import weights_f32
#import gemm_epilogue
#import tile_workgroup

// The offset of a row that does not exist.
const OUTSIDE: u32 = 0x80000000u;

fn row_offset(row: u32) -> u32 {
    return select(row * params.k4, OUTSIDE, row >= params.m);
}

fn load_input(at: u32) -> vec4<f32> {
    return vec4<f32>(a[at]);
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
    var input_start: array<u32, ROW_COPIES>; //#scalars
    //#unroll
    for (var i = 0u; i < ROW_COPIES; i++) {
        input_start[i] = row_offset(first_row + (index + i * INVOCATIONS) / STAGE4);
    }
    let first4 = 0u;
    let end4 = params.k4;
    for (var begin = 0u; begin < end4; begin += STAGE4) {
        accumulate_stage(&l, &r, &row_start, &input_start, first4, begin, end4, first_column4, index, slice, lane);
    }
    sum_slices(&l, &r, slice, lane);
    let row = first_row + lane / ACROSS * ROWS;
    let column4 = first_column4 + 2u * (lane % ACROSS);
    if (slice == 0u) {
        let row_count = ROWS;
        store_accumulators(&l, &r, row, column4, row_count);
    }
}
