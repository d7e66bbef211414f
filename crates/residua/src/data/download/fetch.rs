//! Fetching a file whose checksum is known, in as many attempts as it takes.
//!
//! What has arrived lies in `FILE.part`, and the next attempt, or the next process, asks for the rest only. Nothing has the
//! file's own name before its checksum is right.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

use md5::{Digest, Md5};
use thiserror::Error;

use super::archive::ArchiveError;

/// What is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Where it is: `https://` or `http://`.
    pub url: String,
    /// Its MD5 checksum, in lower-case hexadecimal digits.
    pub md5: String,
}

/// How patient a download is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A connection on which nothing arrives for so long is given up.
    pub stall: Duration,
    /// How often a broken connection is made again.
    pub retries: u32,
    /// Before the first retry; twice as long before each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { stall: Duration::from_secs(30), retries: 4, pause: Duration::from_secs(1) }
    }
}

/// Someone who watches a download.
pub trait DownloadObserver {
    /// So many bytes are there, of so many if that is known.
    fn advanced(&mut self, _bytes: u64, _of: Option<u64>) {}
    /// The connection broke for this reason; it is made again.
    fn retries(&mut self, _reason: &str) {}
    /// All bytes are there, and are unpacked now.
    fn unpacks(&mut self) {}
}

/// Nobody watches.
impl DownloadObserver for () {}

/// Fetches `remote` to the file `to`.
///
/// # Errors
///
/// A [`DownloadError`] that says how far it came and what to do.
pub fn fetch(
    remote: &Remote,
    to: &Path,
    patience: Patience,
    observer: &mut dyn DownloadObserver,
) -> Result<(), DownloadError> {
    let part_path =
        to.with_file_name(format!("{}.part", to.file_name().unwrap_or_default().to_string_lossy()));
    let failed = |reason| DownloadError::File { path: part_path.clone(), reason };
    let mut part = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&part_path)
        .map_err(failed)?;
    match part.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(DownloadError::Busy { path: part_path }),
        Err(TryLockError::Error(reason)) => return Err(failed(reason)),
    }
    let mut attempt = Attempt { remote, part: &mut part, path: &part_path, patience };
    // A part that is another file's, or was damaged, shows in the checksum only.
    let was_begun = attempt.length()? > 0;
    attempt.all(observer)?;
    if attempt.checksum()? != remote.md5 && was_begun {
        attempt.start_over()?;
        attempt.all(observer)?;
    }
    let found = attempt.checksum()?;
    if found != remote.md5 {
        // The error is the checksum; a part that stays is only asked for again.
        let _ = fs::remove_file(&part_path);
        return Err(DownloadError::Checksum { url: remote.url.clone(), expected: remote.md5.clone(), found });
    }
    part.sync_all().map_err(failed)?;
    fs::rename(&part_path, to).map_err(|reason| DownloadError::File { path: to.into(), reason })
}

struct Attempt<'a> {
    remote: &'a Remote,
    part: &'a mut File,
    path: &'a Path,
    patience: Patience,
}

/// How an attempt ended that did not bring the whole file.
enum Broken {
    /// The next may bring the rest.
    Connection(String),
    /// Nothing but the user can help.
    For(DownloadError),
}

impl From<DownloadError> for Broken {
    fn from(error: DownloadError) -> Self {
        Self::For(error)
    }
}

