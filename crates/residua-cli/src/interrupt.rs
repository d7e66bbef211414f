//! Ctrl-C: the work in hand is finished and saved.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::output::tell;

/// Set by the first Ctrl-C (or SIGTERM); the second ends the process at once.
pub(crate) fn stop_on_ctrl_c() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, first) = (stop.clone(), OnceLock::new());
    ctrlc::set_handler(move || match first.get() {
        None => {
            let _ = first.set(Instant::now());
            flag.store(true, Ordering::SeqCst);
            tell("\nstopping after this step; press Ctrl-C again to stop at once");
        }
        // Some programs signal a process and then its group: one wish, said twice.
        Some(first) if first.elapsed() < Duration::from_millis(500) => {}
        Some(_) => std::process::exit(130),
    })
    .context("cannot listen to Ctrl-C")?;
    Ok(stop)
}
