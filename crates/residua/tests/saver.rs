//! Runs that are saved from another thread, wherever they are.

use std::fs;
use std::path::Path;
use std::thread;

use residua::data::Dataset;
use residua::evaluate::Evaluation;
use residua::nn::{MemoryChoice, NetworkOptions, ResNet};
use residua::run::{Measurement, Recipe, Record, RunError, RunState, Schedule, read_metrics};
use residua::train::{Ending, Machine, Observer, Run, RunImages, Saver, Trainer};

fn images() -> RunImages {
    let noise = |images: usize, seed: usize| {
        let labels = (0..images).map(|image| (image % 2) as u16).collect();
        let pixels = (0..images * 8 * 8 * 3).map(|k| ((k * 7919 + seed * 104_729) % 251) as u8).collect();
        Dataset::new("noise", vec!["a".into(), "b".into()], (8, 8), pixels, labels).unwrap()
    };
    RunImages::own(noise(20, 1), noise(10, 2)).unwrap()
}

fn trainer() -> Trainer {
    let mut recipe = Recipe::new(NetworkOptions::named("preresnet8"), Schedule::new(6, 0.05));
    recipe.optimiser.batch = 4;
    recipe.optimiser.average_decay = Some(0.9);
    recipe.data.validation = Some("0.2".parse().unwrap());
    (recipe.intervals.evaluate, recipe.intervals.log, recipe.intervals.norms) = (2, 2, Some(2));
    (recipe.intervals.checkpoint, recipe.intervals.keep) = (6, 10);
    let machine = Machine::default().with_memory(MemoryChoice::Mode(Default::default())).with_events(false);
    Trainer::new(recipe).with_images(images()).with_machine(machine)
}

/// Where a run is saved.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    Measuring,
    Validated,
    Tested,
}

/// Measures after each iteration, and saves the run from another thread at a moment.
struct Saves {
    at: Option<(Moment, u64)>,
    saver: Option<Saver>,
    saved: Option<Ending>,
}

impl Saves {
    fn of(run: &Run, at: Option<(Moment, u64)>) -> Self {
        Self { at, saver: Some(run.saver()), saved: None }
    }

    fn is_at(&mut self, moment: Moment, iteration: u64) {
        if self.at == Some((moment, iteration)) {
            let saver = self.saver.take().unwrap();
            self.saved = thread::spawn(move || saver.save_and_close()).join().unwrap().unwrap();
        }
    }
}

impl Observer for Saves {
    fn measure(&mut self, iteration: u64, network: &ResNet) -> Result<Vec<Record>, RunError> {
        self.is_at(Moment::Measuring, iteration);
        let bias: f32 = network.tensors()["classifier.bias"].values.iter().sum();
        Ok(vec![Record::Measurement(Measurement::new("head", iteration).with("bias", f64::from(bias)))])
    }

    fn evaluated(&mut self, iteration: u64, _: &Evaluation) {
        self.is_at(Moment::Tested, iteration);
    }

    fn validated(&mut self, iteration: u64, _: &Evaluation, _: Option<&Evaluation>) {
        self.is_at(Moment::Validated, iteration);
    }
}

/// What a run has measured, without times, and the files of its last checkpoint.
fn outcome(folder: &Path) -> (Vec<String>, Vec<Vec<u8>>) {
    let without_times = |record: &Record| match record.clone() {
        Record::Training { iteration, loss, error, .. } => format!("{iteration} {loss} {error}"),
        Record::Measurement(measurement) => format!("{:?}", measurement.number("bias")),
        Record::Evaluation { iteration, test_loss, average_test_loss, .. } => {
            format!("{iteration} {test_loss} {average_test_loss:?}")
        }
        Record::Validation { iteration, validation_loss, average_validation_loss, .. } => {
            format!("{iteration} {validation_loss} {average_validation_loss:?}")
        }
        Record::Norms { iteration, gradient_norms, .. } => format!("{iteration} {gradient_norms:?}"),
    };
    let records = read_metrics(&folder.join("metrics.jsonl")).unwrap();
    let last = folder.join("checkpoints/iteration-00000006");
    let files = ["weights.safetensors", "optimiser.safetensors", "average.safetensors", "state.json"];
    (records.iter().map(without_times).collect(), files.map(|name| fs::read(last.join(name)).unwrap()).into())
}

#[test]
fn a_run_that_is_saved_at_any_moment_goes_on_to_the_same_bits_and_lines() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let run = trainer().start(&whole).unwrap();
    let mut observer = Saves::of(&run, None);
    let ending = run.train(&mut observer).unwrap();
    assert!(ending.is_finished);
    // It is over, so there is nothing left to save.
    assert_eq!(observer.saver.unwrap().save_and_close().unwrap(), None);
    let undisturbed = outcome(&whole);
    assert_eq!(undisturbed.0.len(), 6 + 3 + 3 + 3 + 1);

    let moments = [
        (Moment::Measuring, 1),
        (Moment::Measuring, 2),
        (Moment::Validated, 2),
        (Moment::Measuring, 6),
        (Moment::Validated, 6),
        (Moment::Tested, 6),
    ];
    for (moment, iteration) in moments {
        let place = folder.path().join(format!("{moment:?}-{iteration}"));
        let run = trainer().start(&place).unwrap();
        let recipe = run.recipe().clone();
        let mut observer = Saves::of(&run, Some((moment, iteration)));
        let error = run.train(&mut observer).unwrap_err();
        assert!(matches!(error, RunError::Closed), "{moment:?} {iteration}: {error}");
        let saved = observer.saved.unwrap();
        assert_eq!((saved.iteration, saved.is_finished), (iteration, false));
        assert!(saved.checkpoint.ends_with(format!("iteration-{iteration:08}")), "{saved:?}");
        assert_eq!(RunState::of_run(&place, &recipe), RunState::Stopped, "{moment:?} {iteration}");

        let run = trainer().resume(&place).unwrap();
        assert_eq!(run.iteration(), iteration);
        let mut observer = Saves::of(&run, None);
        assert!(run.train(&mut observer).unwrap().is_finished);
        assert!(outcome(&place) == undisturbed, "{moment:?} {iteration}: {:?}", outcome(&place).0);
        assert_eq!(RunState::of_run(&place, &recipe), RunState::Finished);
    }
}

/// Wants to stop as soon as an iteration is over.
struct StopsAtOnce(bool);

impl Observer for StopsAtOnce {
    fn stepped(&mut self, _: &residua::train::Progress) {
        self.0 = true;
    }

    fn validated(&mut self, _: u64, _: &Evaluation, _: Option<&Evaluation>) {
        panic!("no test begins once the run is to stop");
    }

    fn wants_to_stop(&mut self) -> bool {
        self.0
    }
}

#[test]
fn no_test_begins_once_a_run_is_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("run");
    trainer().start(&place).unwrap().train(&mut StopsAtOnce(false)).unwrap();
    let ending = trainer().resume(&place).unwrap().train(&mut StopsAtOnce(false)).unwrap();
    assert_eq!((ending.iteration, ending.is_finished), (2, false));
    let tests = |place: &Path| {
        let records = read_metrics(&place.join("metrics.jsonl")).unwrap();
        records.iter().filter(|record| matches!(record, Record::Validation { .. })).count()
    };
    assert_eq!(tests(&place), 0);
    trainer().resume(&place).unwrap().train(&mut ()).unwrap();
    assert_eq!(tests(&place), 3);
}
