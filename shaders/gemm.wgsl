// y[m, n] = epilogue(Σ_k a[m, k] · w[k, n]), for adapters that are software
//
// a [M, K] and y [M, N] stored as f32 or f16, w [K, N] as its precision packs it; bias [N] and modulation f32; sums f32.
// K and N are multiples of 4. One invocation per 8 rows and 8 columns of y, one workgroup per 64 × 64. The sums live in
// registers and nothing is shared, so there is no barrier. Rust: crates/kernels/src/gemm.rs

alias Stored4 = vec4<f32>; // spec

// Inputs that share a scale, in fours.
const BLOCK4: u32 = 8u;
// Rows of y that an invocation computes.
const ROWS: u32 = 8u;

//#import matrix
//#import weights
//#import activation
//#import epilogue

fn load_a(at: u32) -> vec4<f32> {
    return vec4<f32>(a[at]);
}

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y * ROWS;
    let column4 = id.x * 2u;
    if (row >= params.m || column4 >= params.n4) {
        return;
    }
    // Past the edge the last row and the last four columns are computed again and not stored.
    let last = params.m - 1u;
    let right = min(1u, params.n4 - 1u - column4);
    let k4 = params.k4;
    let n4 = params.n4;
//#each i < ROWS
    let a$i = min(row + $iu, last) * k4;
//#end
    var at = column4;
//#import tile_sums
    for (var k = 0u; k < k4; k++) {
        let scales = scales_at(k / BLOCK4, column4, right);
        let w0 = weights_at(at, right, scales);
        let w1 = weights_at(at + n4, right, scales);
        let w2 = weights_at(at + 2u * n4, right, scales);
        let w3 = weights_at(at + 3u * n4, right, scales);
        at += 4u * n4;
//#import tile_step
    }
//#import tile_store
}
