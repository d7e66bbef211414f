//! Which pictures are meant, by files, folders, patterns and lines of standard input; and what is in them.

use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use rayon::prelude::*;
use residua::data::{DataError, View, read_image};
use residua::run::RunError;

use crate::output::tell;
use crate::remedy::explain;
use crate::usage::UsageError;

/// Endings of files that are taken for pictures in folders.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "bmp", "gif"];

/// The files that words mean, in their order, at least one; those of a folder or pattern in the order of their names. A file that
/// is named is taken whatever its ending, also one that is not there: reading it will say so.
pub(crate) fn find_pictures(words: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let found = look_for(words)?;
    if found.is_empty() {
        bail!("there is no picture in {}; give files, folders with pictures, or patterns", words.join(", "));
    }
    Ok(found)
}

/// Pictures that are decoded together, each as the network sees it, or why it cannot be read.
pub(crate) struct Decoded(Vec<Result<Vec<u8>, RunError>>);

impl Decoded {
    pub(crate) fn of(paths: &[PathBuf], view: &View) -> Self {
        let decode = |path: &PathBuf| Ok(read_image(path, view).map_err(DataError::from)?);
        Self(paths.par_iter().map(decode).collect())
    }

    /// Those that could be read.
    pub(crate) fn readable(&self) -> Vec<&[u8]> {
        self.0.iter().flatten().map(Vec::as_slice).collect()
    }

    /// Gives each path that could be read its result, of which there is one for each of [`readable`](Self::readable), and has a line for
    /// each of the others: a bad picture does not stop the good ones. How many are bad.
    pub(crate) fn report<'a, T>(
        &self,
        paths: &'a [PathBuf],
        results: impl IntoIterator<Item = T>,
        mut report: impl FnMut(&'a Path, T) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let mut results = results.into_iter();
        let mut unreadable = 0;
        for (path, decoded) in paths.iter().zip(&self.0) {
            match decoded {
                Ok(_) => results.next().map_or(Ok(()), |result| report(path, result))?,
                Err(error) => {
                    tell(format_args!("error: {}", explain(error)));
                    unreadable += 1;
                }
            }
        }
        Ok(unreadable)
    }
}

/// Says how fast so many pictures have gone through.
pub(crate) fn tell_speed(pictures: usize, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    let speed = pictures as f64 / seconds.max(1e-9);
    tell(format_args!("{pictures} pictures in {seconds:.1} s, {speed:.0} a second"));
}

fn look_for(words: &[String]) -> anyhow::Result<Vec<PathBuf>> {
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
