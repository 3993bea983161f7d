// y = softmax(scale · q·kᵀ + bias) · v of every head of more than 112 and at most 512 channels, for GPUs
//
// q [B, T, ·], k and v [B, L, ·], of which a head is D columns, and y [B, T, N·D] stored as f32 or f16; bias f32, one stride for each
// axis of [B, N, T, L]; accumulators f32. D is a multiple of 4. One workgroup per 16 queries of a head, 32 keys at a time. An
// invocation first accumulates the scores of one query and four keys, 64 channels at a time, from workgroup memory; then it
// accumulates four channels of all 16 queries. Accumulators are rescaled when the maximum grows: an online softmax (Milakov and
// Gimelshein 2018; Dao et al. 2022). Rust: crates/kernels/src/gpu/attention.rs

alias Stored4 = vec4<f32>; // spec
// Channels of a head, in vec4s.
const D4: u32 = 128u; // spec

#import attention

const INVOCATIONS: u32 = 128u;
const QUERIES: u32 = 16u;
const KEYS: u32 = 32u;
const KEYS4: u32 = 8u;
// Channels of one stage, in vec4s.
const STAGE4: u32 = 16u;

var<workgroup> query_tile: array<vec4<f32>, QUERIES * STAGE4>; // [QUERIES, STAGE4]
var<workgroup> key_tile: array<vec4<f32>, KEYS * STAGE4>; // [KEYS, STAGE4]
var<workgroup> weights: array<vec4<f32>, QUERIES * KEYS4>; // [QUERIES, KEYS4]
// One value of each invocation, for the others of its query: the maximum, then the sum of weights.
var<workgroup> exchange: array<f32, INVOCATIONS>; // [QUERIES, KEYS4]
var<workgroup> rescale_tile: array<f32, QUERIES>;

// Copies the channels from 4 · begin on. Beyond the head they are zeros, which add nothing.
fn load_tiles(b: u32, n: u32, first_t: u32, first_key: u32, begin: u32, index: u32) {
    for (var at = index; at < QUERIES * STAGE4; at += INVOCATIONS) {
        let d = begin + at % STAGE4;
        var loaded = vec4<f32>();
        if (d < D4) {
            loaded = vec4<f32>(q[query_offset(b, n, min(first_t + at / STAGE4, params.t - 1u)) + d]);
        }
        query_tile[at] = loaded;
    }
    for (var at = index; at < KEYS * STAGE4; at += INVOCATIONS) {
        let d = begin + at % STAGE4;
        var loaded = vec4<f32>();
        if (d < D4) {
            loaded = vec4<f32>(k[key_offsets(b, n, first_key + at / STAGE4).x + d]);
        }
        key_tile[at] = loaded;
    }
}

@compute @workgroup_size(128, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let n = group.y;
    let b = group.z;
    let first_t = group.x * QUERIES;
    let i = index / KEYS4;
    let first_key = 4u * (index % KEYS4);
    let first_bias = bias_offset(b, n, min(first_t + i, params.t - 1u));
    var accumulators: array<vec4<f32>, QUERIES>;
    var row_max = MIN_SCORE;
    // Of this invocation's keys alone.
    var weight_sum = 0.0;
    for (var key = 0u; key < params.l; key += KEYS) {
        var scores = vec4<f32>();
        for (var begin = 0u; begin < D4; begin += STAGE4) {
            load_tiles(b, n, first_t, key, begin, index);
            workgroupBarrier();
            for (var d = 0u; d < STAGE4; d++) {
                let at = first_key * STAGE4 + d;
                let k0 = key_tile[at];
                let k1 = key_tile[at + STAGE4];
                let k2 = key_tile[at + 2u * STAGE4];
                let k3 = key_tile[at + 3u * STAGE4];
                scores += query_tile[i * STAGE4 + d] * mat4x4<f32>(k0, k1, k2, k3);
            }
            workgroupBarrier();
        }
        scores = scaled_scores(scores, first_bias, key + first_key);
        exchange[index] = max_component(scores);
        workgroupBarrier();
        var new_max = row_max;
        for (var other = 0u; other < KEYS4; other++) {
            new_max = max(new_max, exchange[i * KEYS4 + other]);
        }
        let rescale = exp(row_max - new_max);
        row_max = new_max;
        scores = exp(scores - row_max);
        weight_sum = rescale * weight_sum + sum_components(scores);
        weights[index] = scores;
        if (first_key == 0u) {
            rescale_tile[i] = rescale;
        }
        workgroupBarrier();
        if (index < D4) {
            for (var row = 0u; row < QUERIES; row++) {
                accumulators[row] *= rescale_tile[row];
            }
            for (var key4 = 0u; key4 < KEYS4; key4++) {
                let values4 = load_values(value_offsets(b, n, key + 4u * key4), index);
                for (var row = 0u; row < QUERIES; row++) {
                    accumulators[row] += values4 * weights[row * KEYS4 + key4];
                }
            }
        }
    }
    exchange[index] = weight_sum;
    workgroupBarrier();
    if (index >= D4) {
        return;
    }
    for (var row = 0u; row < QUERIES; row++) {
        var row_sum = 0.0;
        for (var other = 0u; other < KEYS4; other++) {
            row_sum += exchange[row * KEYS4 + other];
        }
        if (first_t + row < params.t) {
            y[output_offset(b, n, first_t + row) + index] = Stored4(accumulators[row] / row_sum);
        }
    }
}
