//! Signals: a run is saved and ends within seconds, wherever it is; other work ends at once.

mod signals;

use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use residua::run::RunError;
use residua::train::{Ending, Saver};

pub(crate) use self::signals::listen;
use self::signals::{Signal, end_by};
use crate::cluster::is_one_of_several;
use crate::output::tell;
use crate::remedy::explain;

/// The exit code of a run that has been saved because it was asked to stop.
const STOPPED: i32 = 130;

/// What an iteration may take to its end, before the run is saved as it stood in front of it.
const GRACE: Duration = Duration::from_secs(1);

/// The same among several processes: `mpirun` kills them a second after it has told them to end.
const GRACE_OF_RANKS: Duration = Duration::from_millis(200);

/// Some programs signal a process and then its group: one wish, said twice.
const ONE_WISH: Duration = Duration::from_millis(500);

static IS_ASKED: AtomicBool = AtomicBool::new(false);
static WORK: Mutex<Work> = Mutex::new(Work::Lost);

/// What the process is at, as far as it matters where it ends.
enum Work {
    /// Nothing is lost that another start would not do again.
    Lost,
    /// The run in this folder is on disk as it was left.
    Resumable(PathBuf),
    /// A run trains.
    Run { saver: Saver, tell_of: Box<dyn Fn(Ending) + Send> },
    /// A run was asked to stop then.
    Stopping(Instant),
}

/// Whether a run is to save and end.
pub(crate) fn is_asked_to_stop() -> bool {
    IS_ASKED.load(Ordering::SeqCst)
}

/// The exit code of a run that has been saved because it was asked to stop.
pub(crate) fn stopped() -> ExitCode {
    ExitCode::from(STOPPED as u8)
}

/// Work that a signal ends in a way of its own, as long as this is there.
pub(crate) struct Interruptible(());

impl Interruptible {
    /// A run that is about to go on.
    pub(crate) fn resumable(folder: &Path) -> Self {
        Self::work(Work::Resumable(folder.to_owned()))
    }

    /// A run that trains; `tell_of` is told how it was saved, if it has to be saved while an iteration or a test goes on.
    pub(crate) fn run(saver: Saver, tell_of: impl Fn(Ending) + Send + 'static) -> Self {
        Self::work(Work::Run { saver, tell_of: Box::new(tell_of) })
    }

    fn work(work: Work) -> Self {
        *lock() = work;
        Self(())
    }

    /// What has become of the run. Where it has been saved from elsewhere, that thread ends the process, and this one waits for it.
    pub(crate) fn ended(self, ending: Result<Ending, RunError>) -> Result<Ending, RunError> {
        while let Err(RunError::Closed) = &ending {
            thread::park();
        }
        ending
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        let mut work = lock();
        // A run that is stopping tells of itself.
        if !matches!(*work, Work::Stopping(_)) {
            *work = Work::Lost;
        }
    }
}

/// What becomes of a signal.
fn heard(signal: Signal) {
    let mut work = lock();
    match std::mem::replace(&mut *work, Work::Lost) {
        Work::Lost => end_by(signal),
        Work::Resumable(folder) => {
            let folder = folder.display();
            tell(format_args!("\nstopped before it went on; go on with: residua train --resume {folder}"));
            process::exit(STOPPED);
        }
        Work::Run { saver, tell_of } => {
            *work = Work::Stopping(Instant::now());
            drop(work);
            IS_ASKED.store(true, Ordering::SeqCst);
            let again = if signal.is_from_keyboard() { " (Ctrl-C again: stop at once)" } else { "" };
            tell(format_args!("\nstopping: the run is being saved{again}"));
            let grace = if is_one_of_several() { GRACE_OF_RANKS } else { GRACE };
            thread::spawn(move || {
                thread::sleep(grace);
                save(&saver, tell_of);
            });
        }
        Work::Stopping(since) => {
            if signal.is_from_keyboard() && since.elapsed() > ONE_WISH {
                process::exit(STOPPED);
            }
            *work = Work::Stopping(since);
        }
    }
}

/// Saves a run that has not come to an end by itself, and ends the process.
fn save(saver: &Saver, tell_of: impl Fn(Ending)) {
    match saver.save_and_close() {
        // It is over, or about to be: the thread that trains ends the process.
        Ok(None) => {}
        Ok(Some(ending)) => {
            tell_of(ending);
            process::exit(STOPPED);
        }
        Err(error) => {
            tell(format_args!("error: {}", explain(&error)));
            process::exit(1);
        }
    }
}

fn lock() -> MutexGuard<'static, Work> {
    WORK.lock().unwrap_or_else(PoisonError::into_inner)
}
