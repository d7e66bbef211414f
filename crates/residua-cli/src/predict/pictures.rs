//! Which pictures are meant: files, folders, patterns, and lines of standard input.

use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::usage::UsageError;

/// Endings of files that are taken for pictures in folders.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "bmp", "gif"];

/// The files that words mean, in their order; those of a folder or pattern in the order of their names. A file that is
/// named is taken whatever its ending, also one that is not there: reading it will say so.
pub(super) fn pictures(words: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for word in words {
        let path = Path::new(word);
        if word == "-" {
            for line in std::io::stdin().lock().lines() {
                let line = line.context("cannot read paths from standard input")?;
                found.extend((!line.trim().is_empty()).then(|| PathBuf::from(line.trim_end_matches('\r'))));
            }
        } else if path.is_dir() {
            collect(path, &mut found)?;
        } else if !path.exists() && word.contains(['*', '?', '[']) {
            let wrong = |error| UsageError::new(format_args!("{word}: {error}"));
            for file in glob::glob(word).map_err(wrong)? {
                let file = file.with_context(|| format!("cannot look for {word}"))?;
                found.extend((!file.is_dir()).then_some(file));
            }
        } else {
            found.push(path.to_owned());
        }
    }
    Ok(found)
}

/// All pictures in a folder, at any depth.
fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let cannot = || format!("cannot list {}", folder.display());
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).with_context(cannot)?.collect();
    let mut paths: Vec<PathBuf> = entries.with_context(cannot)?.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        let has_ending =
            |ending: &std::ffi::OsStr| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known));
        // A link to a folder may lead back here.
        if path.is_dir() && !path.is_symlink() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(has_ending) {
            found.push(path);
        }
    }
    Ok(())
}
