//! How fast a run trains.

use std::time::Instant;

/// Wall-clock time of the present metrics line, evaluations and checkpoints left out.
pub(super) struct Clock {
    run: Instant,
    window: Instant,
    images: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { run: Instant::now(), window: Instant::now(), images: 0 }
    }

    pub(super) fn count(&mut self, images: usize) {
        self.images += images as u64;
    }

    pub(super) fn begin_window(&mut self) {
        (self.window, self.images) = (Instant::now(), 0);
    }

    pub(super) fn pause(&mut self, since: Instant) {
        self.window += since.elapsed();
    }

    pub(super) fn images_per_second(&self) -> f64 {
        self.images as f64 / self.window_seconds().max(1e-9)
    }

    pub(super) fn window_seconds(&self) -> f64 {
        self.window.elapsed().as_secs_f64()
    }

    pub(super) fn seconds(&self) -> f64 {
        self.run.elapsed().as_secs_f64()
    }
}
