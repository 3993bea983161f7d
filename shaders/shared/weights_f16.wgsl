// Weights [K, N] in f16, two to a word, low half first. Unpacking them needs no device feature.
struct Pair { left: vec4<f32>, right: vec4<f32> }

@group(0) @binding(1) var<storage, read> weights: array<vec2<u32>>;

// This format has no scales.
fn load_scales(block: u32, column4: u32, right: u32) -> Pair {
    return Pair();
}

fn unpack(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

// Eight weights of one input: the vec4s at `at` = k·N/4 + column/4 and at `at + right`.
fn load_weights(at: u32, right: u32, scales: Pair) -> Pair {
    return Pair(unpack(weights[at]), unpack(weights[at + right]));
}
