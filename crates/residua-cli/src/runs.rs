//! `residua runs`: a table of the runs in a folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use residua::report::{ChosenOn, FoundRuns, RunSummary, find_runs};
use residua::run::RunState;
use serde_json::{Value, json};

use crate::names::path_in_json;
use crate::output::{print, print_json, tell};
use crate::remedy::explain;
use crate::table::table;

const EXAMPLES: &str = "Examples:
  residua runs
  residua runs experiments --json";

/// List the runs in a folder: state, iteration, error, speed; the latest first.
///
/// A run is `running` while a process trains in it, `finished` when all its iterations are done, `failed` if an error
/// ended it, else `stopped`; the last two go on with `residua train --resume`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The folder; runs are looked for in it and in its folders.
    #[arg(default_value = "runs", value_name = "DIR")]
    folder: PathBuf,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

/// A run's row: read, or why it cannot be.
struct Row {
    folder: PathBuf,
    run: Result<RunSummary, String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { folder, json } = arguments;
    let is_there = folder.is_dir() || *json || folder != Path::new("runs");
    let FoundRuns { runs: folders, unlisted } =
        if is_there { find_runs(folder)? } else { FoundRuns::default() };
    let read = |folder: PathBuf| {
        let run = RunSummary::read(&folder).map_err(|error| explain(&error));
        Row { folder, run }
    };
    unlisted.iter().for_each(|error| tell(format_args!("passed over: {}", explain(error))));
    let mut rows: Vec<Row> = folders.into_iter().map(read).collect();
    let written = |row: &Row| row.run.as_ref().ok().and_then(|run| run.last_written).unwrap_or(0.);
    rows.sort_by(|a, b| written(b).total_cmp(&written(a)).then_with(|| a.folder.cmp(&b.folder)));
    if *json {
        print_json(&Value::from_iter(rows.iter().map(Row::json)))?;
    } else if rows.is_empty() {
        tell(format_args!("there is no run in {}; begin one with: residua train", folder.display()));
    } else {
        let head =
            ["run", "model", "data", "state", "iteration", "error", "best", "loss", "images/s", "written"];
        let head = head.map(str::to_owned);
        let cells: Vec<_> = [head].into_iter().chain(rows.iter().filter_map(Row::cells)).collect();
        print(table(&cells, 4))?;
        let is_chosen_on_tests = |row: &Row| matches!(&row.run, Ok(run) if run.best().is_some_and(|best| best.chosen_on == ChosenOn::Test));
        if rows.iter().any(is_chosen_on_tests) {
            tell(
                "the error is that of the last test; a best that is marked `test` was chosen on the test images, so it is too low \
                 (train --validation holds images out)",
            );
        }
        for Row { folder, run } in &rows {
            match run {
                Err(error) => tell(format_args!("damaged: {}: {error}", folder.display())),
                Ok(RunSummary { state: RunState::Failed(failure), .. }) => {
                    tell(format_args!("failed: {}: {}", folder.display(), failure.message));
                }
                Ok(_) => {}
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The lowest error of a run, if such images have chosen it.
fn best_on(run: &RunSummary, chosen_on: ChosenOn) -> Option<f64> {
    run.best().filter(|best| best.chosen_on == chosen_on).map(|best| best.error)
}

impl Row {
    fn cells(&self) -> Option<[String; 10]> {
        let run = match &self.run {
            Ok(run) => run,
            Err(_) => {
                let mut cells = [const { String::new() }; 10].map(|_| "-".to_owned());
                (cells[0], cells[3]) = (self.folder.display().to_string(), "damaged".to_owned());
                return Some(cells);
            }
        };
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let error = run.tests().last().map(|test| format!("{:.2} %", test.test_error));
        let best = run.best();
        let best = best.map(|best| format!("{:.2} % at {}, {}", best.error, best.iteration, best.chosen_on));
        Some([
            self.folder.display().to_string(),
            run.recipe.network.model.clone(),
            run.recipe.data.source.short_name(),
            run.state.as_str().to_owned(),
            format!("{}/{}", run.iteration(), run.recipe.schedule.iterations),
            or_none(error),
            or_none(best),
            or_none(run.loss().map(|loss| format!("{loss:.4}"))),
            or_none(run.images_per_second().map(|speed| format!("{speed:.0}"))),
            or_none(run.last_written.map(ago)),
        ])
    }

    fn json(&self) -> Value {
        match &self.run {
            Err(error) => json!({ "run": path_in_json(&self.folder), "state": "damaged", "error": error }),
            Ok(run) => json!({
                "run": path_in_json(&self.folder),
                "model": run.recipe.network.model,
                "data": run.recipe.data.source,
                "seed": run.recipe.seed,
                "state": run.state.as_str(),
                "failure": match &run.state {
                    RunState::Failed(failure) => Some(&failure.message),
                    _ => None,
                },
                "iteration": run.iteration(),
                "iterations": run.recipe.schedule.iterations,
                "best_test_error": best_on(run, ChosenOn::Test),
                "best_validation_error": best_on(run, ChosenOn::Validation),
                "best_iteration": run.best().map(|best| best.iteration),
                "test_error": run.tests().last().map(|test| test.test_error),
                "loss": run.loss(),
                "images_per_second": run.images_per_second(),
                "last_written": run.last_written,
            }),
        }
    }
}

/// How long ago a Unix time was.
fn ago(time: f64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(time, |now| now.as_secs_f64());
    let seconds = (now - time).max(0.) as u64;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
