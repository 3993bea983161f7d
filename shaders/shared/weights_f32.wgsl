// Weights [K, N] in f32.
struct Pair { left: vec4<f32>, right: vec4<f32> }

@group(0) @binding(1) var<storage, read> weights: array<vec4<f32>>;

// What the 32 weights of a column share: nothing here.
fn scales_at(block: u32, column4: u32) -> Pair {
    return Pair();
}

// Eight weights of input k, from column 4·column4 on.
fn weights_at(k: u32, column4: u32, scales: Pair) -> Pair {
    let at = k * params.n4;
    return Pair(weights[at + column4], weights[at + min(column4 + 1u, params.n4 - 1u)]);
}
