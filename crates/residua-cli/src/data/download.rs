//! `residua data download`: fetches a data set.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use residua::data::{Download, DownloadObserver, Downloadable, Patience, Remote, data_folder};

use crate::output::{print, tell};
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua data download cifar10
  residua data download cifar100 --to data";

/// Download a data set, check it and unpack it.
///
/// Afterwards `--data cifar10` finds it without a folder. A download that was interrupted, in whichever way, goes on when the
/// same command is run again. Prints the folder for --data NAME:DIR.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct DownloadArguments {
    /// The data set.
    #[arg(value_name = "NAME", value_parser = words::<Downloadable>())]
    name: Downloadable,
    /// Where to put it [default: $RESIDUA_DATA, or the user's folder for data of programs, such as
    /// ~/.local/share/residua].
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// A mirror of the official archive: its checksum must be the same.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Keep the archive beside what was unpacked.
    #[arg(long)]
    keep_archive: bool,
}

pub(super) fn run(arguments: &DownloadArguments) -> anyhow::Result<ExitCode> {
    let DownloadArguments { name, to, url, keep_archive } = arguments;
    let to =
        to.clone().or_else(data_folder).context("there is no folder for data here; name one with --to")?;
    let official = name.remote();
    let remote = Remote { url: url.clone().unwrap_or(official.url), md5: official.md5 };
    tell(format_args!("{name} from {} to {}", remote.url, to.display()));
    let mut terminal = Terminal::new();
    let downloaded = name.download(&remote, &to, *keep_archive, Patience::default(), &mut terminal);
    terminal.bar.finish_and_clear();
    match downloaded? {
        Download::WasThere => tell("it is there already, and whole"),
        Download::Done => tell("downloaded, checked and unpacked"),
    }
    print(to.display())?;
    Ok(ExitCode::SUCCESS)
}

/// A progress bar where there is a terminal, plain lines elsewhere.
struct Terminal {
    bar: ProgressBar,
    last_line: Instant,
}

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

impl Terminal {
    fn new() -> Self {
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4)),
            false => ProgressBar::hidden(),
        };
        let style = "{bar:30} {bytes} of {total_bytes}  {binary_bytes_per_sec}  {eta} left";
        bar.set_style(
            ProgressStyle::with_template(style).expect("the template is right").progress_chars("=> "),
        );
        Self { bar, last_line: Instant::now() }
    }
}

impl DownloadObserver for Terminal {
    fn advanced(&mut self, bytes: u64, of: Option<u64>) {
        if let Some(of) = of {
            self.bar.set_length(of);
        }
        self.bar.set_position(bytes);
        if self.bar.is_hidden() && self.last_line.elapsed() > LINE_EVERY {
            let share = of.map_or(String::new(), |of| format!(" of {:.1}", of as f64 / 1e6));
            tell(format_args!("{:.1}{share} MB", bytes as f64 / 1e6));
            self.last_line = Instant::now();
        }
    }

    fn retries(&mut self, reason: &str) {
        self.bar.suspend(|| tell(format_args!("{reason}; trying again")));
    }

    fn unpacks(&mut self) {
        self.bar.suspend(|| tell("unpacking"));
    }
}
