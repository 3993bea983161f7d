// Nonlinearities of f32, four at a time.

// tanh is 1 in f32 beyond this, and may be built of exponentials, which overflow.
const TANH_ONE: vec4<f32> = vec4<f32>(10.0);
const SQRT_2_OVER_PI: f32 = 0.7978845608;

// 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) (Hendrycks and Gimpel 2016)
fn gelu(x: vec4<f32>) -> vec4<f32> {
    let inner = SQRT_2_OVER_PI * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1.0 + tanh(clamp(inner, -TANH_ONE, TANH_ONE)));
}

// x / (1 + e^-x)
fn silu(x: vec4<f32>) -> vec4<f32> {
    return x / (1.0 + exp(-x));
}
