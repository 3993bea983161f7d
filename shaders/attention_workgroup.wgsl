// y = softmax(scale · q·kᵀ + bias) · v of every head of at most 112 channels, for GPUs
//
// q [B, T, ·], k and v [B, L, ·], of which a head is D columns, and y [B, T, N·D] stored as f32 or f16; bias f32, one
// stride for each axis of [B, N, T, L]; sums f32. D is a multiple of 4. One workgroup per 128 queries of a head. Two
// invocations share two queries: each has half of the channels of both in registers, so that what it reads of a key or a
// value serves two queries. 8 keys and their values at a time are copied into workgroup memory; the halves of their scores
// are exchanged there, and each invocation makes the weights of one query. The sums shrink by as much as the maximum grew
// (Milakov and Gimelshein 2018; Dao et al. 2022). Rust: crates/kernels/src/gpu/attention.rs

alias Stored4 = vec4<f32>; // spec
// Channels of a head, in fours, and half of them, rounded up.
const D4: u32 = 18u; // spec
const HALF4: u32 = 9u; // spec

//#import attention

const INVOCATIONS: u32 = 128u;
const KEYS: u32 = 8u;
const KEYS4: u32 = 2u;
// Fours of a key in workgroup memory: zeros stand after an odd number.
const ROW4: u32 = 2u * HALF4;

var<workgroup> key_tile: array<vec4<f32>, KEYS * ROW4>; // [KEYS, ROW4]
var<workgroup> value_tile: array<vec4<f32>, KEYS * ROW4>;
// Halves of four scores, and then their weights: of query `second` of the pair, told by each invocation.
var<workgroup> exchange: array<vec4<f32>, KEYS4 * 2u * INVOCATIONS>; // [KEYS4, 2, INVOCATIONS]
// By how much the sums of an invocation's own query shrink.
var<workgroup> rescale_tile: array<f32, INVOCATIONS>;

fn exchange_index(key4: u32, second: u32, invocation: u32) -> u32 {
    return (2u * key4 + second) * INVOCATIONS + invocation;
}

// Four channels of a query; zeros after an odd number.
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
    // Which half of the channels, and which query of the pair is the invocation's own.
    let part = index % 2u;
    let pair = index - part;
    let first_t = group.x * INVOCATIONS + pair;
    // Past the edge the last query is computed again and not stored.
    let last = params.t - 1u;
    let first_bias = bias_offset(b, n, min(first_t + part, last));
    let first_d = part * HALF4;
//#each i < 2
    let query$i = query_offset(b, n, min(first_t + $iu, last));
//#each d < HALF4
    let q$i_$d = load_query(query$i, first_d + $du);
    var sum$i_$d = vec4<f32>();
//#end
//#end
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
//#each d < HALF4
            let keys$d = tile_keys(at + $du);
            products0 += q0_$d * keys$d;
            products1 += q1_$d * keys$d;
//#end
            exchange[exchange_index(key4, 0u, index)] = products0;
            exchange[exchange_index(key4, 1u, index)] = products1;
        }
        workgroupBarrier();
        var new_max = row_max;
//#each i < KEYS4
        let products_$i = exchange[exchange_index($iu, part, pair)] + exchange[exchange_index($iu, part, pair + 1u)];
        let scores$i = scaled_scores(products_$i, first_bias, key + 4u * $iu);
        new_max = max(new_max, max_component(scores$i));
//#end
        let rescale = exp(row_max - new_max);
        row_max = new_max;
        weight_sum *= rescale;
        rescale_tile[index] = rescale;
//#each i < KEYS4
        let weights$i = exp(scores$i - row_max);
        weight_sum += sum_components(weights$i);
        // Where this invocation's own half was: no other reads it.
        exchange[exchange_index($iu, part, index)] = weights$i;
//#end
        workgroupBarrier();
//#each i < 2
        let rescale_tile$i = rescale_tile[pair + $iu];
//#each d < HALF4
        sum$i_$d *= rescale_tile$i;
//#end
//#end
        for (var key4 = 0u; key4 < KEYS4; key4++) {
            let at = 4u * key4 * ROW4 + first_d;
            let weights_0 = exchange[exchange_index(key4, 0u, pair)];
            let weights_1 = exchange[exchange_index(key4, 1u, pair + 1u)];
//#each d < HALF4
            let values$d = tile_values(at + $du);
            sum0_$d += values$d * weights_0;
            sum1_$d += values$d * weights_1;
//#end
        }
    }
    workgroupBarrier();
    rescale_tile[index] = 1.0 / weight_sum;
    workgroupBarrier();
//#each i < 2
    if (first_t + $iu < params.t) {
        let at = output_offset(b, n, first_t + $iu) + first_d;
        let scale = rescale_tile[pair + $iu];
//#each d < HALF4
        if (first_d + $du < D4) {
            y[at + $du] = Stored4(sum$i_$d * scale);
        }
//#end
    }
//#end
}
