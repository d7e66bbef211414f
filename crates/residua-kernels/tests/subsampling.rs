//! Option A's shortcut keeps the pixels that it should, and its gradient is its transpose.

use proptest::prelude::*;
use residua_kernels::{MapShape, Subsampling};

fn forward(subsampling: Subsampling, x: &[f32]) -> Vec<f32> {
    let shape = subsampling.output();
    let mut y = vec![f32::NAN; shape.len()];
    for (row, pixels) in y.chunks_exact_mut(shape.width * shape.channels).enumerate() {
        subsampling.row(x, row, pixels);
    }
    y
}

fn backward(subsampling: Subsampling, gradient: &[f32]) -> Vec<f32> {
    let shape = subsampling.input;
    let mut x = vec![f32::NAN; shape.len()];
    for (row, pixels) in x.chunks_exact_mut(shape.width * shape.channels).enumerate() {
        subsampling.gradient_row(gradient, row, pixels);
    }
    x
}

proptest! {
    #[test]
    fn pixels_are_kept_and_channels_appended(
        (batch, height, width, channels) in (1usize..4, 1usize..8, 1usize..8, 1usize..6),
        stride in 1usize..4,
        appended in 0usize..6,
    ) {
        let input = MapShape { batch, height, width, channels };
        let subsampling = Subsampling { input, stride, outputs: channels + appended };
        let x: Vec<f32> = (1..=input.len()).map(|value| value as f32).collect();
        let y = forward(subsampling, &x);
        let output = subsampling.output();
        for (at, &value) in y.iter().enumerate() {
            let (pixel, channel) = (at / output.channels, at % output.channels);
            let (line, column) = (pixel / output.width, pixel % output.width);
            let (image, row) = (line / output.height, line % output.height);
            let from = ((image * height + row * stride) * width + column * stride) * channels + channel;
            let expected = if channel < channels { x[from] } else { 0. };
            prop_assert_eq!(value, expected);
        }
        // <S x, g> = <x, S' g>, in whole numbers.
        let gradient: Vec<f32> = (0..y.len()).map(|value| (value % 7) as f32 - 3.).collect();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        prop_assert_eq!(dot(&y, &gradient), dot(&x, &backward(subsampling, &gradient)));
    }
}
