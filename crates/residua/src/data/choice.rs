//! Finding the name that was probably meant.

/// The choice most like `given`, or none if nothing comes close.
pub(super) fn nearest<'a>(given: &str, choices: &[&'a str]) -> Option<&'a str> {
    let given = given.to_lowercase();
    let similar = |choice: &&str| strsim::jaro_winkler(&given, choice);
    choices
        .iter()
        .copied()
        .max_by(|a, b| similar(a).total_cmp(&similar(b)))
        .filter(|choice| similar(choice) >= CLOSE_ENOUGH)
}

/// Jaro-Winkler similarity (0 to 1) from which a suggestion helps more than it confuses.
const CLOSE_ENOUGH: f64 = 0.75;

#[cfg(test)]
mod tests {
    use super::*;

    const CHOICES: [&str; 3] = ["shapes", "cifar10", "cifar100"];

    #[test]
    fn the_nearest_name_is_suggested() {
        for (given, expected) in
            [("shape", "shapes"), ("CIFAR-10", "cifar10"), ("cifar-100", "cifar100"), ("cifar", "cifar10")]
        {
            assert_eq!(nearest(given, &CHOICES), Some(expected), "{given}");
        }
    }

    #[test]
    fn nothing_is_suggested_for_an_unlike_name() {
        assert_eq!(nearest("imagenet", &CHOICES), None);
        assert_eq!(nearest("", &CHOICES), None);
        assert_eq!(nearest("shapes", &[]), None);
    }
}
