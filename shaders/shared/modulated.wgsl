// What a normalised number becomes, by the row of its picture.
fn modulated(row: u32, k: u32, value: vec4<f32>) -> vec4<f32> {
    if (params.modulated == 0u) {
        return value;
    }
    let picture = row / params.rows * params.stride4;
    let scale = modulation[params.scale_start4 + picture + k];
    if (params.centred == 0u) {
        return value * scale;
    }
    return value * (1.0 + scale) + modulation[params.shift_start4 + picture + k];
}
