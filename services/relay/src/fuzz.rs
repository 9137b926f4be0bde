//! Entrances for the fuzzers; not part of the interface.

use std::sync::LazyLock;

use systir_room::RoomState;

use crate::config::Config;

/// Any time will do; updates from the future are refused.
const NOW_MS: u64 = 1_800_000_000_000;

/// Updates from a node that may write its own people only, into a room that has some of both.
pub fn room_updates<'a>(updates: impl Iterator<Item = &'a [u8]>) {
    let mut state = RoomState::new("cph-1", 1);
    let _ = state.local_join("PA_ada", "ada", 1, bytes::Bytes::new());
    for update in updates {
        if let Some(update) = systir_room::wire::decode(update) {
            let _ = state.apply("sto-1", update, NOW_MS);
        }
    }
    assert!(state.participants().all(|who| who.owner == "cph-1" || who.owner == "sto-1"));
}

static FOLDER: LazyLock<Option<tempfile::TempDir>> = LazyLock::new(|| tempfile::tempdir().ok());

/// A configuration file.
///
/// # Errors
/// What an operator would be told.
pub fn config(text: &str) -> Result<(), String> {
    let folder = FOLDER.as_ref().ok_or("no folder for temporary files")?;
    // One file for each thread: tests run side by side.
    let file = folder.path().join(format!("{:?}.toml", std::thread::current().id()));
    std::fs::write(&file, text).map_err(|error| error.to_string())?;
    Config::load(&file).map(drop).map_err(|error| error.to_string())
}
