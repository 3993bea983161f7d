// Weights [K, N] in f16, two to a word, low half first. Unpacking needs no device feature.
struct Pair { left: vec4<f32>, right: vec4<f32> }

@group(0) @binding(1) var<storage, read> weights: array<vec2<u32>>;

// What the 32 weights of a column share: nothing here.
fn scales_at(block: u32, column4: u32) -> Pair {
    return Pair();
}

fn unpacked(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

// Eight weights of input k, from column 4·column4 on.
fn weights_at(k: u32, column4: u32, scales: Pair) -> Pair {
    let at = k * params.n4;
    return Pair(unpacked(weights[at + column4]), unpacked(weights[at + min(column4 + 1u, params.n4 - 1u)]));
}
