//! What an evaluation has found, as text and as JSON.

use residua::evaluate::{ClassMeasures, Measures};
use residua::infer::Temperature;
use serde_json::{Value, json};

use crate::table::table;

/// Classes up to which all are in the text.
const FEW_CLASSES: usize = 20;
/// How many of the hardest are in it, if there are more.
const HARDEST: usize = 10;

/// The lines behind the first one. All classes are in it if that is asked for.
pub(super) fn in_words(
    measures: &Measures,
    classes: &[String],
    temperature: Option<Temperature>,
    is_each_class_wanted: bool,
) -> String {
    let Measures { top5_error, mean_per_class_error, calibration, .. } = measures;
    let top5 = top5_error.map_or(String::new(), |error| format!("top-5 error {error:.2} %, "));
    let temperature = temperature.map_or(String::new(), |temperature| {
        format!("\nprobabilities at the file's temperature {:.4}", temperature.get())
    });
    let (title, shown) = match is_each_class_wanted || classes.len() <= FEW_CLASSES {
        true => (String::new(), (0..classes.len()).collect()),
        false => {
            let mut hardest = measures.hardest_classes();
            hardest.truncate(HARDEST);
            let (shown, all) = (hardest.len(), classes.len());
            (format!("\nthe {shown} of {all} classes with the highest error (all: --per-class):"), hardest)
        }
    };
    format!(
        "{top5}mean per-class error {mean_per_class_error:.2} %, calibration error {:.4} at a mean confidence of {:.4}{temperature}\n{title}\n{}",
        calibration.expected_error,
        calibration.confidence,
        class_table(measures, classes, shown)
    )
}

fn class_table(measures: &Measures, classes: &[String], shown: Vec<usize>) -> String {
    let head = ["class", "images", "error, %", "precision", "recall", "F1"].map(str::to_owned);
    let cell =
        |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    let row = |class: usize| {
        let ClassMeasures { images, error, precision, recall, f1, .. } = measures.classes[class];
        let name = classes[class].clone();
        [name, images.to_string(), cell(error, 2), cell(precision, 4), cell(recall, 4), cell(f1, 4)]
    };
    table(&[head].into_iter().chain(shown.into_iter().map(row)).collect::<Vec<_>>(), 1)
}

/// All of it, by the names of `--json`.
pub(super) fn in_json(measures: &Measures, names: &[String], temperature: Option<Temperature>) -> Value {
    let Measures { images, test_loss, test_error, top5_error, mean_per_class_error, calibration, .. } =
        measures;
    let class = |(name, measures): (&String, &ClassMeasures)| {
        let mut class = json!({ "class": name });
        let measures = json!(measures);
        if let (Some(class), Value::Object(measures)) = (class.as_object_mut(), measures) {
            class.extend(measures);
        }
        class
    };
    let classes: Vec<_> = names.iter().zip(&measures.classes).map(class).collect();
    let pair = |(label, predicted, count): (usize, usize, u64)| json!({ "true": names[label], "predicted": names[predicted], "images": count });
    json!({
        "test_error": test_error,
        "test_loss": test_loss,
        "images": images,
        "top5_error": top5_error,
        "mean_per_class_error": mean_per_class_error,
        "temperature": temperature,
        "calibration": calibration,
        "classes": classes,
        "confusions": measures.confusions.pairs().map(pair).collect::<Vec<_>>(),
    })
}
