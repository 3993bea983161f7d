// Count, mean and sum of squared distances from the mean.
struct Moments { count: f32, mean: f32, squares: f32 }

// The moments of the union of two sets, either of which may be empty (Chan et al. 1983). No sums of squares are subtracted.
fn combine_moments(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let difference = b.mean - a.mean;
    let share = b.count / max(count, 1.0);
    return Moments(count, a.mean + share * difference, a.squares + b.squares + share * a.count * difference * difference);
}

// The moments of four values.
fn moments_of_vec4(values: vec4<f32>) -> Moments {
    let mean = dot(values, vec4<f32>(0.25));
    let differences = values - mean;
    return Moments(4.0, mean, dot(differences, differences));
}

// Moments in memory, with one unused value.
fn pack_moments(moments: Moments) -> vec4<f32> {
    return vec4<f32>(moments.count, moments.mean, moments.squares, 0.0);
}

fn unpack_moments(stored: vec4<f32>) -> Moments {
    return Moments(stored.x, stored.y, stored.z);
}
