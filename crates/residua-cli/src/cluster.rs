//! Processes that MPI has started together: rank 0 speaks for all, and one that fails ends all.

use std::process::{self, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Error;
use residua::cluster::{Cluster, ClusterError, Launch};

use crate::output::{fall_silent, tell, tell_of_rank};
use crate::remedy::explain;

/// The ranks that this process belongs to, as long as it does.
static JOINED: Mutex<Option<Cluster>> = Mutex::new(None);

/// What rank 0 is left to say of an error that all ranks have met.
const FIRST_SPEAKS: Duration = Duration::from_secs(2);

/// Has all but the first of several processes be silent, before any has joined the others.
pub(crate) fn begin() {
    if is_behind() {
        fall_silent();
    }
}

/// Whether another of several processes does the work that only one can do.
pub(crate) fn is_behind() -> bool {
    Launch::of_this_process().is_some_and(|launch| launch.rank > 0)
}

/// Ends a process of which rank 0 says what is wrong, as with all.
pub(crate) fn exit_behind(code: i32) -> ! {
    thread::sleep(FIRST_SPEAKS);
    process::exit(code)
}

/// Whether MPI has started others with this process.
pub(crate) fn is_one_of_several() -> bool {
    Launch::of_this_process().is_some()
}

/// Joins the processes that MPI has started with this one, if it has started any; once.
pub(crate) fn join() -> Result<Cluster, ClusterError> {
    if Launch::of_this_process().is_none() {
        return Ok(Cluster::alone());
    }
    let cluster = join_mpi()?;
    *lock() = Some(cluster.clone());
    Ok(cluster)
}

#[cfg(feature = "mpi")]
fn join_mpi() -> Result<Cluster, ClusterError> {
    Cluster::join()
}

#[cfg(not(feature = "mpi"))]
fn join_mpi() -> Result<Cluster, ClusterError> {
    Err(ClusterError::NotBuilt)
}

/// How many there are, where there are several.
pub(crate) fn in_words(cluster: &Cluster) -> String {
    match (cluster.ranks(), cluster.hosts()) {
        (1, _) => String::new(),
        (ranks, 1) => format!(", {ranks} processes"),
        (ranks, hosts) => format!(", {ranks} processes on {hosts} hosts"),
    }
}

/// Leaves the others, behind everything else.
pub(crate) fn leave() {
    // Not under the lock: the others may take their time.
    let joined = lock().take();
    drop(joined);
}

/// Tells of an error and ends all ranks.
pub(crate) fn fail(error: &Error, code: u8) -> ExitCode {
    let message = explain(error.as_ref());
    let joined = lock().take();
    if !is_behind() {
        tell(format_args!("error: {message}"));
    } else {
        // What all have met rank 0 tells, and ends this one.
        thread::sleep(FIRST_SPEAKS);
        let name = joined.as_ref().map(|cluster| format!("{}: ", cluster.name_of(cluster.rank())));
        tell_of_rank(format_args!("error: {}{message}", name.unwrap_or_default()));
    }
    if let Some(cluster) = joined {
        cluster.end_all(i32::from(code));
    }
    ExitCode::from(code)
}

fn lock() -> std::sync::MutexGuard<'static, Option<Cluster>> {
    JOINED.lock().unwrap_or_else(PoisonError::into_inner)
}
