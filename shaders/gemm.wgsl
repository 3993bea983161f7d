// y[g, m, n] = Σ_k a[g, m, k] · b[g, k, n] + bias[n]
//
// a [G, M, K], b [G, K, N], bias [N], y [G, M, N]: f32, row-major, K and N multiples of 4.
// One invocation per 8 rows and 8 columns of y; one workgroup per 64 × 64. The sums live in registers and nothing is
// shared, so there is no barrier. Rust: crates/kernels/src/gemm.rs

const M: u32 = 64u; // spec
const K4: u32 = 16u; // spec
const N4: u32 = 16u; // spec
const BIASED: u32 = 1u; // spec

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
// Bound to b again where there is no bias, and then not used.
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

// sum + Σ_i a_i · b_i, four columns wide
fn add4(sum: vec4<f32>, a: vec4<f32>, b0: vec4<f32>, b1: vec4<f32>, b2: vec4<f32>, b3: vec4<f32>) -> vec4<f32> {
    return sum + a.x * b0 + a.y * b1 + a.z * b2 + a.w * b3;
}

fn store(row: u32, column4: u32, group: u32, sum: vec4<f32>) {
    if (row < M && column4 < N4) {
        var shifted = sum;
        if (BIASED == 1u) {
            shifted += bias[column4];
        }
        y[(group * M + row) * N4 + column4] = shifted;
    }
}

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y * 8u;
    let column4 = id.x * 2u;
    let group = id.z;
    if (row >= M || column4 >= N4) {
        return;
    }
    // Past the edge the last row or column is computed again and not stored.
    let a_start = group * M * K4;
    let a0 = a_start + row * K4;
    let a1 = a_start + min(row + 1u, M - 1u) * K4;
    let a2 = a_start + min(row + 2u, M - 1u) * K4;
    let a3 = a_start + min(row + 3u, M - 1u) * K4;
    let a4 = a_start + min(row + 4u, M - 1u) * K4;
    let a5 = a_start + min(row + 5u, M - 1u) * K4;
    let a6 = a_start + min(row + 6u, M - 1u) * K4;
    let a7 = a_start + min(row + 7u, M - 1u) * K4;
    let b_left = group * K4 * 4u * N4 + column4;
    let b_right = group * K4 * 4u * N4 + min(column4 + 1u, N4 - 1u);

    var l0 = vec4<f32>();
    var l1 = vec4<f32>();
    var l2 = vec4<f32>();
    var l3 = vec4<f32>();
    var l4 = vec4<f32>();
    var l5 = vec4<f32>();
    var l6 = vec4<f32>();
    var l7 = vec4<f32>();
    var r0 = vec4<f32>();
    var r1 = vec4<f32>();
    var r2 = vec4<f32>();
    var r3 = vec4<f32>();
    var r4 = vec4<f32>();
    var r5 = vec4<f32>();
    var r6 = vec4<f32>();
    var r7 = vec4<f32>();
    for (var k = 0u; k < K4; k++) {
        let step = k * 4u * N4;
        let p0 = b[b_left + step];
        let p1 = b[b_left + step + N4];
        let p2 = b[b_left + step + 2u * N4];
        let p3 = b[b_left + step + 3u * N4];
        let q0 = b[b_right + step];
        let q1 = b[b_right + step + N4];
        let q2 = b[b_right + step + 2u * N4];
        let q3 = b[b_right + step + 3u * N4];
        let v0 = a[a0 + k];
        l0 = add4(l0, v0, p0, p1, p2, p3);
        r0 = add4(r0, v0, q0, q1, q2, q3);
        let v1 = a[a1 + k];
        l1 = add4(l1, v1, p0, p1, p2, p3);
        r1 = add4(r1, v1, q0, q1, q2, q3);
        let v2 = a[a2 + k];
        l2 = add4(l2, v2, p0, p1, p2, p3);
        r2 = add4(r2, v2, q0, q1, q2, q3);
        let v3 = a[a3 + k];
        l3 = add4(l3, v3, p0, p1, p2, p3);
        r3 = add4(r3, v3, q0, q1, q2, q3);
        let v4 = a[a4 + k];
        l4 = add4(l4, v4, p0, p1, p2, p3);
        r4 = add4(r4, v4, q0, q1, q2, q3);
        let v5 = a[a5 + k];
        l5 = add4(l5, v5, p0, p1, p2, p3);
        r5 = add4(r5, v5, q0, q1, q2, q3);
        let v6 = a[a6 + k];
        l6 = add4(l6, v6, p0, p1, p2, p3);
        r6 = add4(r6, v6, q0, q1, q2, q3);
        let v7 = a[a7 + k];
        l7 = add4(l7, v7, p0, p1, p2, p3);
        r7 = add4(r7, v7, q0, q1, q2, q3);
    }
    store(row, column4, group, l0);
    store(row + 1u, column4, group, l1);
    store(row + 2u, column4, group, l2);
    store(row + 3u, column4, group, l3);
    store(row + 4u, column4, group, l4);
    store(row + 5u, column4, group, l5);
    store(row + 6u, column4, group, l6);
    store(row + 7u, column4, group, l7);
    store(row, column4 + 1u, group, r0);
    store(row + 1u, column4 + 1u, group, r1);
    store(row + 2u, column4 + 1u, group, r2);
    store(row + 3u, column4 + 1u, group, r3);
    store(row + 4u, column4 + 1u, group, r4);
    store(row + 5u, column4 + 1u, group, r5);
    store(row + 6u, column4 + 1u, group, r6);
    store(row + 7u, column4 + 1u, group, r7);
}
