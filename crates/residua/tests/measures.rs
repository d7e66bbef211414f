//! Measures of answers against those of scikit-learn, torchmetrics, timm and SciPy.

use std::collections::BTreeMap;

use residua::evaluate::{Answer, HeldOut, Measures, Scored};
use residua::infer::Temperature;
use serde::Deserialize;

/// See `fixtures/measures/make.py`.
#[derive(Deserialize)]
struct Case {
    classes: usize,
    logits: Vec<f32>,
    labels: Vec<usize>,
    test_error: f64,
    top5_error: Option<f64>,
    test_loss: f64,
    mean_per_class_error: f64,
    images: Vec<u64>,
    precision: Vec<Option<f64>>,
    recall: Vec<Option<f64>>,
    f1: Vec<Option<f64>>,
    confusions: Vec<u64>,
    expected_calibration_error: f64,
    temperature: f64,
    loss_at_temperature: f64,
}

impl Case {
    fn scored(&self, temperature: Temperature) -> impl Iterator<Item = Scored<'_>> {
        let rows = self.labels.iter().zip(self.logits.chunks_exact(self.classes)).enumerate();
        rows.map(move |(image, (&label, logits))| Scored::new(image, label, logits, temperature))
    }

    fn measures(&self, temperature: Temperature) -> Measures {
        let answers: Vec<Answer> = self.scored(temperature).map(|scored| scored.answer()).collect();
        Measures::of(&answers, self.classes).unwrap()
    }
}

fn cases() -> BTreeMap<String, Case> {
    serde_json::from_str(include_str!("fixtures/measures/expected.json")).unwrap()
}

#[track_caller]
fn assert_near(found: impl Into<Option<f64>>, expected: impl Into<Option<f64>>, what: &str) {
    match (found.into(), expected.into()) {
        (Some(found), Some(expected)) => {
            assert!((found - expected).abs() < 1e-9 * expected.abs().max(1.), "{what}: {found} {expected}");
        }
        (found, expected) => assert_eq!(found, expected, "{what}"),
    }
}

#[test]
fn measures_are_those_of_other_packages() {
    for (name, case) in cases() {
        let measures = case.measures(Temperature::ONE);
        assert_near(measures.test_error, case.test_error, &name);
        assert_near(measures.top5_error, case.top5_error, &name);
        assert_near(measures.test_loss, case.test_loss, &name);
        assert_near(measures.mean_per_class_error, case.mean_per_class_error, &name);
        assert_near(measures.calibration.expected_error, case.expected_calibration_error, &name);
        for (class, found) in measures.classes.iter().enumerate() {
            assert_eq!(found.images, case.images[class], "{name} {class}");
            assert_near(found.precision, case.precision[class], &format!("{name} {class}: precision"));
            assert_near(found.recall, case.recall[class], &format!("{name} {class}: recall"));
            assert_near(found.f1, case.f1[class], &format!("{name} {class}: F1"));
            for (predicted, &expected) in
                case.confusions[class * case.classes..][..case.classes].iter().enumerate()
            {
                assert_eq!(
                    measures.confusions.count(class, predicted),
                    expected,
                    "{name} {class} {predicted}"
                );
            }
        }
        let bins = &measures.calibration.bins;
        assert_eq!((bins.len(), bins[0].above, bins[14].to), (15, 0., 1.));
        assert_eq!(bins.iter().map(|bin| bin.images).sum::<u64>(), measures.images);
    }
}

#[test]
fn a_fitted_temperature_is_that_of_scipy_and_changes_no_error() {
    for (name, case) in cases() {
        let mut held_out = HeldOut::new(case.classes);
        case.scored(Temperature::ONE).for_each(|scored| held_out.add(&scored));
        let temperature = held_out.fit().unwrap();
        // The minimum is flat: its place is known to half the digits of its value.
        assert!((temperature.get() / case.temperature - 1.).abs() < 1e-6, "{name}: {temperature:?}");
        let (before, after) = (case.measures(Temperature::ONE), case.measures(temperature));
        assert_near(after.test_loss, case.loss_at_temperature, &name);
        assert_eq!((before.test_error, before.top5_error), (after.test_error, after.top5_error));
        assert_eq!(before.confusions, after.confusions);
    }
}
