//! Random numbers of synthetic weights.

use std::io::Write;

use safetensors::Dtype;

/// Exponent bias of `F8_E4M3`.
const F8_BIAS: i32 = 7;

/// Channels of a head of T5.
const T5_HEAD_CHANNELS: f32 = 64.0;

/// Uniform numbers from -1 to 1, by xorshift64*.
pub(super) struct XorShift64(u64);

impl XorShift64 {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn next(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A uniform distribution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uniform {
    pub(super) center: f32,
    pub(super) half_width: f32,
}

impl Uniform {
    pub(super) fn constant(value: f32) -> Self {
        Self { center: value, half_width: 0.0 }
    }

    /// Returns a distribution of a tensor with which activations neither vanish nor explode.
    pub(super) fn of(name: &str, shape: &[usize]) -> Self {
        let (center, half_width) = match shape {
            [_] if name.ends_with("weight") => (1.0, 0.1),
            [_] => (0.0, 0.05),
            _ if name.ends_with("scale_shift_table") => (0.0, 0.3),
            _ if name == "shared.weight" || name == "encoder.embed_tokens.weight" => (0.0, 1.0),
            // T5 does not divide its logits by the root of a head's channels; the weights of its queries are trained so.
            [_, channels] if name.ends_with("SelfAttention.q.weight") => {
                (0.0, (3.0 / *channels as f32).sqrt() / T5_HEAD_CHANNELS.sqrt())
            }
            _ => (0.0, (3.0 / shape[1..].iter().product::<usize>() as f32).sqrt()),
        };
        Self { center, half_width }
    }

    pub(super) fn sample(self, random: &mut XorShift64) -> f32 {
        self.center + self.half_width * random.next()
    }
}

/// Writes a number in a dtype of floats.
pub(super) fn write_value(dtype: Dtype, value: f32, to: &mut impl Write) -> std::io::Result<()> {
    match dtype {
        Dtype::F16 => to.write_all(&half::f16::from_f32(value).to_le_bytes()),
        Dtype::BF16 => to.write_all(&half::bf16::from_f32(value).to_le_bytes()),
        Dtype::F8_E4M3 => to.write_all(&[f8_from_f32(value)]),
        _ => to.write_all(&value.to_le_bytes()),
    }
}

/// Returns the `F8_E4M3` of a number below 240, truncated.
fn f8_from_f32(value: f32) -> u8 {
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + F8_BIAS;
    let sign = (bits >> 24 & 0x80) as u8;
    // Numbers below the normal ones are zero.
    if exponent < 1 { sign } else { sign | (exponent.min(14) as u8) << 3 | (bits >> 20 & 7) as u8 }
}
