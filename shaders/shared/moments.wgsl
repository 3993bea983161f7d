// Count, mean and sum of squared distances from the mean.
struct Moments { count: f32, mean: f32, squares: f32 }

// The moments of both sets together (Chan et al. 1983), either of which may be empty. Sums of squares are never subtracted.
fn merged(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let distance = b.mean - a.mean;
    let share = b.count / max(count, 1.0);
    return Moments(count, a.mean + share * distance, a.squares + b.squares + share * a.count * distance * distance);
}

// Of four numbers.
fn moments_of_four(values: vec4<f32>) -> Moments {
    let mean = dot(values, vec4<f32>(0.25));
    let distances = values - mean;
    return Moments(4.0, mean, dot(distances, distances));
}

// As they are stored, with a number that is not used, and back.
fn as_stored(moments: Moments) -> vec4<f32> {
    return vec4<f32>(moments.count, moments.mean, moments.squares, 0.0);
}

fn from_stored(stored: vec4<f32>) -> Moments {
    return Moments(stored.x, stored.y, stored.z);
}
