// Weights [K, N] in f32.
struct Pair { left: vec4<f32>, right: vec4<f32> }

@group(0) @binding(1) var<storage, read> weights: array<vec4<f32>>;

// This format has no scales.
fn load_scales(block: u32, column4: u32, right: u32) -> Pair {
    return Pair();
}

// Eight weights of one input: the vec4s at `at` = k·N/4 + column/4 and at `at + right`.
fn load_weights(at: u32, right: u32, scales: Pair) -> Pair {
    return Pair(weights[at], weights[at + right]);
}
