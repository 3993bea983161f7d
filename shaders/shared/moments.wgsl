// Count, mean and sum of squared distances from the mean.
struct Moments { count: f32, mean: f32, squares: f32 }

// The moments of both sets together (Chan et al. 1983), either of which may be empty. Sums of squares are never subtracted.
fn combine_moments(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let difference = b.mean - a.mean;
    let share = b.count / max(count, 1.0);
    return Moments(count, a.mean + share * difference, a.squares + b.squares + share * a.count * difference * difference);
}

// Of four numbers.
fn moments_of_vec4(values: vec4<f32>) -> Moments {
    let mean = dot(values, vec4<f32>(0.25));
    let differences = values - mean;
    return Moments(4.0, mean, dot(differences, differences));
}

// As they are stored, with a number that is not used, and back.
fn pack_moments(moments: Moments) -> vec4<f32> {
    return vec4<f32>(moments.count, moments.mean, moments.squares, 0.0);
}

fn unpack_moments(stored: vec4<f32>) -> Moments {
    return Moments(stored.x, stored.y, stored.z);
}
