//! Runs one end-to-end test: one at a time, within a time limit. A test that times out reports what it
//! was waiting for; a failed test prints the end of its logs. No process is left behind.

use std::any::type_name;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::OwnedMutexGuard;

use crate::{ports, process_groups};

/// The time limit of a test, unless it has its own.
pub const LIMIT: Duration = Duration::from_secs(150);

/// The number of last lines of each log that are printed when a test fails.
const TAIL: usize = 40;

#[derive(Debug)]
struct RunningTest {
    name: String,
    waits: Vec<(u64, String)>,
    next: u64,
}

static RUNNING: Mutex<RunningTest> =
    Mutex::new(RunningTest { name: String::new(), waits: Vec::new(), next: 0 });

fn running() -> MutexGuard<'static, RunningTest> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held by the running cluster: clusters disturb each other on few cores, so a process runs one at a
/// time.
static CLUSTER_LOCK: Mutex<Option<Arc<tokio::sync::Mutex<()>>>> = Mutex::new(None);

tokio::task_local! {
    static IN_SCENARIO: ();
}

async fn lock() -> OwnedMutexGuard<()> {
    let lock = CLUSTER_LOCK.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().clone();
    lock.lock_owned().await
}

/// Locks for a cluster that is started outside a scenario; a scenario holds the lock already.
pub(crate) async fn lock_for_cluster() -> Result<Option<OwnedMutexGuard<()>>> {
    if in_scenario() {
        return Ok(None);
    }
    let guard = tokio::time::timeout(Duration::from_secs(600), lock()).await;
    guard.map(Some).context("another test of this program has held its cluster for ten minutes")
}

/// Is the caller inside a scenario?
pub(crate) fn in_scenario() -> bool {
    IN_SCENARIO.try_with(|()| ()).is_ok()
}

/// The name of the running test; empty outside a scenario.
pub(crate) fn current() -> String {
    running().name.clone()
}

/// Marks a wait until it is dropped; a test that times out reports the open waits.
#[derive(Debug)]
#[must_use]
pub struct Waiting(u64);

/// Records that the test waits for `what`.
pub fn waiting(what: &str) -> Waiting {
    let mut running = running();
    running.next += 1;
    let id = running.next;
    running.waits.push((id, what.to_owned()));
    Waiting(id)
}

impl Drop for Waiting {
    fn drop(&mut self) {
        running().waits.retain(|(id, _)| *id != self.0);
    }
}

/// The folder for the logs and screenshots of the running test.
///
/// # Errors
/// When it cannot be created.
pub fn artefacts() -> Result<PathBuf> {
    let test = current();
    let name = if test.is_empty() { format!("process-{}", std::process::id()) } else { test };
    let here = std::env::current_exe()?;
    let target = here.ancestors().nth(3).context("the test program is not in a target folder")?;
    let folder = target.join("artefacts").join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn waits() -> String {
    let running = running();
    let waits: Vec<&str> = running.waits.iter().map(|(_, what)| what.as_str()).collect();
    if waits.is_empty() { "nothing that was recorded".to_owned() } else { waits.join("; ") }
}

/// Runs a test within [`LIMIT`].
///
/// # Errors
/// The test's error, or that it timed out.
pub fn run_scenario<F: Future<Output = Result<()>>>(test: F) -> Result<()> {
    run_scenario_within(LIMIT, test)
}

/// Runs a test within a time limit.
///
/// # Errors
/// The test's error, or that it timed out.
pub fn run_scenario_within<F: Future<Output = Result<()>>>(limit: Duration, test: F) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let guard = runtime.block_on(lock());
    let name = name_of::<F>();
    running().name.clone_from(&name);
    let folder = artefacts()?;
    std::fs::remove_dir_all(&folder)?;
    let result = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(IN_SCENARIO.scope((), async {
            let mut test = pin!(test);
            match tokio::time::timeout(limit, &mut test).await {
                Ok(result) => result,
                Err(_) => Err(anyhow!("{name} did not end within {limit:?}; it waited for: {}", waits())),
            }
        }))
    }));
    // First, so that threads that read a child's output end.
    process_groups::kill_all_of(&name);
    runtime.shutdown_timeout(Duration::from_secs(5));
    ports::release_scenario_blocks();
    if !matches!(result, Ok(Ok(()))) {
        print_logs(&folder);
    }
    running().name.clear();
    drop(guard);
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// `module-test`, from the type of the test's future, which is named after the function around it.
fn name_of<F>() -> String {
    let parts: Vec<&str> =
        type_name::<F>().split("::").filter(|part| !part.starts_with('{') && *part != "tests").collect();
    // The first part is the crate.
    parts.get(1..).filter(|rest| !rest.is_empty()).unwrap_or(&parts).join("-")
}

fn print_logs(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "log")) {
        let text = String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("--- last lines of {} ({} in all)", file.display(), lines.len());
        for line in lines.iter().skip(lines.len().saturating_sub(TAIL)) {
            eprintln!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::output_lines::OutputLines;
    use crate::process::ChildProcess;

    #[test]
    fn a_test_that_times_out_reports_what_it_waited_for() {
        let error = run_scenario_within(Duration::from_millis(200), async {
            let _waiting = waiting("a sister that never starts");
            std::future::pending::<()>().await;
            Ok(())
        });
        let text = error.unwrap_err().to_string();
        assert!(text.contains("a sister that never starts"), "{text}");
    }

    #[test]
    fn a_test_that_blocks_on_a_silent_child_times_out_and_the_child_is_killed() {
        let started = Arc::new(Mutex::new(0));
        let group = started.clone();
        let result = run_scenario_within(Duration::from_secs(3), async move {
            tokio::task::spawn_blocking(move || -> Result<()> {
                // A child with a child of its own, both silent.
                let mut child = ChildProcess::start(
                    Command::new("sh").args(["-c", "sleep 600 & sleep 600"]).stdout(Stdio::piped()),
                    "a shell is needed",
                )?;
                *group.lock().unwrap() = child.0.id();
                let lines = OutputLines::of(child.0.stdout.take().unwrap());
                lines.next("a line of the child", Duration::from_secs(100))?;
                Ok(())
            })
            .await?
        });
        assert!(result.unwrap_err().to_string().contains("a line of the child"));
        let group = *started.lock().unwrap();
        assert!(group != 0);
        process_groups::wait_until_ended(group);
        assert!(!process_groups::is_running(group), "both processes have ended");
    }

    #[test]
    fn a_test_is_named_after_its_module_and_its_function() {
        let mut name = String::new();
        let result = run_scenario(async {
            name = current();
            Ok(())
        });
        result.unwrap();
        assert_eq!(name, "scenario-a_test_is_named_after_its_module_and_its_function");
    }

    #[test]
    fn tests_of_one_program_run_one_after_another() {
        static CONCURRENT: AtomicUsize = AtomicUsize::new(0);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    run_scenario(async {
                        assert_eq!(CONCURRENT.fetch_add(1, Ordering::SeqCst), 0);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        CONCURRENT.fetch_sub(1, Ordering::SeqCst);
                        Ok(())
                    })
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    }
}
