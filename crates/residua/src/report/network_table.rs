//! A network as a table: what it is made of and what each part costs.

use crate::nn::{LayerSummary, Summary};

/// A row for the head, for each run of units that differ in nothing but their number, and for the sum: name, what it is,
/// output, parameters, multiply-adds, feature maps kept for an image.
pub fn network_table(summary: &Summary) -> Vec<[String; 6]> {
    let head = ["layer", "", "output", "parameters", "mult-adds", "kept/image"].map(str::to_owned);
    let total = [
        "total".to_owned(),
        String::new(),
        String::new(),
        thousands(summary.parameters),
        millions(summary.multiply_adds),
        megabytes(summary.activation_bytes_per_image),
    ];
    let layers = summary.layers.chunk_by(are_alike).map(row);
    [head].into_iter().chain(layers).chain([total]).collect()
}

/// Units of a stage that differ in nothing but their number share a line.
fn are_alike(left: &LayerSummary, right: &LayerSummary) -> bool {
    LayerSummary { name: right.name.clone(), ..left.clone() } == *right
}

fn row(alike: &[LayerSummary]) -> [String; 6] {
    let (first, last) = (&alike[0], &alike[alike.len() - 1]);
    let count = alike.len() as u64;
    let (name, times) = match count {
        1 => (first.name.clone(), String::new()),
        _ => {
            let number = last.name.rsplit('.').next().unwrap_or_default();
            (format!("{}..{number}", first.name), format!("{count} x "))
        }
    };
    [
        name,
        format!("{times}{}", first.description),
        first.output.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
        thousands(count * first.parameters),
        millions(count * first.multiply_adds),
        megabytes(count * first.activation_bytes),
    ]
}

/// A number with a comma between each three digits.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn millions(number: u64) -> String {
    format!("{:.1} M", number as f64 / 1e6)
}

fn megabytes(number: u64) -> String {
    format!("{:.2} MB", number as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::NetworkOptions;

    #[test]
    fn alike_units_share_a_row() {
        let summary = NetworkOptions::named("preresnet20").resolve(10).unwrap().summary(32, 32).unwrap();
        let table = network_table(&summary);
        let names: Vec<_> = table.iter().map(|row| row[0].as_str()).collect();
        assert_eq!((names[0], names[1], names[names.len() - 1]), ("layer", "stem", "total"));
        assert!(names.contains(&"stages.0.1..2"), "{names:?}");
        assert_eq!(table[table.len() - 1][3], thousands(summary.parameters));
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
