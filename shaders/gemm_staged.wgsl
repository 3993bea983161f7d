// y[m, n] = epilogue(Σ_k a[m, k] · w[k, n]), for GPUs
//
// a [M, K] and y [M, N] stored as f32 or f16, w [K, N] as its precision packs it; bias [N] and modulation f32; sums f32.
// K and N are multiples of 4. One workgroup per 64 × 64 of y, one invocation per 8 × 8 of those. 16 inputs at a time, the
// rows of a and the columns of w are unpacked once into workgroup memory, 8 KiB, and read from there eight times.
// Rust: crates/kernels/src/gemm.rs

alias Stored4 = vec4<f32>; // spec

//#import matrix
//#import weights
//#import activation
//#import epilogue
//#import tile_staged

// Copies the inputs from 4·begin on; beyond the matrices there are zeros, which add nothing.
fn stage(begin: u32, first_row: u32, first_column4: u32, index: u32) {
    for (var at = index; at < TILE * STAGE4; at += INVOCATIONS) {
        let row = first_row + at / STAGE4;
        let k = begin + at % STAGE4;
        var staged = vec4<f32>();
        if (row < params.m && k < params.k4) {
            staged = vec4<f32>(a[row * params.k4 + k]);
        }
        rows[at] = staged;
    }
    stage_columns(begin, params.k4, first_column4, index);
}

@compute @workgroup_size(8, 8, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let first_row = group.y * TILE;
    let first_column4 = group.x * TILE4;
    let a0 = local.y * 8u * STAGE4;
    let a1 = a0 + STAGE4;
    let a2 = a1 + STAGE4;
    let a3 = a2 + STAGE4;
    let a4 = a3 + STAGE4;
    let a5 = a4 + STAGE4;
    let a6 = a5 + STAGE4;
    let a7 = a6 + STAGE4;
//#import tile_sums
    for (var begin = 0u; begin < params.k4; begin += STAGE4) {
        stage(begin, first_row, first_column4, index);
        workgroupBarrier();
        for (var k = 0u; k < STAGE4; k++) {
            let w0 = load_w(4u * k, 2u * local.x);
            let w1 = load_w(4u * k + 1u, 2u * local.x);
            let w2 = load_w(4u * k + 2u, 2u * local.x);
            let w3 = load_w(4u * k + 3u, 2u * local.x);
//#import tile_step
        }
        workgroupBarrier();
    }
    let row = first_row + local.y * 8u;
    let column4 = first_column4 + local.x * 2u;
    if (column4 >= params.n4) {
        return;
    }
//#import tile_store
}
