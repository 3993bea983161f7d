// Weights [K, N] in f32.
struct Pair { left: vec4<f32>, right: vec4<f32> }

@group(0) @binding(1) var<storage, read> weights: array<vec4<f32>>;

// What the 32 weights of a column share: nothing here.
fn load_scales(block: u32, column4: u32, right: u32) -> Pair {
    return Pair();
}

// Eight weights of one input: the fours at `at` = k·N/4 + column/4 and, `right` further, beside it.
fn load_weights(at: u32, right: u32, scales: Pair) -> Pair {
    return Pair(weights[at], weights[at + right]);
}