impl Attempt<'_> {
    /// Attempts until the file is whole or patience is at an end.
    fn all(&mut self, observer: &mut dyn DownloadObserver) -> Result<(), DownloadError> {
        let mut left = self.patience.retries;
        let mut pause = self.patience.pause;
        loop {
            let before = self.length()?;
            let reason = match self.once(observer) {
                Ok(()) => return Ok(()),
                Err(Broken::For(error)) => return Err(error),
                Err(Broken::Connection(reason)) => reason,
            };
            let bytes = self.length()?;
            // A connection that breaks again and again, but brings something each time, does get there.
            if bytes > before {
                (left, pause) = (self.patience.retries, self.patience.pause);
            }
            if left == 0 {
                return Err(DownloadError::Connection { url: self.remote.url.clone(), bytes, reason });
            }
            observer.retries(&reason);
            thread::sleep(pause);
            (left, pause) = (left - 1, pause * 2);
        }
    }

    /// Asks for what is missing.
    fn once(&mut self, observer: &mut dyn DownloadObserver) -> Result<(), Broken> {
        let have = self.length()?;
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_connect(Some(self.patience.stall))
            .timeout_recv_response(Some(self.patience.stall))
            .http_status_as_error(false)
            .max_redirects(5)
            .user_agent(concat!("residua/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let mut request = agent.get(&self.remote.url);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let response = request.call().map_err(|error| self.refused(error))?;
        let (status, headers) = (response.status().as_u16(), response.headers());
        let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
        let length = number("content-length");
        let begins_at = |start: u64| {
            let range = headers.get("content-range").and_then(|range| range.to_str().ok());
            range.is_some_and(|range| range.starts_with(&format!("bytes {start}-")))
        };
        let start = match status {
            206 if begins_at(have) => have,
            200 => 0,
            // There is nothing beyond what is there: the checksum will tell whether that is the file.
            416 if have > 0 => return Ok(()),
            206 => {
                self.start_over()?;
                return Err(Broken::Connection("the server sent another part than was asked for".into()));
            }
            500..=599 | 408 | 429 => return Err(Broken::Connection(format!("the server answered {status}"))),
            _ => return Err(DownloadError::Status { url: self.remote.url.clone(), status }.into()),
        };
        self.part.set_len(start).map_err(|reason| self.file(reason))?;
        self.part.seek(SeekFrom::Start(start)).map_err(|reason| self.file(reason))?;
        let of = length.map(|length| start + length);
        self.receive(response.into_body().into_reader(), start, of, observer)
    }

    /// Writes what arrives to the part. A thread reads, so that a silent connection can be given up.
    fn receive(
        &mut self,
        mut body: impl Read + Send + 'static,
        start: u64,
        of: Option<u64>,
        observer: &mut dyn DownloadObserver,
    ) -> Result<(), Broken> {
        const PIECE: usize = 1 << 16;
        let (sender, pieces) = sync_channel::<io::Result<Vec<u8>>>(4);
        thread::spawn(move || {
            loop {
                let mut piece = vec![0; PIECE];
                let piece = body.read(&mut piece).map(|length| {
                    piece.truncate(length);
                    piece
                });
                let is_last = piece.as_ref().map_or(true, Vec::is_empty);
                if sender.send(piece).is_err() || is_last {
                    return;
                }
            }
        });
        let mut bytes = start;
        observer.advanced(bytes, of);
        loop {
            let piece = match pieces.recv_timeout(self.patience.stall) {
                Ok(Ok(piece)) if piece.is_empty() => break,
                Ok(Ok(piece)) => piece,
                Ok(Err(error)) => return Err(Broken::Connection(error.to_string())),
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = self.patience.stall.as_secs_f64();
                    return Err(Broken::Connection(format!("nothing arrived for {seconds} s")));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Broken::Connection("the connection was lost".into()));
                }
            };
            self.part.write_all(&piece).map_err(|reason| self.file(reason))?;
            bytes += piece.len() as u64;
            observer.advanced(bytes, of);
        }
        match of {
            Some(of) if bytes < of => {
                Err(Broken::Connection(format!("it ended after {bytes} of {of} bytes")))
            }
            _ => Ok(()),
        }
    }

    fn refused(&self, error: ureq::Error) -> Broken {
        let url = self.remote.url.clone();
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                DownloadError::Address { url, reason: error.to_string() }.into()
            }
            ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed => {
                DownloadError::Address { url, reason: "it redirects without end".into() }.into()
            }
            error => Broken::Connection(error.to_string()),
        }
    }

    fn length(&self) -> Result<u64, DownloadError> {
        Ok(self.part.metadata().map_err(|reason| self.file(reason))?.len())
    }

    fn start_over(&mut self) -> Result<(), DownloadError> {
        self.part.set_len(0).map_err(|reason| self.file(reason))
    }

    fn checksum(&mut self) -> Result<String, DownloadError> {
        self.part.seek(SeekFrom::Start(0)).map_err(|reason| self.file(reason))?;
        let mut digest = Md5::new();
        let mut reader = BufReader::with_capacity(1 << 20, &*self.part);
        io::copy(&mut reader, &mut digest).map_err(|reason| self.file(reason))?;
        Ok(format!("{:x}", digest.finalize()))
    }

    fn file(&self, reason: io::Error) -> DownloadError {
        DownloadError::File { path: self.path.into(), reason }
    }
}

/// A data set that could not be downloaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The connection could not be made, or broke too often.
    #[error(
        "cannot download {url}: {reason}; {bytes} bytes are there, run the same command again to go on from them"
    )]
    Connection {
        /// What was to be fetched.
        url: String,
        /// How much has arrived so far.
        bytes: u64,
        /// What the last attempt met with.
        reason: String,
    },
    /// The server has no such file, or does not give it.
    #[error("cannot download {url}: the server answered {status}{}; give the address of a mirror", meaning(*.status))]
    Status {
        /// What was to be fetched.
        url: String,
        /// The status of the answer.
        status: u16,
    },
    /// The address is none.
    #[error("cannot download {url}: {reason}; give another address")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is another one.
    #[error(
        "{url} is not the file that it should be: its MD5 checksum is {found}, not {expected}; what has arrived was deleted, try again or another mirror"
    )]
    Checksum {
        /// What was fetched.
        url: String,
        /// The checksum that is known.
        expected: String,
        /// That of what has arrived.
        found: String,
    },
    /// Another process fetches the same file.
    #[error("another process is downloading to {path:?}; wait for it")]
    Busy {
        /// The unfinished file.
        path: PathBuf,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {path:?}: {reason}; free some space or choose another folder")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        reason: io::Error,
    },
    /// The archive cannot be unpacked.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// What was unpacked is not the data set.
    #[error("what {url} holds is no whole data set: {problem}")]
    NotTheDataSet {
        /// What was fetched.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
}

fn meaning(status: u16) -> &'static str {
    match status {
        401 | 403 => " (access denied)",
        404 | 410 => " (it is not there)",
        _ => "",
    }
}
