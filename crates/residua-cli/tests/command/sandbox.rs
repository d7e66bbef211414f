//! A folder of its own for each test, in which `residua` is started, never for longer than a limit.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::tiny_cifar::write_tiny_cifar;

/// No program of these tests runs for longer.
const LIMIT: Duration = Duration::from_secs(120);

/// A folder with a tiny CIFAR-10 in `data`. Programs are started in it, so that paths are relative to it.
pub(crate) struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_tiny_cifar(&folder.path().join("data"));
        Self { folder }
    }

    /// The path of something in this folder.
    pub(crate) fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts `residua` with the words of `line`.
    pub(crate) fn start(&self, line: &str) -> Running {
        let mut command = self.command(line);
        self.spawn(&mut command, line)
    }

    /// Starts a program that starts another, `residua`, with the words of `line`.
    #[cfg(unix)]
    pub(crate) fn start_by(&self, command: &mut Command, line: &str) -> Running {
        let command = command.args(line.split_whitespace()).current_dir(&self.folder);
        self.spawn(command, line)
    }

    fn spawn(&self, command: &mut Command, line: &str) -> Running {
        let [stdout, stderr] = [(); 2].map(|()| tempfile::NamedTempFile::new().unwrap().into_temp_path());
        let child = command
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        Running { line: line.to_owned(), begun: Instant::now(), child, stdout, stderr }
    }

    /// Runs `residua` with the words of `line` to its end.
    pub(crate) fn run(&self, line: &str) -> Ended {
        self.start(line).wait()
    }

    /// Runs what must succeed.
    pub(crate) fn succeed(&self, line: &str) -> Ended {
        let ended = self.run(line);
        assert_eq!(ended.code, Some(0), "residua {line}\n{}", ended.stderr);
        ended
    }

    /// `residua` with the words of `line`, not started yet.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_residua"));
        command.args(line.split_whitespace()).current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// Files and folders that were being written, anywhere in this folder.
    pub(crate) fn half_written(&self) -> Vec<PathBuf> {
        let is_half = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(".tmp-") || name.starts_with(".replaced-")
        };
        files(self.folder.path()).into_iter().filter(is_half).collect()
    }
}

/// A program that has been started. It ends with this value at the latest.
pub(crate) struct Running {
    line: String,
    begun: Instant,
    child: Child,
    stdout: tempfile::TempPath,
    stderr: tempfile::TempPath,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    /// Waits until standard error holds `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !fs::read_to_string(&self.stderr).unwrap().contains(text) {
            let status = self.poll();
            assert!(status.is_none(), "it ended before '{text}': {:?}", self.ended(status.unwrap()));
        }
    }

    /// Waits for the end, or until `time` has passed; whether it has ended.
    pub(crate) fn wait_at_most(&mut self, time: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < time {
            if self.poll().is_some() {
                return true;
            }
        }
        false
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Ended {
        loop {
            if let Some(status) = self.poll() {
                return self.ended(status);
            }
        }
    }

    /// Ends it at once, by SIGKILL where there are signals.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The process's number.
    #[cfg(unix)]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `INT`.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let line = format!("kill -s {name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().unwrap();
        if status.is_none() {
            assert!(self.begun.elapsed() < LIMIT, "residua {} runs for too long", self.line);
            sleep(Duration::from_millis(2));
        }
        status
    }

    fn ended(&self, status: ExitStatus) -> Ended {
        let read = |path| fs::read_to_string(path).unwrap();
        Ended { code: status.code(), stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended by itself, and then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Standard output, which must be one line of JSON.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// Everything below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}
