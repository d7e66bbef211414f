//! Keeping the pool's threads awake between kernels.
//!
//! A training step is a thousand short kernels, an image in inference two hundred shorter ones. Threads that fall asleep between them
//! take a tenth of the time to wake up, and handing them work through the pool takes microseconds. So while [`with_threads_awake`] runs, the
//! pool's other threads are a [`Team`]: they watch one number, and when it changes they join in the work that it stands for.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Looks for work between two times that the thread offers its core to others.
const LOOKS: usize = 64;

/// More threads do not share one kernel.
const MOST_THREADS: usize = 64;

/// How long work waits for the other threads to come. One that is not there by then has other things to do.
const COMES_WITHIN: Duration = Duration::from_millis(5);

/// Runs `work` on a thread of the current pool, whose other threads meanwhile look for work without going to sleep. Waiting
/// threads offer their cores to whoever else wants them.
///
/// Threads come before the work begins or not at all. A thread of a pool that waits for something takes up other jobs on top
/// of what it has begun. If a thread that has begun a part of the work took up looking for work on top of it, until all of
/// the work is done, the two would wait for each other. As it is, everything waits for what is younger than itself.
pub fn with_threads_awake<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let is_done = AtomicBool::new(false);
    let team = Team::new(rayon::current_num_threads());
    let door = Door(AtomicUsize::new(0));
    rayon::scope(|scope| {
        let own = rayon::current_thread_index();
        let (is_done, team, door) = (&is_done, &team, &door);
        let _done = Done(is_done);
        scope.spawn_broadcast(move |_, context| {
            // On the thread that does the work it would wait for itself.
            if Some(context.index()) != own && door.enter() {
                look_for_work(is_done, team);
            }
        });
        let have_come = door.close(team.threads - 1) > 0;
        let _led = have_come.then(|| Led::by_this_thread(team));
        work()
    })
}

/// Calls `work` once with each of 0 to `count - 1`: every thread a run of neighbours in order, then what is left of the others' runs.
/// The calling thread waits for the last calls awake: they take less time than falling asleep and being woken.
pub(crate) fn for_each(count: usize, work: &(dyn Fn(usize) + Sync)) {
    let threads = team_size().unwrap_or_else(rayon::current_num_threads).min(count).min(MOST_THREADS);
    if threads <= 1 {
        return (0..count).for_each(work);
    }
    let begin = |run: usize| run * count / threads;
    // On the stack: kernels allocate nothing.
    let next: [AtomicUsize; MOST_THREADS] =
        std::array::from_fn(|run| AtomicUsize::new(begin(run.min(threads))));
    let finished = AtomicUsize::new(0);
    let work_off = |own: usize| {
        for run in (own..threads).chain(0..own) {
            loop {
                let turn = next[run].fetch_add(1, Ordering::Relaxed);
                if turn >= begin(run + 1) {
                    break;
                }
                let _finished = Finished(&finished);
                work(turn);
            }
        }
    };
    let wait = || {
        let mut looks = 0;
        while finished.load(Ordering::Acquire) < count {
            pause(&mut looks);
        }
    };
    let joined = AtomicUsize::new(1);
    let join_in = || {
        let run = joined.fetch_add(1, Ordering::Relaxed);
        if run < threads {
            work_off(run);
        }
    };
    let lead = || {
        work_off(0);
        wait();
    };
    if !with_team(&join_in, &lead) {
        rayon::in_place_scope(|scope| {
            let work_off = &work_off;
            for run in 1..threads {
                scope.spawn(move |_| work_off(run));
            }
            lead();
        });
    }
}

thread_local! {
    /// The team that this thread leads and that has nothing to do.
    static TEAM: Cell<*const Team> = const { Cell::new(ptr::null()) };
}

/// Threads that join in what their leader does.
#[derive(Debug)]
pub(crate) struct Team {
    /// With their leader.
    threads: usize,
    /// How many have joined in and not left again; whether the work is open to more; and the work's number above that.
    state: AtomicUsize,
    job: AtomicPtr<Job<'static>>,
}

struct Job<'a> {
    join_in: &'a (dyn Fn() + Sync),
}

const OPEN: usize = 1 << 16;
const INSIDE: usize = OPEN - 1;
const NUMBER: usize = OPEN << 1;

