// Weights [K, N] as four bits, eight columns to a word, lowest first; after them one f32 scale for each column of each block of
// 32 inputs, [K/32, N], and then as many f32 minimums. weight = scale · nibble + minimum.
//#needs struct Params { k4: u32, n4: u32 }
//#needs @group(0) @binding(9) var<storage, read> params: Params;
struct Pair { left: vec4<f32>, right: vec4<f32> }
struct AffinePair { scales: Pair, minimums: Pair }

@group(0) @binding(1) var<storage, read> weights: array<u32>;

fn load4(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]));
}

// The scales and minimums that 32 weights of a column share.
fn load_scales(block: u32, column4: u32, right: u32) -> AffinePair {
    let scales = params.k4 * 2u * params.n4 + 4u * (block * params.n4 + column4);
    let minimums = scales + params.k4 / 8u * 4u * params.n4;
    return AffinePair(
        Pair(load4(scales), load4(scales + 4u * right)),
        Pair(load4(minimums), load4(minimums + 4u * right)),
    );
}

fn unpack(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u));
}

// Eight weights of one input: the vec4s at `at` = k·N/4 + column/4 and at `at + right`.
fn load_weights(at: u32, right: u32, blocks: AffinePair) -> Pair {
    let word = weights[at / 2u];
    return Pair(
        blocks.scales.left * unpack(word) + blocks.minimums.left,
        blocks.scales.right * unpack(word >> 16u) + blocks.minimums.right,
    );
}
