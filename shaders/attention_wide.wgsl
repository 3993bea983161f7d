// y = softmax(scale · q·kᵀ + bias) · v of every head of more than 128 and at most 512 channels, for GPUs
//
// q [B, T, ·], k and v [B, L, ·], of which a head is D columns, and y [B, T, N·D] stored as f32 or f16; bias f32, one
// stride for each axis of [B, N, T, L]; sums f32. D is a multiple of 4. One workgroup per 16 queries of a head; it takes
// 32 keys at a time. An invocation first has the scores of one query and four keys, to which it adds 64 channels at a time
// from workgroup memory; then it has four channels of all 16 sums. Sums shrink by as much as their maximum grew (Milakov
// and Gimelshein 2018; Dao et al. 2022). Rust: crates/kernels/src/attention.rs

alias Stored4 = vec4<f32>; // spec
// Channels of a head, in fours.
const D4: u32 = 128u; // spec

//#import attention

const INVOCATIONS: u32 = 128u;
const QUERIES: u32 = 16u;
const KEYS: u32 = 32u;
const KEYS4: u32 = 8u;
// Channels of one stage, in fours.
const STAGE4: u32 = 16u;

var<workgroup> query_tile: array<vec4<f32>, QUERIES * STAGE4>; // [QUERIES, STAGE4]
var<workgroup> key_tile: array<vec4<f32>, KEYS * STAGE4>; // [KEYS, STAGE4]
var<workgroup> weights: array<vec4<f32>, QUERIES * KEYS4>; // [QUERIES, KEYS4]
// A number of each invocation, for the others of its query.
var<workgroup> told: array<f32, INVOCATIONS>; // [QUERIES, KEYS4]
var<workgroup> kept: array<f32, QUERIES>;

// Copies the channels from 4·begin on; beyond the head there are zeros, which add nothing.
fn stage(b: u32, n: u32, first_t: u32, first_key: u32, begin: u32, index: u32) {
    for (var at = index; at < QUERIES * STAGE4; at += INVOCATIONS) {
        let d = begin + at % STAGE4;
        var staged = vec4<f32>();
        if (d < D4) {
            staged = vec4<f32>(q[query_at(b, n, min(first_t + at / STAGE4, params.t - 1u)) + d]);
        }
        query_tile[at] = staged;
    }
    for (var at = index; at < KEYS * STAGE4; at += INVOCATIONS) {
        let d = begin + at % STAGE4;
        var staged = vec4<f32>();
        if (d < D4) {
            staged = vec4<f32>(k[keys_at(b, n, first_key + at / STAGE4).x + d]);
        }
        key_tile[at] = staged;
    }
}

@compute @workgroup_size(128, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let n = group.y;
    let b = group.z;
    let first_t = group.x * QUERIES;
    let i = index / KEYS4;
    let own_keys = 4u * (index % KEYS4);
    let first_bias = bias_at(b, n, min(first_t + i, params.t - 1u));
    var sums: array<vec4<f32>, QUERIES>;
    var peak = LOWEST;
    // Of this invocation's keys alone.
    var weight_total = 0.0;
    for (var key = 0u; key < params.l; key += KEYS) {
        var scores = vec4<f32>();
        for (var begin = 0u; begin < D4; begin += STAGE4) {
            stage(b, n, first_t, key, begin, index);
            workgroupBarrier();
            for (var d = 0u; d < STAGE4; d++) {
                let at = own_keys * STAGE4 + d;
                let k0 = key_tile[at];
                let k1 = key_tile[at + STAGE4];
                let k2 = key_tile[at + 2u * STAGE4];
                let k3 = key_tile[at + 3u * STAGE4];
                scores += query_tile[i * STAGE4 + d] * mat4x4<f32>(k0, k1, k2, k3);
            }
            workgroupBarrier();
        }
        scores = finished(scores, first_bias, key + own_keys);
        told[index] = largest(scores);
        workgroupBarrier();
        var new_peak = peak;
        for (var other = 0u; other < KEYS4; other++) {
            new_peak = max(new_peak, told[i * KEYS4 + other]);
        }
        let shrink = exp(peak - new_peak);
        peak = new_peak;
        scores = exp(scores - peak);
        weight_total = shrink * weight_total + total(scores);
        weights[index] = scores;
        if (own_keys == 0u) {
            kept[i] = shrink;
        }
        workgroupBarrier();
        if (index < D4) {
            for (var row = 0u; row < QUERIES; row++) {
                sums[row] *= kept[row];
            }
            for (var four = 0u; four < KEYS4; four++) {
                let four_values = values(values_at(b, n, key + 4u * four), index);
                for (var row = 0u; row < QUERIES; row++) {
                    sums[row] += four_values * weights[row * KEYS4 + four];
                }
            }
        }
    }
    told[index] = weight_total;
    workgroupBarrier();
    if (index >= D4) {
        return;
    }
    for (var row = 0u; row < QUERIES; row++) {
        var all_weights = 0.0;
        for (var other = 0u; other < KEYS4; other++) {
            all_weights += told[row * KEYS4 + other];
        }
        if (first_t + row < params.t) {
            y[output_at(b, n, first_t + row) + index] = Stored4(sums[row] / all_weights);
        }
    }
}
