//! `residua report`: runs as an HTML page.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use residua::data::{Source, Split};
use residua::evaluate::Trained;
use residua::files::{check_writable, write_file};
use residua::report::{Examination, Examined, ReportedRun, RunSummary, page};

use crate::images::of_classes;
use crate::machine::MachineArguments;
use crate::output::{print, tell};
use crate::remedy::explain;
use crate::usage::count;
use crate::waiting::Waiting;
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua report runs/preresnet20-shapes --open
  residua report runs/preresnet110 runs/resnet110 --out comparison.html
  residua report runs/preresnet20-cifar10 --data cifar10:elsewhere";

/// Make an HTML page of a run, or of several beside each other.
///
/// The page is one file that needs no network: curves whose values show where the pointer is, the recipe, the network, the
/// tests, which classes the last checkpoint mixes up, how good it is at each, whether it is as often right as it is sure, and the
/// test images that it finds hardest.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The runs' folders.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The file to write [default: report.html in the run's folder; for several runs, in the current folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Open the page in the browser.
    #[arg(long)]
    open: bool,
    /// The data set with the test images [default: that of each run].
    #[arg(long, value_name = "DATA", value_parser = words::<Source>())]
    data: Option<Source>,
    /// Leave out what needs the network and the test images: confusions, classes, calibration and hard images.
    #[arg(long)]
    no_evaluate: bool,
    /// Images of a batch; does not change the result.
    #[arg(long, default_value = "128", value_name = "N", value_parser = count::<NonZeroUsize>)]
    batch: NonZeroUsize,
    #[command(flatten)]
    machine: MachineArguments,
}

/// Test images that are shown.
const HARDEST: usize = 24;

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let runs: Vec<_> =
        arguments.runs.iter().map(|folder| RunSummary::read(folder)).collect::<Result<_, _>>()?;
    let out = match (&arguments.out, arguments.runs.as_slice()) {
        (Some(out), _) => out.clone(),
        (None, [run]) => run.join("report.html"),
        (None, _) => "report.html".into(),
    };
    check_writable(&out)?;
    arguments.machine.start_threads()?;
    let mut reported = Vec::with_capacity(runs.len());
    for run in runs {
        let examined = match arguments.no_evaluate {
            true => Examined::No,
            false => arguments.examined(&run).map_or_else(
                |error| Examined::Failed(explain(error.as_ref())),
                |found| Examined::Yes(Box::new(found)),
            ),
        };
        if let Examined::Failed(reason) = &examined {
            tell(format_args!("warning: {}: no confusions in the report: {reason}", run.folder.display()));
        }
        reported.push(ReportedRun { run, examined });
    }
    write_file(&out, page(&reported).as_bytes())?;
    print(out.display())?;
    if arguments.open {
        open(&out);
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// The network's answers to the test images; tells that this takes its time where it does.
    fn examined(&self, run: &RunSummary) -> anyhow::Result<Examination> {
        let _waiting = Waiting::for_work(format!("{}: measuring its network", run.folder.display()));
        self.examine(run)
    }

    fn examine(&self, run: &RunSummary) -> anyhow::Result<Examination> {
        let trained = Trained::load(&run.folder, &self.machine.open_device()?)?;
        let source = self.data.as_ref().unwrap_or(&run.recipe.data.source);
        let test_set = source.load(Split::Test)?.seen_by(trained.info.view())?;
        let test_set = test_set.tolerating(run.recipe.data.unreadable_share);
        let test_set = of_classes(test_set, &trained.info.classes, &run.folder.display(), source)?;
        Ok(Examination::of(&trained, &test_set, self.batch, self.machine.engine, HARDEST)?)
    }
}

/// A page that cannot be shown has been written all the same.
fn open(page: &Path) {
    if !has_display() {
        tell(format_args!(
            "warning: there is no display to open a browser on; open {} yourself",
            page.display()
        ));
        return;
    }
    let opened = fs::canonicalize(page).map_err(anyhow::Error::from).and_then(|path| Ok(opener::open(path)?));
    if let Err(error) = opened.context("cannot open a browser") {
        tell(format_args!("warning: {}; open {} yourself", explain(error.as_ref()), page.display()));
    }
}

/// Whether a browser could be shown. Where there is none, openers end without a word.
fn has_display() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    // The subsystem for Linux shows pages on its Windows.
    let names = ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME"];
    !cfg!(target_os = "linux") || names.into_iter().any(is_set)
}
