// Bindings of the attention shaders, offsets of heads, and the scaling and masking of scores.
//#needs alias Stored4 = vec4<f32>;
//#needs const D4: u32 = 18u;

struct Params {
    t: u32,
    l: u32,
    q_first4: u32,
    q_stride4: u32,
    k_first4: u32,
    k_stride4: u32,
    v_first4: u32,
    v_stride4: u32,
    y_stride4: u32,
    scale: f32,
    has_bias: u32,
    bias_b: u32,
    bias_n: u32,
    bias_t: u32,
    bias_l: u32,
}

@group(0) @binding(0) var<storage, read> q: array<Stored4>;
@group(0) @binding(1) var<storage, read> k: array<Stored4>;
@group(0) @binding(2) var<storage, read> v: array<Stored4>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<Stored4>;
@group(0) @binding(5) var<storage, read> params: Params;

// The lowest score: the difference of two scores is finite, whatever is added to mask a key.
const MIN_SCORE: f32 = -1e30;
// Lower than all scores, so that padding past the last key has no weight, even if every key is masked.
const PADDING_SCORE: f32 = -2e30;
const IOTA: vec4<u32> = vec4<u32>(0u, 1u, 2u, 3u);

// Offset of head n of query t of image b, and of its biases.
fn query_offset(b: u32, n: u32, t: u32) -> u32 {
    return (b * params.t + t) * params.q_stride4 + params.q_first4 + n * D4;
}

fn output_offset(b: u32, n: u32, t: u32) -> u32 {
    return (b * params.t + t) * params.y_stride4 + n * D4;
}

fn bias_offset(b: u32, n: u32, t: u32) -> u32 {
    return b * params.bias_b + n * params.bias_n + t * params.bias_t;
}

// Offsets of head n of four keys, and of their values. Past the last key they are those of the last.
fn key_offsets(b: u32, n: u32, key: u32) -> vec4<u32> {
    let rows = b * params.l + min(key + IOTA, vec4<u32>(params.l - 1u));
    return rows * params.k_stride4 + params.k_first4 + n * D4;
}

fn value_offsets(b: u32, n: u32, key: u32) -> vec4<u32> {
    let rows = b * params.l + min(key + IOTA, vec4<u32>(params.l - 1u));
    return rows * params.v_stride4 + params.v_first4 + n * D4;
}

// Four channels of four keys, one key per column.
fn load_keys(at: vec4<u32>, d: u32) -> mat4x4<f32> {
    return mat4x4<f32>(vec4<f32>(k[at.x + d]), vec4<f32>(k[at.y + d]), vec4<f32>(k[at.z + d]), vec4<f32>(k[at.w + d]));
}

fn load_values(at: vec4<u32>, d: u32) -> mat4x4<f32> {
    return mat4x4<f32>(vec4<f32>(v[at.x + d]), vec4<f32>(v[at.y + d]), vec4<f32>(v[at.z + d]), vec4<f32>(v[at.w + d]));
}

// The scores of four keys: their products with a query, scaled, with the biases that begin at `first_bias`, and masked.
fn scaled_scores(products: vec4<f32>, first_bias: u32, key: u32) -> vec4<f32> {
    let at = key + IOTA;
    var scores = params.scale * products;
    if (params.has_bias == 1u) {
        let offsets = first_bias + min(at, vec4<u32>(params.l - 1u)) * params.bias_l;
        scores += vec4<f32>(bias[offsets.x], bias[offsets.y], bias[offsets.z], bias[offsets.w]);
    }
    return select(vec4<f32>(PADDING_SCORE), max(scores, vec4<f32>(MIN_SCORE)), at < vec4<u32>(params.l));
}

fn max_component(x: vec4<f32>) -> f32 {
    return max(max(x.x, x.y), max(x.z, x.w));
}

fn sum_components(x: vec4<f32>) -> f32 {
    return x.x + x.y + x.z + x.w;
}