impl Team {
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads, state: AtomicUsize::new(0), job: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Joins in the open work, unless it is that of number `seen`; whether there was any.
    pub(crate) fn join(&self, seen: &mut usize) -> bool {
        let state = self.state.load(Ordering::Acquire);
        if state & OPEN == 0 || state / NUMBER == *seen {
            return false;
        }
        if self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        *seen = state / NUMBER;
        let _left = Left(self);
        // SAFETY: the leader has published the job before it opened this number, and keeps it until all who are inside have left.
        let job = unsafe { &*self.job.load(Ordering::Acquire) };
        (job.join_in)();
        true
    }

    /// Opens work to the team.
    fn open(&self, job: &Job<'_>) {
        self.job.store(ptr::from_ref(job).cast_mut().cast(), Ordering::Release);
        let number = self.state.load(Ordering::Relaxed) / NUMBER + 1;
        self.state.store(number.wrapping_mul(NUMBER) | OPEN, Ordering::Release);
    }

    /// Lets nobody else in, and waits for those who are inside.
    fn close(&self) {
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while self.state.load(Ordering::Acquire) & INSIDE > 0 {
            pause(&mut looks);
        }
    }
}

/// The threads of the team that this thread leads and that has nothing to do, if there is one.
fn team_size() -> Option<usize> {
    let team = TEAM.get();
    // SAFETY: null, or set by `Led`, which takes it back before the team goes.
    unsafe { team.as_ref() }.map(|team| team.threads)
}

/// Does `lead` while the team that this thread leads does `join_in`; whether there is such a team with nothing to do.
fn with_team(join_in: &(dyn Fn() + Sync), lead: &dyn Fn()) -> bool {
    // Taken: work within the work finds no team.
    let team = TEAM.replace(ptr::null());
    if team.is_null() {
        return false;
    }
    // SAFETY: set by `Led`, which takes it back before the team goes.
    let team = unsafe { &*team };
    let job = Job { join_in };
    team.open(&job);
    let _closed = Closed(team);
    lead();
    true
}

/// Closes the team's work and puts the team back, also when the work panics.
struct Closed<'a>(&'a Team);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.close();
        TEAM.set(self.0);
    }
}

/// Leaves the team's work, also when it panics.
struct Left<'a>(&'a Team);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, Ordering::Release);
    }
}

/// While it lives this thread leads a team.
pub(crate) struct Led<'a> {
    before: *const Team,
    _team: &'a Team,
}

impl<'a> Led<'a> {
    pub(crate) fn by_this_thread(team: &'a Team) -> Self {
        Self { before: TEAM.replace(team), _team: team }
    }
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        TEAM.set(self.before);
    }
}

/// Counts a call, also when it panics.
struct Finished<'a>(&'a AtomicUsize);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Where threads come in until it is closed: how many have, and whether it is.
struct Door(AtomicUsize);

impl Door {
    const CLOSED: usize = 1 << 16;

    /// Whether it was open.
    fn enter(&self) -> bool {
        self.0.fetch_add(1, Ordering::AcqRel) < Self::CLOSED
    }

    /// Waits a while for `count` threads, lets nobody else in, and says how many have come.
    fn close(&self, count: usize) -> usize {
        let begin = Instant::now();
        let mut looks = 0;
        while self.0.load(Ordering::Acquire) < count && begin.elapsed() < COMES_WITHIN {
            pause(&mut looks);
        }
        self.0.fetch_add(Self::CLOSED, Ordering::AcqRel)
    }
}

/// Between two looks at what is waited for.
pub(crate) fn pause(looks: &mut usize) {
    *looks += 1;
    if looks.is_multiple_of(LOOKS) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

fn look_for_work(is_done: &AtomicBool, team: &Team) {
    let (mut looks, mut seen) = (0, 0);
    while !is_done.load(Ordering::Acquire) {
        if team.join(&mut seen) {
            looks = 0;
            continue;
        }
        // Some work comes through the pool all the same.
        if looks % 8 == 0 && rayon::yield_now() == Some(rayon::Yield::Executed) {
            looks = 0;
            continue;
        }
        pause(&mut looks);
    }
}

/// Says that the work is done, also when it panics.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
