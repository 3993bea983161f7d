// Weights [K, N] as i8, four columns to a word, low byte first; after them one f16 scale for each column of each block of
// 32 inputs, [K/32, N], two to a word. weight = scale · i8.
//#needs struct Params { k4: u32, n4: u32 }
//#needs @group(0) @binding(9) var<storage, read> params: Params;
struct Pair { left: vec4<f32>, right: vec4<f32> }

@group(0) @binding(1) var<storage, read> weights: array<u32>;

fn load_scales4(block: u32, column4: u32) -> vec4<f32> {
    let at = params.k4 * 4u * params.n4 + 2u * (block * params.n4 + column4);
    return vec4<f32>(unpack2x16float(weights[at]), unpack2x16float(weights[at + 1u]));
}

// The scales that 32 weights of a column share.
fn load_scales(block: u32, column4: u32, right: u32) -> Pair {
    return Pair(load_scales4(block, column4), load_scales4(block, column4 + right));
}

fn unpack(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// Eight weights of one input: the vec4s at `at` = k·N/4 + column/4 and at `at + right`.
fn load_weights(at: u32, right: u32, scales: Pair) -> Pair {
    return Pair(scales.left * unpack(weights[at]), scales.right * unpack(weights[at + right]));
}
