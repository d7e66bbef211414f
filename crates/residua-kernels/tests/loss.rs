//! Cross-entropy against the f64 formula.

mod reference;

use proptest::prelude::*;
use reference::{bits, difference, random, with_threads};
use residua_kernels::cross_entropy;

/// Mean loss and its gradient, as they are defined.
fn expected(logits: &[f32], labels: &[u16], classes: usize) -> (f64, Vec<f64>) {
    let mut gradient = Vec::new();
    let mut loss = 0.;
    for (logits, &label) in logits.chunks(classes).zip(labels) {
        let logits: Vec<f64> = logits.iter().map(|&logit| logit.into()).collect();
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        loss += sum.ln() - logits[usize::from(label)];
        for (class, logit) in logits.iter().enumerate() {
            let target = f64::from(class == usize::from(label));
            gradient.push((logit.exp() / sum - target) / labels.len() as f64);
        }
    }
    (loss / labels.len() as f64, gradient)
}

fn labels(batch: usize, classes: usize) -> Vec<u16> {
    (0..batch).map(|row| (row * 7919 % classes) as u16).collect()
}

proptest! {
    #[test]
    fn it_computes_the_formula(batch in 1usize..80, classes in 1usize..30, seed in any::<u32>()) {
        let logits: Vec<f32> = random(batch * classes, seed.into()).iter().map(|x| x * 4.).collect();
        let labels = labels(batch, classes);
        let (loss, gradient) = expected(&logits, &labels, classes);
        let mut found = vec![f32::NAN; logits.len()];
        let found_loss = cross_entropy(&logits, &labels, classes, Some(&mut found));
        prop_assert!((found_loss - loss).abs() <= 1e-12 * (1. + loss));
        if classes > 1 {
            prop_assert!(difference(&gradient, &found) < 1e-6);
        } else {
            prop_assert!(found.iter().all(|&gradient| gradient == 0.));
        }
        prop_assert_eq!(cross_entropy(&logits, &labels, classes, None), found_loss);
    }
}

#[test]
fn large_logits_do_not_overflow() {
    let logits = [3e38, 3e38, -3e38, 1000., 0., -1000.];
    let mut gradient = [f32::NAN; 6];
    let loss = cross_entropy(&logits, &[0, 0], 3, Some(&mut gradient));
    assert!((loss - 2f64.ln() / 2.).abs() < 1e-12);
    assert_eq!(gradient, [-0.25, 0.25, 0., 0., 0., 0.]);
}

/// Where the label is nearly certain, loss and gradient are small, not zero.
#[test]
fn certainty_keeps_its_digits() {
    let mut gradient = [f32::NAN; 2];
    let loss = cross_entropy(&[20., 0.], &[0], 2, Some(&mut gradient));
    let doubt = (-20f64).exp();
    assert!((loss / doubt - 1.).abs() < 1e-6, "{loss}");
    assert!((f64::from(gradient[0]) / -doubt - 1.).abs() < 1e-6, "{gradient:?}");
    assert!((f64::from(gradient[1]) / doubt - 1.).abs() < 1e-6, "{gradient:?}");
}

#[test]
fn what_is_not_finite_shows() {
    let mut gradient = [0.; 4];
    for bad in [f32::NAN, f32::INFINITY] {
        assert!(cross_entropy(&[0., bad, 1., 2.], &[0, 0], 2, Some(&mut gradient)).is_nan());
        assert!(gradient[0].is_nan() && gradient[1].is_nan());
        assert!(gradient[2].is_finite() && gradient[3].is_finite());
    }
    assert!(cross_entropy(&[f32::NAN; 2], &[0], 2, None).is_nan());
    assert!(cross_entropy(&[f32::NEG_INFINITY; 2], &[0], 2, None).is_nan());
    assert_eq!(cross_entropy(&[f32::NEG_INFINITY, 0.], &[0], 2, None), f64::INFINITY);
    assert_eq!(cross_entropy(&[f32::NEG_INFINITY, 0.], &[1], 2, None), 0.);
    assert!(cross_entropy(&[], &[], 2, None).is_nan());
}

#[test]
#[should_panic(expected = "label 2 of 2 classes")]
fn labels_are_below_the_number_of_classes() {
    cross_entropy(&[0., 0.], &[2], 2, None);
}

#[test]
fn any_number_of_threads_computes_the_same() {
    let (logits, labels) = (random(101 * 10, 3), labels(101, 10));
    let results = with_threads(|| {
        let mut gradient = vec![f32::NAN; logits.len()];
        let loss = cross_entropy(&logits, &labels, 10, Some(&mut gradient));
        (loss.to_bits(), bits(&gradient))
    });
    assert!(results.iter().all(|result| *result == results[0]));
}
