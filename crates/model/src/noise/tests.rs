//! Values recorded from torch 2.15 (CPU): `torch.randn(count, generator=torch.Generator("cpu").manual_seed(seed))`.

use burn::tensor::{Device, Tensor};

use pixart_weights::Tensors;

use super::{Mt19937, Noise, TorchGenerator, randn};
use crate::compare;

/// torch's own builds differ from each other by as much.
const TOLERANCE: f32 = 2.5e-7;

/// The first index at which the two differ, and both values there.
fn difference(got: &[f32], expected: &[f32]) -> Option<(usize, f32, f32)> {
    assert_eq!(got.len(), expected.len());
    let close = |got: f32, expected: f32| (got - expected).abs() <= TOLERANCE * expected.abs().max(1.0);
    let mut pairs = got.iter().copied().zip(expected.iter().copied()).enumerate();
    let (index, (got, expected)) = pairs.find(|(_, (got, expected))| !close(*got, *expected))?;
    Some((index, got, expected))
}

fn assert_ends(seed: u64, count: usize, first: [f32; 5], last: [f32; 5]) {
    let numbers = randn(seed, count);
    assert_eq!(numbers.len(), count);
    assert_eq!(difference(&numbers[..5], &first), None, "first of {count} numbers of seed {seed}");
    assert_eq!(difference(&numbers[count - 5..], &last), None, "last of {count} numbers of seed {seed}");
}

#[test]
fn the_comparison_finds_a_wrong_number_and_a_nan() {
    assert_eq!(difference(&[1.0, 2.0], &[1.0, 2.0]), None);
    assert_eq!(difference(&[1.0, 2.000_001], &[1.0, 2.0]), Some((1, 2.000_001, 2.0)));
    assert!(matches!(difference(&[f32::NAN], &[1.0]), Some((0, ..))));
}

#[test]
fn fewer_than_sixteen_numbers_come_in_pairs_of_doubles() {
    let numbers = [0.336_690_37, 0.128_809_4, 0.234_462_37, 0.230_333_03, -1.122_856_4];
    assert_ends(42, 5, numbers, numbers);
}

#[test]
fn one_block_of_sixteen_is_torchs() {
    assert_ends(
        0,
        16,
        [-1.125_839_8, -1.152_360_2, -0.250_578_6, -0.433_878_8, 0.848_710_36],
        [0.308_133_93, 0.119_841_51, 1.237_657_9, 1.116_777_2, -0.247_278_15],
    );
}

#[test]
fn a_broken_last_block_is_drawn_anew() {
    assert_ends(
        1,
        23,
        [-1.525_595_9, -0.750_231_8, -0.653_980_9, -1.609_484_8, -0.100_167_18],
        [0.275_333_52, 1.716_302_6, -0.056_139_667, 0.910_702, -1.392_385_8],
    );
}

#[test]
fn a_latent_of_256_numbers_is_torchs() {
    assert_ends(
        7,
        256,
        [-0.820_134_5, 0.395_631_16, 0.898_908_5, -1.388_403_9, -0.166_996_02],
        [0.097_356_74, 0.788_056_97, -0.809_530_8, 0.093_124_196, -0.300_431_55],
    );
    let numbers = randn(7, 256);
    let sum: f64 = numbers.iter().map(|&number| f64::from(number)).sum();
    let squares: f64 = numbers.iter().map(|&number| f64::from(number).powi(2)).sum();
    assert!((sum + 20.519_615_847_5).abs() < 1e-5, "{sum}");
    assert!((squares - 220.799_483_722_7).abs() < 1e-5, "{squares}");
}

#[test]
fn a_seed_is_taken_modulo_two_to_the_thirty_two() {
    assert_ends(
        12_345_678_901,
        17,
        [0.223_975_12, 0.567_122_1, -1.412_724_7, -0.773_203_85, 0.010_313_634],
        [0.932_924_87, 0.593_562_36, 1.012_232, 1.197_590_2, 0.518_702_5],
    );
    assert_eq!(randn(12_345_678_901, 40), randn(12_345_678_901 & 0xffff_ffff, 40));
    assert_ne!(randn(7, 40), randn(8, 40));
}

#[test]
fn a_generator_continues_and_keeps_the_second_of_a_pair() {
    let mut generator = TorchGenerator::new(42);
    assert_eq!(difference(&generator.randn(3), &[0.336_690_37, 0.128_809_4, 0.234_462_37]), None);
    assert_eq!(difference(&generator.randn(2), &[0.230_333_03, -1.122_856_4]), None);
    assert_eq!(difference(&generator.randn(20)[17..], &[2.122_785, -1.234_653_1, -0.487_913_88]), None);
}

#[test]
fn the_engine_is_the_published_mersenne_twister() {
    // The 10,000th number under the default seed 5489 (ISO C++, [rand.predef]).
    let mut engine = Mt19937::new(5489);
    assert_eq!((0..10_000).map(|_| engine.next()).last(), Some(4_123_659_995));
}

#[test]
fn no_numbers_are_no_numbers() {
    assert!(randn(0, 0).is_empty());
}

#[test]
fn pictures_of_one_generator_each_have_their_part_of_every_draw() {
    let shape = [1, 2, 3, 4];
    let mut all = TorchGenerator::new(5);
    let [shared, first, second] = [24, 72, 72].map(|count| all.randn(count));
    for picture in 0..3 {
        let mut noise = Noise::new(5, [picture, 3], shape, &Device::flex());
        let values = |tensor: Tensor<4>| tensor.into_data().try_into_vec::<f32>().expect("noise is f32");
        assert_eq!(values(noise.draw_for_all()), shared);
        let part = picture * 24..(picture + 1) * 24;
        assert_eq!((values(noise.draw()), values(noise.draw())), (first[part.clone()].to_vec(), second[part].to_vec()));
    }
}

#[test]
fn the_initial_noise_of_a_variation_is_that_of_a1111() {
    let tensors = include_bytes!("../../../../tests/golden/variation.safetensors");
    let tensors = Tensors::parse("variation.safetensors", tensors).expect("recorded");
    let mut names = 0;
    for name in tensors.names() {
        let [seed, other, strength] = *name.split('_').collect::<Vec<_>>() else { panic!("{name}") };
        let strength = strength.parse().expect("a number");
        let [seed, other]: [u32; 2] = [seed, other].map(|seed| seed.parse().expect("a seed"));
        let noise = Noise::new(u64::from(seed), [0, 1], [1, 4, 8, 6], &Device::flex());
        let mut noise = noise.with_variation(Some((other, strength)));
        let values = |tensor: Tensor<4>| tensor.into_data().try_into_vec::<f32>().expect("noise is f32");
        let (_, expected) = tensors.any_f32(name).expect("recorded");
        let comparison = compare(&values(noise.draw()), &expected, 1e-6);
        assert_eq!(comparison.difference, None, "{name}: {:.1e}", comparison.max_relative);
        let mut plain = TorchGenerator::new(u64::from(seed));
        let _ = plain.randn(192);
        assert_eq!(values(noise.draw()), plain.randn(192), "{name}: later noise is the seed's own");
        names += 1;
    }
    assert_eq!(names, 5);
}
