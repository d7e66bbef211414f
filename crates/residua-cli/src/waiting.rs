//! Work that takes long says what it is at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::output::tell;

/// The first line, if the work is not done by then.
const FIRST: Duration = Duration::from_millis(1500);
/// Between the lines behind it.
const EVERY: Duration = Duration::from_secs(20);

/// Tells what goes on as long as this is there, and nothing where it is soon over.
pub(crate) struct Waiting {
    done: Arc<AtomicUsize>,
    _ends: Sender<()>,
}

impl Waiting {
    /// Waiting for this, such as `reading folder:flowers`.
    pub(crate) fn for_work(what: impl Into<String>) -> Self {
        Self::begin(what.into(), None)
    }

    /// Waiting for this to be done with so many images.
    pub(crate) fn for_images(what: impl Into<String>, images: usize) -> Self {
        Self::begin(what.into(), Some(images))
    }

    /// One more image is done.
    pub(crate) fn count(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    fn begin(what: String, images: Option<usize>) -> Self {
        let (ends, ended) = channel::<()>();
        let done = Arc::new(AtomicUsize::new(0));
        let counted = done.clone();
        let tells = move || {
            let mut pause = FIRST;
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(pause) {
                pause = EVERY;
                match images {
                    Some(images) => {
                        let done = counted.load(Ordering::Relaxed);
                        tell(format_args!("{what}: {done} of {images} images ..."));
                    }
                    None => tell(format_args!("{what} ...")),
                }
            }
        };
        // Where there is no thread to be had, the work is done in silence.
        let _ = thread::Builder::new().name("residua-waiting".to_owned()).spawn(tells);
        Self { done, _ends: ends }
    }
}
