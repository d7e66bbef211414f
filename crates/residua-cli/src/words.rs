//! Values that are written as one of a few words: help texts and completions list them from the one definition that the
//! library has.

use std::error::Error;
use std::ffi::OsStr;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command};
use residua::infer::choice::{Choice, Choices};

/// Parses words as [`FromStr`] does, and lists them.
pub(crate) fn words<T: Choices>() -> Words<T> {
    Words(PhantomData)
}

#[derive(Debug, Clone)]
pub(crate) struct Words<T>(PhantomData<fn() -> T>);

impl<T> TypedValueParser for Words<T>
where
    T: Choices + FromStr<Err: Into<Box<dyn Error + Send + Sync>>> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        T::from_str.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(T::CHOICES.iter().copied().map(possible_value)))
    }
}

/// A word as help texts list it. Parameters that can be left out are left out of what completions would write.
fn possible_value(choice: Choice) -> PossibleValue {
    let (name, meaning) = match choice.written.split_once('[') {
        None => (choice.written, choice.meaning.to_owned()),
        Some((word, _)) => (word, format!("{}: {}", choice.written, choice.meaning)),
    };
    let value = PossibleValue::new(name);
    match (choice.meaning, choice.example) {
        ("", _) => value,
        (_, None) => value.help(meaning),
        (_, Some(example)) => value.help(format!("{meaning}, such as {example}")),
    }
}

#[cfg(test)]
mod tests {
    use residua::data::Source;
    use residua::device::DeviceChoice;
    use residua::export::ExportFormat;
    use residua::export::onnx::AxisOrder;
    use residua::nn::{MemoryChoice, Shortcut};
    use residua::study::paper::Budget;

    use super::*;

    /// Every word of the list, with its parameters if it goes not without, is read.
    fn assert_read<T: Choices + FromStr<Err: std::fmt::Debug>>() {
        for choice in T::CHOICES {
            let text = choice.example.unwrap_or(choice.written.split('[').next().unwrap());
            assert!(text.parse::<T>().is_ok(), "{text}: {:?}", text.parse::<T>().err());
        }
        assert!("no such word".parse::<T>().is_err());
    }

    #[test]
    fn every_word_that_is_listed_is_read() {
        assert_read::<Shortcut>();
        assert_read::<Source>();
        assert_read::<DeviceChoice>();
        assert_read::<MemoryChoice>();
        assert_read::<Budget>();
        assert_read::<ExportFormat>();
        assert_read::<AxisOrder>();
    }
}
