//! A run as the terminal shows it.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use residua::evaluate::Evaluation;
use residua::train::{Observer, Progress};

use crate::interrupt;
use crate::output::{is_silent, tell};
use crate::waiting::Waiting;

/// Draws a progress bar where a terminal can show one, and writes plain lines elsewhere; stops the run on request.
pub(crate) struct Terminal {
    bar: Option<ProgressBar>,
    last_line: Instant,
    test: Option<Waiting>,
}

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(20);

impl Terminal {
    pub(crate) fn new(done: u64, iterations: u64) -> Self {
        let bar = (!is_silent() && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(iterations), ProgressDrawTarget::stderr_with_hz(4));
            // What a narrow terminal has no room for is cut off, so that no line wraps.
            let style = "{bar:8} {pos}/{len}  {eta} left  {wide_msg}";
            bar.set_style(
                ProgressStyle::with_template(style).expect("the template is right").progress_chars("=> "),
            );
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        // TERM=dumb has none.
        let bar = bar.filter(|bar| !bar.is_hidden());
        Self { bar, last_line: Instant::now(), test: None }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => tell(text),
        }
    }
}

impl Observer for Terminal {
    fn stepped(&mut self, progress: &Progress) {
        let Progress { iteration, iterations, epoch, loss, error, learning_rate, images_per_second } =
            progress;
        let learning_rate = few_digits(*learning_rate);
        let state = format!(
            "loss {loss:.4}  error {error:4.1} %  {images_per_second:.0} images/s  lr {learning_rate}"
        );
        if let Some(bar) = &self.bar {
            bar.set_position(*iteration);
            bar.set_message(state);
        } else if self.last_line.elapsed() > LINE_EVERY {
            tell(format_args!("iteration {iteration}/{iterations}  epoch {epoch:.2}  {state}"));
            self.last_line = Instant::now();
        }
    }

    fn tests(&mut self, iteration: u64, images: usize) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("testing on {images} images")),
            None => {
                self.test =
                    Some(Waiting::for_work(format!("iteration {iteration}: testing on {images} images")));
            }
        }
    }

    fn evaluated(&mut self, iteration: u64, evaluation: &Evaluation) {
        self.test = None;
        let Evaluation { test_loss, test_error, .. } = evaluation;
        self.line(&format!("iteration {iteration}: test error {test_error:.2} %, test loss {test_loss:.4}"));
    }

    fn evaluated_average(&mut self, iteration: u64, evaluation: &Evaluation) {
        let Evaluation { test_loss, test_error, .. } = evaluation;
        self.line(&format!(
            "iteration {iteration}: average of the weights: test error {test_error:.2} %, test loss {test_loss:.4}"
        ));
    }

    fn validated(&mut self, iteration: u64, evaluation: &Evaluation, average: Option<&Evaluation>) {
        self.test = None;
        let mut text = format!(
            "iteration {iteration}: validation error {:.2} %, validation loss {:.4}",
            evaluation.test_error, evaluation.test_loss
        );
        if let Some(average) = average {
            text += &format!(
                "; of the average of the weights {:.2} %, {:.4}",
                average.test_error, average.test_loss
            );
        }
        self.line(&text);
    }

    fn skipped(&mut self, reason: &str) {
        self.line(&format!("skipped: {reason}"));
    }

    fn wants_to_stop(&mut self) -> bool {
        interrupt::is_asked_to_stop()
    }
}

/// Four digits, as more are not read: 0.01765, not 0.017650000000000002.
fn few_digits(number: f64) -> f64 {
    format!("{number:.3e}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        for (rate, shown) in
            [(0.1, "0.1"), (0.017650000000000002, "0.01765"), (0.0987654, "0.09877"), (0., "0")]
        {
            assert_eq!(few_digits(rate).to_string(), shown);
        }
    }
}
