//! Errors as the command tells them. The library's know no flags; what of the command line helps is said here.

use std::error::Error;

use residua::data::{ArchiveError, DataError, DownloadError};
use residua::device::DeviceError;
use residua::report::ReportError;
use residua::run::{CheckpointError, RunError};

use crate::usage::flag;

/// An error with its causes, those left out that it tells of already, and what to do about it.
pub(crate) fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in std::iter::successors(Some(error), |error| Error::source(*error)) {
        let message = message(cause);
        match text.contains(&message) {
            true => {}
            false if text.is_empty() => text = message,
            false => text = format!("{text}: {message}"),
        }
        text += &remedy(cause);
    }
    text
}

fn message(error: &(dyn Error + 'static)) -> String {
    error.downcast_ref::<RunError>().map_or_else(|| error.to_string(), |error| error.with_names(flag))
}

/// What the command line has to offer against an error, to be said right behind its message.
fn remedy(error: &(dyn Error + 'static)) -> String {
    let of_run = || error.downcast_ref().map(remedy_of_run);
    let of_report = || error.downcast_ref().map(remedy_of_report);
    let of_data = || error.downcast_ref().map(remedy_of_data);
    let of_device = || error.downcast_ref().map(remedy_of_device);
    let of_download = || error.downcast_ref().map(remedy_of_download);
    of_run().or_else(of_report).or_else(of_data).or_else(of_device).or_else(of_download).unwrap_or_default()
}

fn remedy_of_run(error: &RunError) -> String {
    match error {
        RunError::Folder { .. } => " with --out".to_owned(),
        RunError::RunExists { folder } => {
            format!("; go on with it by --resume {}, or choose another folder with --out", folder.display())
        }
        RunError::NoRun { folder, around: None } => {
            format!(", or begin one there with --out {}", folder.display())
        }
        RunError::AlreadyDone { folder, kind, .. } if !kind.is_step() => {
            format!(" with --init {}", folder.display())
        }
        RunError::Checkpoint(CheckpointError::NoAverage { .. }) => {
            " by leaving out --average, or train with --ema".to_owned()
        }
        RunError::Data(error) => remedy_of_data(error),
        RunError::Device(error) => remedy_of_device(error),
        _ => String::new(),
    }
}

fn remedy_of_report(error: &ReportError) -> String {
    match error {
        ReportError::Run(error) => remedy_of_run(error),
        ReportError::Unlisted { .. } => "; give a folder that holds runs".to_owned(),
        ReportError::NoRun { .. } => "; give a folder that `residua train` has made".to_owned(),
        ReportError::Foreign { .. } => ", or keep the paper's runs elsewhere with --out".to_owned(),
        _ => String::new(),
    }
}

fn remedy_of_data(error: &DataError) -> String {
    match error {
        DataError::NotDownloaded { name, .. } => format!(" by `residua data download {name}`"),
        DataError::HeldOut { .. } => ": --validation".to_owned(),
        DataError::FolderMissing { .. } | DataError::NotAFolder { .. } => {
            "; name another place with --data".to_owned()
        }
        DataError::TooManyUnreadable { .. } => ", or allow more with --max-unreadable".to_owned(),
        _ => String::new(),
    }
}

fn remedy_of_device(error: &DeviceError) -> String {
    match error {
        DeviceError::NotBuilt { feature } => {
            format!("; rebuild it with `cargo build --release --features {feature}`, or use --device cpu")
        }
        DeviceError::Unavailable { .. } => ", or use --device cpu".to_owned(),
        _ => String::new(),
    }
}

fn remedy_of_download(error: &DownloadError) -> String {
    match error {
        DownloadError::Status { .. } | DownloadError::Address { .. } => " with --url".to_owned(),
        DownloadError::Checksum { .. } => " (--url)".to_owned(),
        DownloadError::File { .. } | DownloadError::Archive(ArchiveError::File { .. }) => {
            " with --to".to_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context;
    use residua::run::ScheduleKind;

    use super::*;

    #[test]
    fn causes_are_told_once_and_remedies_right_behind_what_they_are_for() {
        let reason = io::Error::other("it is full");
        let error = RunError::Folder { folder: "runs/a".into(), reason };
        let error = Err::<(), _>(error).context("row 3").unwrap_err();
        assert_eq!(
            explain(error.as_ref()),
            "row 3: cannot use the run folder runs/a: it is full; choose another with --out"
        );
    }

    #[test]
    fn options_are_called_by_their_flags() {
        let folder = "runs/a".into();
        let kind = ScheduleKind::Step;
        let error = RunError::AlreadyDone { folder, iteration: 4, iterations: 4, kind };
        assert!(error.to_string().ends_with("give a larger schedule.iterations"), "{error}");
        assert!(explain(&error).ends_with("give a larger --iterations"), "{}", explain(&error));
    }
}
