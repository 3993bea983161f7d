// Weights [K, N] in bf16, two to a word, low half first: each is the upper half of an f32.
struct Pair { left: vec4<f32>, right: vec4<f32> }

@group(0) @binding(1) var<storage, read> weights: array<vec2<u32>>;

// This format has no scales.
fn load_scales(block: u32, column4: u32, right: u32) -> Pair {
    return Pair();
}

fn unpack(words: vec2<u32>) -> vec4<f32> {
    let low = words << vec2<u32>(16u);
    let high = words & vec2<u32>(0xffff0000u);
    return bitcast<vec4<f32>>(vec4<u32>(low.x, high.x, low.y, high.y));
}

// Eight weights of one input: the vec4s at `at` = k·N/4 + column/4 and at `at + right`.
fn load_weights(at: u32, right: u32, scales: Pair) -> Pair {
    return Pair(unpack(weights[at]), unpack(weights[at + right]));
}
