//! One test from end to end: it waits for its turn, has a limit, says what it waited for when it
//! fails, prints what the relays logged, and leaves no process behind.

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

/// How long a test may take unless it says otherwise.
pub const LIMIT: Duration = Duration::from_secs(150);

/// Lines of each log that are printed when a test fails.
const TAIL: usize = 40;

#[derive(Debug)]
struct Now {
    test: String,
    waits: Vec<(u64, String)>,
    next: u64,
}

static NOW: Mutex<Now> = Mutex::new(Now { test: String::new(), waits: Vec::new(), next: 0 });

fn now() -> MutexGuard<'static, Now> {
    NOW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Clusters disturb each other on few cores, so one runs at a time in each process.
static TURN: Mutex<Option<Arc<tokio::sync::Mutex<()>>>> = Mutex::new(None);

tokio::task_local! {
    static PLAYING: ();
}

async fn turn() -> OwnedMutexGuard<()> {
    let lock = TURN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().clone();
    lock.lock_owned().await
}

/// The turn of a cluster that was started outside a scene; a scene has it already.
pub(crate) async fn turn_of_cluster() -> Result<Option<OwnedMutexGuard<()>>> {
    if plays() {
        return Ok(None);
    }
    let turn = tokio::time::timeout(Duration::from_secs(600), turn()).await;
    turn.map(Some).context("another test of this program keeps its cluster for more than ten minutes")
}

/// Does a scene call this?
pub(crate) fn plays() -> bool {
    PLAYING.try_with(|()| ()).is_ok()
}

/// The test that plays now; nothing outside a scene.
pub(crate) fn current() -> String {
    now().test.clone()
}

/// Notes what is awaited until it is dropped; a test that runs out of time says so.
#[derive(Debug)]
#[must_use]
pub struct Waiting(u64);

/// Notes what is awaited from here on.
pub fn waiting(what: &str) -> Waiting {
    let mut now = now();
    now.next += 1;
    let id = now.next;
    now.waits.push((id, what.to_owned()));
    Waiting(id)
}

impl Drop for Waiting {
    fn drop(&mut self) {
        now().waits.retain(|(id, _)| *id != self.0);
    }
}

/// The folder of what the running test leaves for people: logs, screenshots, figures.
///
/// # Errors
/// When it cannot be made.
pub fn artefacts() -> Result<PathBuf> {
    let test = current();
    let name = if test.is_empty() { format!("process-{}", std::process::id()) } else { test };
    let here = std::env::current_exe()?;
    let target = here.ancestors().nth(3).context("the test program lies in no target folder")?;
    let folder = target.join("artefacts").join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn waits() -> String {
    let now = now();
    let waits: Vec<&str> = now.waits.iter().map(|(_, what)| what.as_str()).collect();
    if waits.is_empty() { "nothing that it named".to_owned() } else { waits.join("; ") }
}

/// Plays a test within [`LIMIT`].
///
/// # Errors
/// What the test answered, or that it ran out of time.
pub fn play<F: Future<Output = Result<()>>>(test: F) -> Result<()> {
    play_within(LIMIT, test)
}

/// Plays a test within a limit.
///
/// # Errors
/// What the test answered, or that it ran out of time.
pub fn play_within<F: Future<Output = Result<()>>>(limit: Duration, test: F) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let turn = runtime.block_on(turn());
    let name = name_of::<F>();
    now().test.clone_from(&name);
    let folder = artefacts()?;
    std::fs::remove_dir_all(&folder)?;
    let played = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(PLAYING.scope((), async {
            let mut test = pin!(test);
            match tokio::time::timeout(limit, &mut test).await {
                Ok(ended) => ended,
                Err(_) => Err(anyhow!("{name} did not end within {limit:?}; it waited for: {}", waits())),
            }
        }))
    }));
    // Killed first: threads that wait for a child's word end then.
    process_groups::end_all_of(&name);
    runtime.shutdown_timeout(Duration::from_secs(5));
    ports::give_back();
    if !matches!(played, Ok(Ok(()))) {
        print_logs(&folder);
    }
    now().test.clear();
    drop(turn);
    played.unwrap_or_else(|panic| resume_unwind(panic))
}

/// `module-test` from the type of the test's future, which is named after the function around it.
fn name_of<F>() -> String {
    let parts: Vec<&str> =
        type_name::<F>().split("::").filter(|part| !part.starts_with('{') && *part != "tests").collect();
    // The first part is the program.
    parts.get(1..).filter(|rest| !rest.is_empty()).unwrap_or(&parts).join("-")
}

fn print_logs(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "log")) {
        let text = String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("--- the end of {} ({} lines)", file.display(), lines.len());
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
    use crate::output_lines::Lines;
    use crate::process::Owned;

    #[test]
    fn a_test_without_end_is_ended_and_says_what_it_waited_for() {
        let error = play_within(Duration::from_millis(200), async {
            let _waiting = waiting("a sister that never comes");
            std::future::pending::<()>().await;
            Ok(())
        });
        let words = error.unwrap_err().to_string();
        assert!(words.contains("a sister that never comes"), "{words}");
    }

    #[test]
    fn a_test_that_blocks_on_a_silent_child_is_ended_with_the_child() {
        let began = Arc::new(Mutex::new(0));
        let group = began.clone();
        let played = play_within(Duration::from_secs(3), async move {
            tokio::task::spawn_blocking(move || -> Result<()> {
                // A child with a child of its own, both silent.
                let mut child = Owned::start(
                    Command::new("sh").args(["-c", "sleep 600 & sleep 600"]).stdout(Stdio::piped()),
                    "a shell is needed",
                )?;
                *group.lock().unwrap() = child.0.id();
                let lines = Lines::of(child.0.stdout.take().unwrap());
                lines.next("a word of the child", Duration::from_secs(100))?;
                Ok(())
            })
            .await?
        });
        assert!(played.unwrap_err().to_string().contains("a word of the child"));
        let group = *began.lock().unwrap();
        assert!(group != 0);
        process_groups::wait_until_gone(group);
        assert!(!process_groups::lives(group), "both are gone");
    }

    #[test]
    fn a_test_is_named_after_its_module_and_its_function() {
        let mut named = String::new();
        let played = play(async {
            named = current();
            Ok(())
        });
        played.unwrap();
        assert_eq!(named, "scenario-a_test_is_named_after_its_module_and_its_function");
    }

    #[test]
    fn tests_of_one_program_play_one_after_another() {
        static PLAYING_NOW: AtomicUsize = AtomicUsize::new(0);
        let actors: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    play(async {
                        assert_eq!(PLAYING_NOW.fetch_add(1, Ordering::SeqCst), 0);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        PLAYING_NOW.fetch_sub(1, Ordering::SeqCst);
                        Ok(())
                    })
                })
            })
            .collect();
        for actor in actors {
            actor.join().unwrap().unwrap();
        }
    }
}
