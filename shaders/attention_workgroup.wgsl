// y = softmax(scale · q·kᵀ + bias) · v of every head of at most 112 channels, for GPUs
//
// q [B, T, ·], k and v [B, L, ·], of which a head is D columns, and y [B, T, N·D] stored as f32 or f16; bias f32, one stride for each
// axis of [B, N, T, L]; accumulators f32. D is a multiple of 4. One workgroup per 128 queries of a head. Two invocations share two
// queries: each has half of the channels of both in registers, so that a key or a value that it loads serves two queries. 8 keys
// and their values at a time are copied into workgroup memory; the partial scores are exchanged there, and each invocation
// computes the weights of one query. Accumulators are rescaled when the maximum grows: an online softmax (Milakov and Gimelshein
// 2018; Dao et al. 2022). Rust: crates/kernels/src/gpu/attention.rs

alias Stored4 = vec4<f32>; // spec
// Channels of a head, in vec4s, and half of them, rounded up.
const D4: u32 = 18u; // spec
const HALF4: u32 = 9u; // spec

#import attention

const INVOCATIONS: u32 = 128u;
const KEYS: u32 = 8u;
const KEYS4: u32 = 2u;
// vec4s of a key in workgroup memory, padded with zeros to an even number.
const ROW4: u32 = 2u * HALF4;

var<workgroup> key_tile: array<vec4<f32>, KEYS * ROW4>; // [KEYS, ROW4]
var<workgroup> value_tile: array<vec4<f32>, KEYS * ROW4>;
// First the partial scores of four keys that each invocation has for query `second` of its pair, then the weights.
var<workgroup> exchange: array<vec4<f32>, KEYS4 * 2u * INVOCATIONS>; // [KEYS4, 2, INVOCATIONS]
// The factor by which the accumulators of an invocation's own query are rescaled.
var<workgroup> rescale_tile: array<f32, INVOCATIONS>;

fn exchange_index(key4: u32, second: u32, invocation: u32) -> u32 {
    return (2u * key4 + second) * INVOCATIONS + invocation;
}

// Four channels of a query, or zeros past the head's end.
fn load_query(at: u32, d: u32) -> vec4<f32> {
    if (d >= D4) {
        return vec4<f32>();
    }
    return vec4<f32>(q[at + d]);
}

fn load_tile(b: u32, n: u32, key: u32, index: u32) {
    for (var at = index; at < KEYS * ROW4; at += INVOCATIONS) {
        // Past the last key that one is copied again.
        let row = b * params.l + min(key + at / ROW4, params.l - 1u);
        let d = at % ROW4;
        var loaded_key = vec4<f32>();
        var loaded_value = vec4<f32>();
        if (d < D4) {
            loaded_key = vec4<f32>(k[row * params.k_stride4 + params.k_first4 + n * D4 + d]);
            loaded_value = vec4<f32>(v[row * params.v_stride4 + params.v_first4 + n * D4 + d]);
        }
        key_tile[at] = loaded_key;
        value_tile[at] = loaded_value;
    }
}

// Four keys, one in each column.
fn tile_keys(at: u32) -> mat4x4<f32> {
    return mat4x4<f32>(key_tile[at], key_tile[at + ROW4], key_tile[at + 2u * ROW4], key_tile[at + 3u * ROW4]);
}

fn tile_values(at: u32) -> mat4x4<f32> {
    return mat4x4<f32>(value_tile[at], value_tile[at + ROW4], value_tile[at + 2u * ROW4], value_tile[at + 3u * ROW4]);
}

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let n = group.y;
    let b = group.z;
    // The half of the channels, and the query of the pair that is the invocation's own.
    let part = index % 2u;
    let pair = index - part;
    let first_t = group.x * INVOCATIONS + pair;
    // Past the edge the last query is computed again and not stored.
    let last = params.t - 1u;
    let first_bias = bias_offset(b, n, min(first_t + part, last));
    let first_d = part * HALF4;
    var channels: array<array<vec4<f32>, HALF4>, 2>; //#scalars
    var sums: array<array<vec4<f32>, HALF4>, 2>; //#scalars
    //#unroll
    for (var i = 0u; i < 2u; i++) {
        let query = query_offset(b, n, min(first_t + i, last));
        //#unroll
        for (var d = 0u; d < HALF4; d++) {
            channels[i][d] = load_query(query, first_d + d);
            sums[i][d] = vec4<f32>();
        }
    }
    var row_max = MIN_SCORE;
    var weight_sum = 0.0;
    for (var key = 0u; key < params.l; key += KEYS) {
        workgroupBarrier();
        load_tile(b, n, key, index);
        workgroupBarrier();
        for (var key4 = 0u; key4 < KEYS4; key4++) {
            let at = 4u * key4 * ROW4 + first_d;
            var products0 = vec4<f32>();
            var products1 = vec4<f32>();
            //#unroll
            for (var d = 0u; d < HALF4; d++) {
                let keys = tile_keys(at + d);
                products0 += channels[0][d] * keys;
                products1 += channels[1][d] * keys;
            }
            exchange[exchange_index(key4, 0u, index)] = products0;
            exchange[exchange_index(key4, 1u, index)] = products1;
        }
        workgroupBarrier();
        var new_max = row_max;
        var new_scores: array<vec4<f32>, KEYS4>; //#scalars
        //#unroll
        for (var i = 0u; i < KEYS4; i++) {
            let products = exchange[exchange_index(i, part, pair)] + exchange[exchange_index(i, part, pair + 1u)];
            new_scores[i] = scaled_scores(products, first_bias, key + 4u * i);
            new_max = max(new_max, max_component(new_scores[i]));
        }
        let rescale = exp(row_max - new_max);
        row_max = new_max;
        weight_sum *= rescale;
        rescale_tile[index] = rescale;
        //#unroll
        for (var i = 0u; i < KEYS4; i++) {
            let weights = exp(new_scores[i] - row_max);
            weight_sum += sum_components(weights);
            // In the place of this invocation's own partial score, which no other invocation reads.
            exchange[exchange_index(i, part, index)] = weights;
        }
        workgroupBarrier();
        //#unroll
        for (var i = 0u; i < 2u; i++) {
            let rescale_query = rescale_tile[pair + i];
            //#unroll
            for (var d = 0u; d < HALF4; d++) {
                sums[i][d] *= rescale_query;
            }
        }
        for (var key4 = 0u; key4 < KEYS4; key4++) {
            let at = 4u * key4 * ROW4 + first_d;
            let weights0 = exchange[exchange_index(key4, 0u, pair)];
            let weights1 = exchange[exchange_index(key4, 1u, pair + 1u)];
            //#unroll
            for (var d = 0u; d < HALF4; d++) {
                let values = tile_values(at + d);
                sums[0][d] += values * weights0;
                sums[1][d] += values * weights1;
            }
        }
    }
    workgroupBarrier();
    rescale_tile[index] = 1.0 / weight_sum;
    workgroupBarrier();
    //#unroll
    for (var i = 0u; i < 2u; i++) {
        if (first_t + i < params.t) {
            let at = output_offset(b, n, first_t + i) + first_d;
            let scale = rescale_tile[pair + i];
            //#unroll
            for (var d = 0u; d < HALF4; d++) {
                if (first_d + d < D4) {
                    y[at + d] = Stored4(sums[i][d] * scale);
                }
            }
        }
    }
}
