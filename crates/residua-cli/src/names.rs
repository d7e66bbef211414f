//! Names of files, which are any bytes on Unix, so that whoever reads them finds the files again.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::path::Path;

use serde::Serialize;

/// Stands in front of each byte that is no text, in what is to become JSON. No text has it: Unicode gives it no meaning, ever.
const NO_TEXT: char = '\u{fdd0}';

/// A path for JSON. [`json_text`] writes what is no text in it as Python does (PEP 383): the byte XX as the half `\udcXX` of a pair, so that
/// `json.loads` gives the name that `os.listdir` gives.
pub(crate) fn path_in_json(path: &Path) -> String {
    let mut text = String::new();
    let stand_in = |text: &mut String, bytes: &[u8]| {
        bytes.iter().for_each(|&byte| text.extend([NO_TEXT, char::from(byte)]));
    };
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                NO_TEXT => stand_in(&mut text, character.to_string().as_bytes()),
                character => text.push(character),
            }
        }
        stand_in(&mut text, chunk.invalid());
    }
    text
}

/// JSON in a line, in which paths are those of [`path_in_json`].
pub(crate) fn json_text(value: &impl Serialize) -> String {
    // What Residua prints has text for keys.
    let text = serde_json::to_string(value).unwrap_or_default();
    let mut pieces = text.split(NO_TEXT);
    let mut written = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let mut characters = piece.chars();
        let byte = characters.next().map_or(0, u32::from);
        written += &format!("\\udc{byte:02x}");
        written += characters.as_str();
    }
    written
}

/// A path for lines of text: its bytes as they are, but on a terminal, which would obey some of them.
pub(crate) fn in_text(path: &Path) -> Cow<'_, [u8]> {
    let bytes = path.as_os_str().as_encoded_bytes();
    match std::io::stdout().is_terminal() {
        true => Cow::Owned(harmless(bytes, |_| false).into_bytes()),
        false => Cow::Borrowed(bytes),
    }
}

/// Text that a terminal shows and does not obey: control characters, but for those that `may_stay`, and bytes that are no text are escaped.
pub(crate) fn harmless(bytes: &[u8], may_stay: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character.is_control() && !may_stay(character) {
                true => text.extend(character.escape_default()),
                false => text.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_are_written_as_python_reads_them() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        for (name, expected) in [
            (&b"caf\xe9.png"[..], r#""caf\udce9.png""#),
            ("café \"1\"".as_bytes(), r#""café \"1\"""#),
            (b"\xff", r#""\udcff""#),
            ("\u{fdd0}x".as_bytes(), r#""\udcef\udcb7\udc90x""#),
            (b"a\nb", r#""a\nb""#),
        ] {
            let path = Path::new(OsStr::from_bytes(name));
            assert_eq!(json_text(&json!(path_in_json(path))), expected);
        }
    }

    #[test]
    fn a_terminal_is_told_nothing_that_it_obeys() {
        let name = b"a\x1b[31m\n\xe9\xc2\x9bz\xc3\xa9";
        assert_eq!(harmless(name, |_| false), "a\\u{1b}[31m\\n\\xe9\\u{9b}z\u{e9}");
        assert_eq!(harmless(b"a\n\tb\r", |kept| "\n\t".contains(kept)), "a\n\tb\\r");
    }
}
