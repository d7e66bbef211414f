//! Comma-separated values (RFC 4180).

use std::borrow::Cow;

/// A value of a line.
pub(crate) fn quoted(text: &str) -> String {
    String::from_utf8_lossy(&quoted_bytes(text.as_bytes())).into_owned()
}

/// A value that may be no text, as names of files may be: its bytes as they are.
pub(crate) fn quoted_bytes(bytes: &[u8]) -> Cow<'_, [u8]> {
    match bytes.iter().any(|byte| b",\"\n\r".contains(byte)) {
        true => Cow::Owned(
            [b"\"", &*bytes.split(|&byte| byte == b'"').collect::<Vec<_>>().join(&b"\"\""[..]), b"\""]
                .concat(),
        ),
        false => Cow::Borrowed(bytes),
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
        for text in ["a b", "c,d", "e\"f", "\"\"", "g\nh", "", "i\r"] {
            assert_eq!(*quoted_bytes(text.as_bytes()), *quoted(text).as_bytes());
        }
        assert_eq!(*quoted_bytes(b"caf\xe9,"), *b"\"caf\xe9,\"");
    }
}
