//! Legal picture files of every kind, as Pillow reads them; see `fixtures/pictures/make.py`. With `RESIDUA_PICTURES` all that it makes, else
//! those that are committed.
#![cfg(feature = "pictures")]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use residua_infer::pictures::read_picture;
use serde::Deserialize;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures");

#[derive(Deserialize)]
struct Index {
    pictures: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    file: String,
    width: u32,
    height: u32,
}

fn entries(folder: &Path) -> Vec<Entry> {
    let index: Index = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    index.pictures
}

/// Why a picture is not read as Pillow reads it.
fn difference(folder: &Path, Entry { file, width, height }: &Entry) -> Option<String> {
    let expected = fs::read(folder.join(format!("{file}.rgb"))).unwrap();
    let found = match read_picture(&folder.join(file)) {
        Ok(found) => found,
        // Refused by name.
        Err(error) if error.to_string().contains("which is not read") => return None,
        Err(error) => return Some(error.to_string()),
    };
    if found.dimensions() != (*width, *height) {
        return Some(format!("{file}: {:?}, not {width}x{height}", found.dimensions()));
    }
    let mut off: Vec<u8> = found.as_raw().iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).collect();
    off.sort_unstable();
    let mean = off.iter().map(|&off| f64::from(off)).sum::<f64>() / off.len() as f64;
    let of_worst = off[(off.len() * 99 / 100).min(off.len() - 1)];
    (mean > 2. || of_worst > 5)
        .then(|| format!("{file}: {mean:.2} levels in mean, {of_worst} in the worst 1 %"))
}

#[test]
fn pictures_are_read_as_pillow_reads_them() {
    let mut folders = vec![PathBuf::from(SAMPLE)];
    match std::env::var_os("RESIDUA_PICTURES") {
        Some(folder) => folders.push(folder.into()),
        None => writeln!(io::stderr(), "skipped: all kinds of pictures (RESIDUA_PICTURES names no folder)")
            .unwrap(),
    }
    let mut differences = Vec::new();
    for folder in folders {
        let entries = entries(&folder);
        assert!(entries.len() >= 40, "{folder:?}");
        differences.extend(entries.iter().filter_map(|entry| difference(&folder, entry)));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The JPEG files among those that are committed.
fn jpegs() -> impl Iterator<Item = (String, Vec<u8>)> {
    entries(Path::new(SAMPLE)).into_iter().filter(|entry| entry.file.ends_with(".jpg")).map(|entry| {
        let bytes = fs::read(Path::new(SAMPLE).join(&entry.file)).unwrap();
        (entry.file, bytes)
    })
}

#[test]
fn halves_of_jpeg_files_are_no_pictures_whatever_follows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.jpg");
    let is_whole = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        read_picture(&path).is_ok()
    };
    let video = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41\xff\xd9\0\0\xff\xd9";
    let mut checked = 0;
    for (file, whole) in jpegs() {
        // What follows the picture in these is no part of it.
        if !is_whole(&whole) || file.contains("followed") || file.contains("thumbnail") {
            continue;
        }
        assert!(is_whole(&whole[..whole.len() - 2]), "{file} without its last two bytes");
        let scan = whole.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        for share in [2, 4, 6, 8] {
            let half = &whole[..scan + (whole.len() - scan) * share / 10];
            for (follower, rest) in [
                ("nothing", &b""[..]),
                ("a whole one", &whole),
                ("an end", b"\xff\xd9"),
                ("zeros", &[0; 999]),
                ("a video", video),
            ] {
                assert!(!is_whole(&[half, rest].concat()), "{share}/10 of {file} and {follower}");
            }
        }
        checked += 1;
    }
    assert!(checked >= 12, "{checked}");
}

proptest! {
    #[test]
    fn no_cut_and_no_change_makes_reading_panic(
        file: prop::sample::Index, cut: prop::sample::Index, is_cut: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let entries = entries(Path::new(SAMPLE));
        let mut bytes = fs::read(Path::new(SAMPLE).join(&file.get(&entries).file)).unwrap();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture");
        fs::write(&path, bytes).unwrap();
        let _ = read_picture(&path);
    }
}
