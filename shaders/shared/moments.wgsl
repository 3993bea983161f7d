// Count, mean and sum of squared distances from the mean.
struct Moments { count: f32, mean: f32, squares: f32 }

// The moments of both sets together (Chan et al. 1983). Sums of squares are never subtracted.
fn merged(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let distance = b.mean - a.mean;
    let share = b.count / count;
    return Moments(count, a.mean + share * distance, a.squares + b.squares + share * a.count * distance * distance);
}
