//! Files of a data set that could not be read.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What is known of a data set's unreadable files. Several threads may find them.
#[derive(Debug, Default)]
pub(super) struct Unreadable(Mutex<Noted>);

#[derive(Clone, Debug, Default)]
struct Noted {
    /// By image: why it cannot be read, and whether anybody has been told.
    files: BTreeMap<usize, (String, bool)>,
}

impl Unreadable {
    /// Notes an unreadable image; how many there are now.
    pub(super) fn note(&self, index: usize, reason: String) -> usize {
        let mut noted = self.lock();
        noted.files.entry(index).or_insert((reason, false));
        noted.files.len()
    }

    /// The reasons that have not been taken yet, in the order of the images.
    pub(super) fn take_new(&self) -> Vec<String> {
        let mut noted = self.lock();
        let new = noted.files.values_mut().filter(|(_, is_told)| !is_told);
        new.map(|(reason, is_told)| {
            *is_told = true;
            reason.clone()
        })
        .collect()
    }

    /// The first few reasons.
    pub(super) fn first(&self, count: usize) -> Vec<String> {
        self.lock().files.values().take(count).map(|(reason, _)| reason.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        // A list of messages is whole whatever a panicking thread did.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Unreadable {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.lock().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_told_once() {
        let unreadable = Unreadable::default();
        assert_eq!(unreadable.note(5, "five".into()), 1);
        assert_eq!(unreadable.note(2, "two".into()), 2);
        assert_eq!(unreadable.note(5, "five again".into()), 2);
        assert_eq!(unreadable.take_new(), ["two", "five"]);
        assert!(unreadable.take_new().is_empty());
        unreadable.note(9, "nine".into());
        assert_eq!(
            (unreadable.take_new(), unreadable.first(2)),
            (vec!["nine".into()], vec!["two".into(), "five".into()])
        );
    }
}
