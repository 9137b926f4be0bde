//! Processes whose wall clock is wrong, with libfaketime. The monotonic clock, by which they wait, stays right.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// Where Debian puts the library, below the folder of an architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The wall clock of a process.
#[derive(Debug)]
pub struct WrongClock {
    /// How wrong it is; the process reads this file whenever it reads the clock.
    file: PathBuf,
    library: PathBuf,
}

impl WrongClock {
    /// So many seconds after the right time, or before it if negative.
    ///
    /// # Errors
    /// When libfaketime is not installed, or the file cannot be written.
    pub fn new(file: PathBuf, seconds: i64) -> Result<Self> {
        let clock = Self { file, library: library()? };
        clock.set(seconds)?;
        Ok(clock)
    }

    /// Sets the clock, also while a process uses it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // By renaming, so that no process reads half a file.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(new, &self.file)?)
    }

    /// The command's process will use this clock.
    pub fn give_to(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

fn library() -> Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").context("/usr/lib cannot be read")?;
    let mut libraries = folders.flatten().map(|folder| folder.path().join(LIBRARY));
    let found = libraries.find(|library| library.is_file());
    found.context("libfaketime is not installed: apt-get install faketime")
}

/// Removes the shared memory that libfaketime leaves when its process has ended. A later process with the same id would not
/// start.
pub(crate) fn remove_shared_memory(pid: u32) {
    for name in ["faketime_shm", "sem.faketime_sem"] {
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(format!("{name}_{pid}")));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn the_wall_clock_of_a_process_is_wrong_and_its_monotonic_clock_right() {
        let folder = tempfile::tempdir().unwrap();
        let clock = WrongClock::new(folder.path().join("clock"), 0).unwrap();
        let read = || {
            let script = "import time; print(int(time.time()), int(time.monotonic()))";
            let mut command = Command::new("python3");
            command.args(["-c", script]);
            clock.give_to(&mut command);
            let child = command.stdout(Stdio::piped()).spawn().unwrap();
            let pid = child.id();
            let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
            remove_shared_memory(pid);
            let [wall, monotonic] =
                [0, 1].map(|at| output.split_whitespace().nth(at).unwrap().parse().unwrap());
            (wall, monotonic)
        };
        let (wall, monotonic): (i64, i64) = read();
        for seconds in [-86_400 * 30, 86_400] {
            clock.set(seconds).unwrap();
            let (set, later) = read();
            let passed = later - monotonic;
            assert!((0..600).contains(&passed), "{passed} s passed");
            assert!((-1..=1).contains(&(set - wall - seconds - passed)), "{set} {wall} {seconds} {passed}");
        }
    }
}
