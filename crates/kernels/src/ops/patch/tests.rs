use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{patchify, unpatchify};
use crate::testing::{checks, read, values};

/// P, C, h, w.
const SHAPES: [[usize; 4]; 3] = [[1, 4, 1, 1], [2, 4, 3, 5], [1, 8, 16, 9]];

async fn every_number_finds_its_place(device: &Device) {
    find_their_place(device, DType::F32).await;
}

async fn halves_find_their_place(device: &Device) {
    find_their_place(device, DType::F16).await;
}

async fn find_their_place(device: &Device, dtype: DType) {
    for [p, c, h, w] in SHAPES {
        let kept: Vec<f32> = values(1, p * c * 4 * h * w).iter().map(|x| half::f16::from_f32(*x).to_f32()).collect();
        let latent = TensorData::new(kept.clone(), [p, c, 2 * h, 2 * w]);
        let tokens = read(patchify(Tensor::from_data(latent, (device, dtype)), 2 * p)).await;
        assert_eq!(tokens.len(), 2 * kept.len());
        for (at, token) in tokens.iter().enumerate() {
            let [j, i, channel] = [at % 2, at / 2 % 2, at / 4 % c];
            let [x, y, picture] = [at / (4 * c) % w, at / (4 * c * w) % h, at / (4 * c * w * h) % p];
            let from = ((picture * c + channel) * 2 * h + 2 * y + i) * 2 * w + 2 * x + j;
            assert_eq!(*token, kept[from], "token number {at}");
        }
        let tokens = TensorData::new(kept.clone(), [p, h * w, 4 * c]);
        let latent = read(unpatchify(Tensor::<3>::from_data(tokens, (device, dtype)), [h, w])).await;
        for (at, number) in latent.iter().enumerate() {
            let [x, y, channel, picture] =
                [at % (2 * w), at / (2 * w) % (2 * h), at / (4 * w * h) % c, at / (4 * w * h * c)];
            let token = (picture * h + y / 2) * w + x / 2;
            let from = (token * 4 + y % 2 * 2 + x % 2) * c + channel;
            assert_eq!(*number, kept[from], "latent number {at}");
        }
    }
}

checks! {
    [
        every_number_finds_its_place,
    ],
    shader_f16: [halves_find_their_place]
}
