// y[m, n] = epilogue(Σ_k a[m, k] · w[k, n]), for GPUs
//
// a [M, K] and y [M, N] stored as f32 or f16, w [K, N] as its precision packs it; bias [N] and modulation f32; sums f32.
// K and N are multiples of 4. One workgroup per tile of y, of 32 or 64 rows and 64 columns. Some inputs at a time, the rows
// of a and the columns of w are unpacked once into workgroup memory and read from there by all: shared/tile_workgroup.wgsl.
// Rust: crates/kernels/src/gpu/gemm.rs, crates/kernels/src/gpu/tiling.rs

alias Stored4 = vec4<f32>; // spec

//#import gemm_params
//#import weights
//#import activation
//#import gemm_epilogue
//#import tile_workgroup

// Set in a place where there is no row.
const OUTSIDE: u32 = 0x80000000u;

// Where a row begins.
fn row_offset(row: u32) -> u32 {
    return select(row * params.k4, OUTSIDE, row >= params.m);
}

fn load_input(at: u32) -> vec4<f32> {
    return vec4<f32>(a[at]);
}

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
//#import tile_begin
//#each i < ROW_COPIES
    let start$i = row_offset(first_row + (index + $iu * INVOCATIONS) / STAGE4);
//#end
    let first4 = 0u;
    let end4 = params.k4;
    for (var begin = 0u; begin < end4; begin += STAGE4) {
//#import tile_stage
    }
//#import tile_end
}
