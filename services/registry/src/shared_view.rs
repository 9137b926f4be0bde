//! The copy that all tasks of a node share, with those who wait for its changes.

use std::sync::Arc;

use tokio::sync::watch;

use crate::room_watch::{RoomWatch, RoomWatches};
use crate::view::View;
use crate::view_change::{ViewChanges, ViewEditor};
use systir_assignment::RoomId;

/// A copy of the registry.
#[derive(Debug, Clone)]
pub(crate) struct SharedView {
    view: watch::Sender<Arc<View>>,
    rooms: Arc<RoomWatches>,
}

impl SharedView {
    pub(crate) fn new(view: View) -> Self {
        Self { view: watch::Sender::new(Arc::new(view)), rooms: Arc::default() }
    }

    /// The copy as it is now.
    pub(crate) fn current(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// Changes each time the copy does.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Changes when the copy does in what concerns the room.
    pub(crate) fn watch_room(&self, room: &RoomId) -> RoomWatch {
        self.rooms.watch(room)
    }

    /// Wakes the watches of a room.
    pub(crate) fn wake_room(&self, room: &RoomId) {
        self.rooms.wake(&ViewChanges { rooms: [room.clone()].into(), ..ViewChanges::default() });
    }

    /// Changes the copy and wakes those whom the change concerns.
    pub(crate) fn modify(&self, change: impl FnOnce(&mut ViewEditor<'_>)) {
        let mut changes = ViewChanges::default();
        self.view.send_if_modified(|view| {
            let mut editor = ViewEditor::new(Arc::make_mut(view));
            change(&mut editor);
            changes = editor.changes;
            !changes.is_empty()
        });
        self.rooms.wake(&changes);
    }

    /// Replaces the copy by what `fresh` makes of it, and wakes those whom the difference concerns.
    pub(crate) fn replace(&self, fresh: impl FnOnce(&View) -> View) {
        let mut changes = ViewChanges::default();
        self.view.send_modify(|view| {
            let fresh = fresh(view);
            changes = ViewChanges::between(view, &fresh);
            *view = Arc::new(fresh);
        });
        self.rooms.wake(&changes);
    }

    /// Does no room watch the copy?
    #[cfg(test)]
    pub(crate) fn is_unwatched(&self) -> bool {
        self.rooms.is_empty()
    }
}
