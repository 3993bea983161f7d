// y = softmax(scale · q·kᵀ + bias) · v of every head, for fallback adapters
//
// q [B, T, ·], k and v [B, L, ·], of which a head is D columns, and y [B, T, N·D] stored as f32 or f16; bias f32, one stride for each
// axis of [B, N, T, L]; accumulators f32. D is a multiple of 4. One invocation per 8 queries of a head. It takes 16 keys at a time:
// their scores, the new maxima, then the weighted values, for which the accumulators are rescaled: an online softmax (Milakov and
// Gimelshein 2018). Nothing is shared, so that there is no barrier. On these adapters a load costs as much as dozens of products,
// and so does an array's element at an index that is not a constant: scores are computed and used at constant indices, and
// `accumulators` is read and written once per 16 keys. Rust: crates/kernels/src/gpu/attention.rs

alias Stored4 = vec4<f32>; // spec
// Channels of a head, in vec4s.
const D4: u32 = 18u; // spec

#import attention

const QUERIES: u32 = 8u;
const KEYS: u32 = 16u;

// Scores, then weights, of four keys each: [QUERIES, KEYS / 4].
var<private> scores: array<vec4<f32>, QUERIES * KEYS / 4u>;
// The largest score so far, the sum of weights, and the factor that rescales both the sum and the accumulators.
var<private> row_maxima: array<f32, QUERIES>;
var<private> weight_sums: array<f32, QUERIES>;
var<private> rescale: array<f32, QUERIES>;
var<private> accumulators: array<vec4<f32>, D4 * QUERIES>; // [D4, QUERIES]

fn add_scores(i: u32, at: u32, k0: mat4x4<f32>, k1: mat4x4<f32>, k2: mat4x4<f32>, k3: mat4x4<f32>) {
    let channels = vec4<f32>(q[at]);
    scores[4u * i] += channels * k0;
    scores[4u * i + 1u] += channels * k1;
    scores[4u * i + 2u] += channels * k2;
    scores[4u * i + 3u] += channels * k3;
}

fn update_softmax(i: u32, first_bias: u32, key: u32) {
    let s0 = scaled_scores(scores[4u * i], first_bias, key);
    let s1 = scaled_scores(scores[4u * i + 1u], first_bias, key + 4u);
    let s2 = scaled_scores(scores[4u * i + 2u], first_bias, key + 8u);
    let s3 = scaled_scores(scores[4u * i + 3u], first_bias, key + 12u);
    let row_max = max(row_maxima[i], max_component(max(max(s0, s1), max(s2, s3))));
    let w0 = exp(s0 - row_max);
    let w1 = exp(s1 - row_max);
    let w2 = exp(s2 - row_max);
    let w3 = exp(s3 - row_max);
    rescale[i] = exp(row_maxima[i] - row_max);
    weight_sums[i] = rescale[i] * weight_sums[i] + sum_components(w0 + w1 + w2 + w3);
    row_maxima[i] = row_max;
    scores[4u * i] = w0;
    scores[4u * i + 1u] = w1;
    scores[4u * i + 2u] = w2;
    scores[4u * i + 3u] = w3;
}

fn add_weighted_values(i: u32, d: u32, v0: mat4x4<f32>, v1: mat4x4<f32>, v2: mat4x4<f32>, v3: mat4x4<f32>) {
    let weighted = v0 * scores[4u * i] + v1 * scores[4u * i + 1u] + v2 * scores[4u * i + 2u] + v3 * scores[4u * i + 3u];
    accumulators[d * QUERIES + i] = rescale[i] * accumulators[d * QUERIES + i] + weighted;
}

@compute @workgroup_size(16, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let t = id.x * QUERIES;
    let n = id.y;
    let b = id.z;
    if (t >= params.t) {
        return;
    }
    // Past the edge the last query is computed again and not stored.
    let last = params.t - 1u;
    let q0 = query_offset(b, n, t);
    let q1 = query_offset(b, n, min(t + 1u, last));
    let q2 = query_offset(b, n, min(t + 2u, last));
    let q3 = query_offset(b, n, min(t + 3u, last));
    let q4 = query_offset(b, n, min(t + 4u, last));
    let q5 = query_offset(b, n, min(t + 5u, last));
    let q6 = query_offset(b, n, min(t + 6u, last));
    let q7 = query_offset(b, n, min(t + 7u, last));
    for (var i = 0u; i < QUERIES; i++) {
        row_maxima[i] = MIN_SCORE;
    }
    for (var key = 0u; key < params.l; key += KEYS) {
        scores = array<vec4<f32>, QUERIES * KEYS / 4u>();
        let keys0 = key_offsets(b, n, key);
        let keys1 = key_offsets(b, n, key + 4u);
        let keys2 = key_offsets(b, n, key + 8u);
        let keys3 = key_offsets(b, n, key + 12u);
        for (var d = 0u; d < D4; d++) {
            let k0 = load_keys(keys0, d);
            let k1 = load_keys(keys1, d);
            let k2 = load_keys(keys2, d);
            let k3 = load_keys(keys3, d);
            add_scores(0u, q0 + d, k0, k1, k2, k3);
            add_scores(1u, q1 + d, k0, k1, k2, k3);
            add_scores(2u, q2 + d, k0, k1, k2, k3);
            add_scores(3u, q3 + d, k0, k1, k2, k3);
            add_scores(4u, q4 + d, k0, k1, k2, k3);
            add_scores(5u, q5 + d, k0, k1, k2, k3);
            add_scores(6u, q6 + d, k0, k1, k2, k3);
            add_scores(7u, q7 + d, k0, k1, k2, k3);
        }
        for (var i = 0u; i < QUERIES; i++) {
            update_softmax(i, bias_offset(b, n, min(t + i, last)), key);
        }
        let values0 = value_offsets(b, n, key);
        let values1 = value_offsets(b, n, key + 4u);
        let values2 = value_offsets(b, n, key + 8u);
        let values3 = value_offsets(b, n, key + 12u);
        for (var d = 0u; d < D4; d++) {
            let v0 = load_values(values0, d);
            let v1 = load_values(values1, d);
            let v2 = load_values(values2, d);
            let v3 = load_values(values3, d);
            add_weighted_values(0u, d, v0, v1, v2, v3);
            add_weighted_values(1u, d, v0, v1, v2, v3);
            add_weighted_values(2u, d, v0, v1, v2, v3);
            add_weighted_values(3u, d, v0, v1, v2, v3);
            add_weighted_values(4u, d, v0, v1, v2, v3);
            add_weighted_values(5u, d, v0, v1, v2, v3);
            add_weighted_values(6u, d, v0, v1, v2, v3);
            add_weighted_values(7u, d, v0, v1, v2, v3);
        }
    }
    for (var i = 0u; i < min(QUERIES, params.t - t); i++) {
        let at = output_offset(b, n, t + i);
        for (var d = 0u; d < D4; d++) {
            y[at + d] = Stored4(accumulators[d * QUERIES + i] / weight_sums[i]);
        }
    }
}
