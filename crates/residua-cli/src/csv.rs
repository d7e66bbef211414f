//! Comma-separated values (RFC 4180).

/// A value of a line.
pub(crate) fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// A line of such values.
pub(crate) fn line<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    values.into_iter().map(quoted).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_value_is_quoted() {
        assert_eq!(
            line(["a b", "c,d", "e\"f", "g\nh", "", "i\r"]),
            "a b,\"c,d\",\"e\"\"f\",\"g\nh\",,\"i\r\""
        );
    }
}
