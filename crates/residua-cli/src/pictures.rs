//! Which pictures are meant, by files, folders, patterns and lines of standard input; and what is in them.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use rayon::prelude::*;
use residua::data::{DataError, LeftOut, PictureFiles, View, read_image};
use residua::explain::Explanation;
use residua::infer::Prediction;
use residua::run::RunError;

use crate::output::tell;
use crate::patterns::matched;
use crate::remedy::explain;
use crate::usage::UsageError;

/// The files that words mean.
#[derive(Debug, Default)]
pub(crate) struct Pictures {
    /// In the order of the words, at least one; those of a folder or pattern in the order of their names.
    pub(crate) paths: Vec<PathBuf>,
    /// Folders that could not be listed, of which has been told.
    pub(crate) unlisted: usize,
}

/// The files that words mean, and a word on what is passed over. A file that is named is taken whatever its ending, also one that is not
/// there: reading it will say so.
pub(crate) fn find_pictures(words: &[OsString]) -> anyhow::Result<Pictures> {
    let found = look_for(words)?;
    if found.paths.is_empty() {
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
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
    pub(crate) fn report<'a, T: Said>(
        &self,
        paths: &'a [PathBuf],
        results: impl IntoIterator<Item = T>,
        mut report: impl FnMut(&'a Path, T) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let mut results = results.into_iter();
        let mut bad = 0;
        for (path, decoded) in paths.iter().zip(&self.0) {
            match decoded {
                Ok(_) => match results.next() {
                    Some(result) if result.is_number() => report(path, result)?,
                    Some(_) => {
                        tell(format_args!(
                            "error: what the network says of {} is no number: its weights are too large, as after a training that has \
                             diverged; take an earlier checkpoint",
                            path.display()
                        ));
                        bad += 1;
                    }
                    None => {}
                },
                Err(error) => {
                    tell(format_args!("error: {}", explain(error)));
                    bad += 1;
                }
            }
        }
        Ok(bad)
    }
}

/// What a network says of a picture.
pub(crate) trait Said {
    /// Whether it says anything: sums that have overflowed say nothing.
    fn is_number(&self) -> bool;
}

impl Said for Vec<Prediction> {
    fn is_number(&self) -> bool {
        self.iter().all(|prediction| !prediction.probability.is_nan())
    }
}

impl Said for &[f32] {
    fn is_number(&self) -> bool {
        self.iter().all(|feature| feature.is_finite())
    }
}

impl Said for (&&[u8], Explanation) {
    fn is_number(&self) -> bool {
        !self.1.probability.is_nan() && self.1.map.values.iter().all(|value| !value.is_nan())
    }
}

/// Says how fast so many pictures have gone through.
pub(crate) fn tell_speed(pictures: usize, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    let speed = pictures as f64 / seconds.max(1e-9);
    tell(format_args!("{pictures} pictures in {seconds:.1} s, {speed:.0} a second"));
}

fn look_for(words: &[OsString]) -> anyhow::Result<Pictures> {
    let mut found = Pictures::default();
    for word in words {
        let path = Path::new(word);
        let pattern = || word.to_str().filter(|word| word.contains(['*', '?', '[']));
        if word == "-" {
            for line in io::stdin().lock().split(b'\n') {
                let line = line.context("cannot read paths from standard input")?;
                found.paths.extend(path_of_line(&line));
            }
        } else if path.is_dir() {
            let PictureFiles { pictures, unlisted, left_out, dead_links, .. } = PictureFiles::of(path);
            found.paths.extend(pictures);
            found.tell_of_unlisted(unlisted);
            tell_of_left_out(path, &left_out, &dead_links);
        } else if !path.exists()
            && let Some(pattern) = pattern()
        {
            let wrong = |error| UsageError::new(format_args!("{pattern}: {error}"));
            let matched = matched(pattern).map_err(wrong)?;
            found.paths.extend(matched.files);
            found.tell_of_unlisted(matched.unlisted);
        } else {
            found.paths.push(path.to_owned());
        }
    }
    Ok(found)
}

impl Pictures {
    fn tell_of_unlisted(&mut self, unlisted: Vec<(PathBuf, io::Error)>) {
        self.unlisted += unlisted.len();
        for (path, reason) in unlisted {
            tell(format_args!("error: {}", explain(&DataError::Unreadable { path, reason })));
        }
    }
}

fn tell_of_left_out(folder: &Path, left_out: &LeftOut, dead_links: &[PathBuf]) {
    if let Some(words) = left_out.in_words() {
        tell(format_args!("warning: {folder:?}: {words}"));
    }
    for link in dead_links {
        tell(format_args!(
            "warning: {link:?} is passed over: the link leads nowhere, or to a folder around it"
        ));
    }
}

/// The path in a line, if there is one: any bytes where paths are, elsewhere text.
fn path_of_line(line: &[u8]) -> Option<PathBuf> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    #[cfg(unix)]
    let path = Path::new(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(line)).to_owned();
    #[cfg(not(unix))]
    let path = PathBuf::from(OsStr::new(&*String::from_utf8_lossy(line)));
    (!line.trim_ascii().is_empty()).then_some(path)
}
