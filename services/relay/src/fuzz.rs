//! Entry points for fuzzing; not part of the public API.

use std::sync::LazyLock;

use systir_room::RoomState;

use crate::config::RelayConfig;

/// Any fixed time; updates from the future are refused.
const NOW_MS: u64 = 1_800_000_000_000;

/// Applies updates from another node to a room with a local participant: the sender may change only its own
/// participants.
pub fn room_updates<'a>(updates: impl Iterator<Item = &'a [u8]>) {
    let mut state = RoomState::new("cph-1", 1);
    let _ = state.local_join("PA_ada", "ada", 1, bytes::Bytes::new(), bytes::Bytes::new());
    for update in updates {
        if let Some(update) = systir_room::wire::decode(update) {
            let _ = state.apply("sto-1", update, NOW_MS);
        }
    }
    assert!(state.participants().all(|one| one.owner == "cph-1" || one.owner == "sto-1"));
}

static FOLDER: LazyLock<Option<tempfile::TempDir>> = LazyLock::new(|| tempfile::tempdir().ok());

/// Loads a configuration file with this text.
///
/// # Errors
/// The message for the operator.
pub fn config(text: &str) -> Result<(), String> {
    let folder = FOLDER.as_ref().ok_or("no folder for temporary files")?;
    // One file per thread: tests run in parallel.
    let file = folder.path().join(format!("{:?}.toml", std::thread::current().id()));
    std::fs::write(&file, text).map_err(|error| error.to_string())?;
    RelayConfig::load(&file).map(drop).map_err(|error| error.to_string())
}
