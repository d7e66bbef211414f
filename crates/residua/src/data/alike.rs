//! Names that look the same and are not.

use std::collections::HashMap;

/// Whether two names differ only in case, or in whether a letter and its accents are one character of Unicode or several: what macOS calls
/// a file and what Linux does may differ so.
pub(super) fn are_alike(one: &str, other: &str) -> bool {
    let letters = |name: &str| letters(&name.to_lowercase());
    let (one, other) = (letters(one), letters(other));
    one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| one.is_like(other))
}

/// The first of the pairs of names that are alike, and how many more there are.
pub(super) fn lookalikes<'a>(names: &'a [String]) -> Option<([&'a str; 2], usize)> {
    // What alike names have in common.
    let rough = |name: &str| -> String {
        let letters = letters(name).into_iter();
        letters.map(|letter| if letter.is_like_some() { '*' } else { letter.base }).collect()
    };
    let mut roughly: HashMap<String, Vec<&'a str>> = HashMap::new();
    let mut pairs = Vec::new();
    for name in names {
        let alike = roughly.entry(rough(&name.to_lowercase())).or_default();
        pairs.extend(alike.iter().filter(|other| are_alike(other, name)).map(|other| [*other, name]));
        alike.push(name);
    }
    Some((*pairs.first()?, pairs.len() - 1))
}

/// A character, and the marks on it that are characters of their own.
#[derive(Debug, PartialEq)]
struct Letter {
    base: char,
    marks: Vec<char>,
}

impl Letter {
    /// Which letter is composed of which is in tables that are not here: one beyond ASCII may be of any letter with marks.
    fn is_like(&self, other: &Self) -> bool {
        let may_be = |composed: &Self, parts: &Self| {
            composed.marks.is_empty() && !composed.base.is_ascii() && !parts.marks.is_empty()
        };
        self == other || may_be(self, other) || may_be(other, self)
    }

    /// Whether it may be like others.
    fn is_like_some(&self) -> bool {
        !self.base.is_ascii() || !self.marks.is_empty()
    }
}

fn letters(name: &str) -> Vec<Letter> {
    let mut letters: Vec<Letter> = Vec::new();
    for character in name.chars() {
        let new = Letter { base: character, marks: Vec::new() };
        let Some(last) = letters.last_mut() else {
            letters.push(new);
            continue;
        };
        match hangul(last.base, character) {
            Some(syllable) => last.base = syllable,
            None if is_mark(character) => last.marks.push(character),
            None => letters.push(new),
        }
    }
    letters
}

/// Whether a character is a mark on the one in front of it.
fn is_mark(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{3099}' | '\u{309a}' | '\u{fe20}'..='\u{fe2f}')
}

/// The syllable of Hangul that a part makes with what is in front of it, if it does (the Unicode Standard, section 3.12).
fn hangul(before: char, part: char) -> Option<char> {
    let (before, part) = (u32::from(before), u32::from(part));
    let syllable = match (before, part) {
        (0x1100..=0x1112, 0x1161..=0x1175) => 0xac00 + ((before - 0x1100) * 21 + part - 0x1161) * 28,
        (0xac00..=0xd7a3, 0x11a8..=0x11c2) if (before - 0xac00).is_multiple_of(28) => before + part - 0x11a7,
        _ => return None,
    };
    char::from_u32(syllable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_the_same_are_alike() {
        for (one, other, expected) in [
            ("café", "cafe\u{301}", true),
            ("Cat", "cat", true),
            ("ÅNGSTRÖM", "a\u{30a}ngstro\u{308}m", true),
            ("\u{304c}", "\u{304b}\u{3099}", true),
            ("\u{d55c}", "\u{1112}\u{1161}\u{11ab}", true),
            ("cat", "dog", false),
            ("cat", "cats", false),
            ("café", "cafe", false),
            ("cafe", "cafe\u{301}", false),
            ("\u{ac00}", "\u{ac01}", false),
        ] {
            assert_eq!((are_alike(one, other), are_alike(other, one)), (expected, expected), "{one} {other}");
            let names = ["x", one, "y", other].map(str::to_owned);
            assert_eq!(lookalikes(&names), expected.then_some(([one, other], 0)));
        }
    }
}
