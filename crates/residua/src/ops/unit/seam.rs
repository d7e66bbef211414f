//! What two consecutive units share.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a unit's output meets the next unit. A backend may leave here what lets it run the end of the next unit's backward
/// pass and the beginning of this unit's in one pass over the map between them. A unit that finds nothing does its own part:
/// the results are the same to the bit.
#[derive(Clone, Default)]
pub struct Seam(Arc<Mutex<Option<Box<dyn Any + Send>>>>);

/// The seams of a unit with its neighbours, if it has such.
#[derive(Debug, Clone, Default)]
pub struct Seams {
    /// With the unit whose output it reads.
    pub before: Option<Seam>,
    /// With the unit that reads its output.
    pub behind: Option<Seam>,
}

impl Seam {
    /// Leaves this here, in place of what was there.
    pub(in crate::ops) fn leave<T: Any + Send>(&self, content: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(content));
    }

    /// Takes what was left, if it is of this kind.
    pub(in crate::ops) fn take<T: Any + Send>(&self) -> Option<T> {
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = content.take_if(|content| content.is::<T>())?;
        found.downcast().ok().map(|found| *found)
    }
}

impl fmt::Debug for Seam {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Seam")
    }
}
