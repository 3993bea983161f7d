// y = softmax(scale · q·kᵀ + bias) · v of every head of at most 128 channels, for GPUs
//
// q [B, T, ·], k and v [B, L, ·], of which a head is D columns, and y [B, T, N·D] stored as f32 or f16; bias f32, one
// stride for each axis of [B, N, T, L]; sums f32. D is a multiple of 4. One workgroup per 64 queries of a head, one
// invocation per query, whose channels and sums stay in registers. 16 keys and their values at a time are copied into
// workgroup memory, D/8 KiB, and read from there by all 64, four at a time; the sums shrink by as much as the maximum grew
// (Milakov and Gimelshein 2018; Dao et al. 2022). Rust: crates/kernels/src/attention.rs

alias Stored4 = vec4<f32>; // spec
// Channels of a head, in fours.
const D4: u32 = 18u; // spec

//#import attention

const QUERIES: u32 = 64u;
const KEYS: u32 = 16u;

var<workgroup> key_tile: array<vec4<f32>, KEYS * D4>; // [KEYS, D4]
var<workgroup> value_tile: array<vec4<f32>, KEYS * D4>;

fn stage(b: u32, n: u32, key: u32, index: u32) {
    for (var at = index; at < KEYS * D4; at += QUERIES) {
        // Past the last key that one is copied again.
        let row = b * params.l + min(key + at / D4, params.l - 1u);
        let column = n * D4 + at % D4;
        key_tile[at] = vec4<f32>(k[row * params.k_stride4 + params.k_first4 + column]);
        value_tile[at] = vec4<f32>(v[row * params.v_stride4 + params.v_first4 + column]);
    }
}

// Four keys, one in each column.
fn staged_keys(first: u32, d: u32) -> mat4x4<f32> {
    let at = first * D4 + d;
    return mat4x4<f32>(key_tile[at], key_tile[at + D4], key_tile[at + 2u * D4], key_tile[at + 3u * D4]);
}

fn staged_values(first: u32, d: u32) -> mat4x4<f32> {
    let at = first * D4 + d;
    return mat4x4<f32>(value_tile[at], value_tile[at + D4], value_tile[at + 2u * D4], value_tile[at + 3u * D4]);
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let n = group.y;
    let b = group.z;
    let t = group.x * QUERIES + index;
    // Past the edge the last query is computed again and not stored.
    let query = min(t, params.t - 1u);
    let first_bias = bias_at(b, n, query);
    var channels: array<vec4<f32>, D4>;
    var sums: array<vec4<f32>, D4>;
    for (var d = 0u; d < D4; d++) {
        channels[d] = vec4<f32>(q[query_at(b, n, query) + d]);
    }
    var peak = LOWEST;
    var weight_total = 0.0;
    for (var key = 0u; key < params.l; key += KEYS) {
        workgroupBarrier();
        stage(b, n, key, index);
        workgroupBarrier();
        // To a bound that is not known before, so that no compiler unrolls both this loop and those within.
        let staged = min(KEYS, params.l - key);
        for (var first = 0u; first < staged; first += 4u) {
            var products = vec4<f32>();
            for (var d = 0u; d < D4; d++) {
                products += channels[d] * staged_keys(first, d);
            }
            let scores = finished(products, first_bias, key + first);
            let new_peak = max(peak, largest(scores));
            let kept = exp(peak - new_peak);
            let weights = exp(scores - new_peak);
            peak = new_peak;
            weight_total = kept * weight_total + total(weights);
            for (var d = 0u; d < D4; d++) {
                sums[d] = kept * sums[d] + staged_values(first, d) * weights;
            }
        }
    }
    if (t >= params.t) {
        return;
    }
    let at = output_at(b, n, t);
    for (var d = 0u; d < D4; d++) {
        y[at + d] = Stored4(sums[d] / weight_total);
    }
}
