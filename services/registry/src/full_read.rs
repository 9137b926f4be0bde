//! Full reads of etcd: the leases, and the rooms of the followed institutions, as of one revision.

use std::collections::BTreeSet;
use std::sync::Arc;

use etcd_client::{Client, GetOptions};

use crate::connection::with_timeout;
use crate::record::put;
use crate::registry::RegistryError;
use crate::shared::Shared;
use crate::store_history::ResponseHistory;
use crate::view::{UnreadRooms, View};
use crate::view_change::ViewEditor;

/// Records per request: all at once could exceed the size limit of a gRPC message.
const PAGE_RECORDS: i64 = 1_000;

// tonic distinguishes this error by its message only.
fn is_too_long(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().contains("length too large"))
}

/// What was read, as of one revision.
pub(crate) struct FullRead {
    view: View,
    pub(crate) revision: i64,
    /// The history of etcd that it belongs to.
    pub(crate) history: u64,
    /// The institutions that were asked for.
    institutions: Arc<BTreeSet<String>>,
    /// Those whose rooms etcd refuses.
    pub(crate) refused: BTreeSet<String>,
}

impl FullRead {
    /// The prefixes that etcd allows this node to read: what is to be watched.
    pub(crate) fn prefixes(&self, shared: &Shared) -> Vec<String> {
        let allowed = self.institutions.difference(&self.refused);
        let rooms = allowed.map(|institution| shared.keys.rooms(institution));
        [shared.keys.nodes()].into_iter().chain(rooms).collect()
    }
}

/// Reads everything that this node follows, page by page. An institution that etcd refuses is left out.
pub(crate) async fn read_all(shared: &Shared, client: &mut Client) -> Result<FullRead, RegistryError> {
    let institutions = shared.view.current().followed.clone().unwrap_or_default();
    let mut read =
        FullRead { view: View::default(), revision: 0, history: 0, institutions, refused: BTreeSet::new() };
    read_range(shared, client, &mut read, &shared.keys.nodes()).await?;
    for institution in read.institutions.clone().iter() {
        match read_range(shared, client, &mut read, &shared.keys.rooms(institution)).await {
            Ok(()) => {}
            Err(RegistryError::Refused(_)) => {
                read.refused.insert(institution.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Reads all keys below a prefix, which ends with `/`.
async fn read_range(
    shared: &Shared,
    client: &mut Client,
    read: &mut FullRead,
    prefix: &str,
) -> Result<(), RegistryError> {
    let before = shared.history.before_request();
    let mut editor = ViewEditor::new(&mut read.view);
    // The end of the key range: `0` is the character after `/`.
    let end = format!("{}0", prefix.trim_end_matches('/'));
    let (mut from, mut limit) = (prefix.as_bytes().to_vec(), PAGE_RECORDS);
    loop {
        let options =
            GetOptions::new().with_range(end.clone()).with_limit(limit).with_revision(read.revision);
        let request = client.get(from.clone(), Some(options));
        let page = with_timeout(async {
            match request.await {
                Err(error) if limit > 1 && is_too_long(&error) => Ok(None),
                answer => answer.map(Some),
            }
        });
        let Some(page) = page.await? else {
            // These records are too long for one message: request fewer.
            limit /= 2;
            continue;
        };
        // Read all further pages and ranges at the revision of the first.
        if read.revision == 0 {
            read.history = match shared.history.check(before, page.header()) {
                ResponseHistory::Known(history) | ResponseHistory::New(history) => history,
                ResponseHistory::Outdated => {
                    return Err(RegistryError::Unavailable("it was replaced while it was read".to_owned()));
                }
            };
            read.revision = page.header().map_or(0, |header| header.revision());
        }
        for record in page.kvs() {
            put(shared, &mut editor, record);
        }
        match page.kvs().last() {
            Some(last) if page.more() => from = [last.key(), &[0]].concat(),
            _ => return Ok(()),
        }
    }
}

/// Replaces the copy by a full read.
pub(crate) fn publish(shared: &Shared, read: FullRead) {
    let FullRead { view: mut fresh, revision, history, institutions, refused } = read;
    shared.view.replace(|view| {
        if view.unavailable_since.is_some() {
            tracing::info!(
                nodes = fresh.nodes.len(),
                rooms = fresh.rooms.len(),
                "etcd answers; the copy is up to date"
            );
        }
        fresh.unreadable += view.unreadable;
        fresh.unsupported += view.unsupported;
        fresh.keep_ended_leases(view);
        // Keep what this node wrote after the read, and the last known rooms of institutions that etcd refuses. If
        // etcd was replaced, the copy's revisions are of the earlier etcd: they do not show what is newer.
        if view.replaced == history {
            let kept = view.rooms.iter().filter(|(room, known)| {
                known.revision > revision as u64 || refused.contains(&room.institution)
            });
            for (room, known) in kept {
                fresh.rooms.insert(room.clone(), known.clone());
            }
        }
        fresh.replaced = history;
        // The set may have changed while etcd was read: what it lost is dropped, what it gained is still unread.
        fresh.followed = view.followed.clone();
        let followed = view.followed.clone().unwrap_or_default();
        fresh.rooms.retain(|room, _| followed.contains(&room.institution));
        for institution in followed.iter() {
            let refused = refused.contains(institution);
            if refused || !institutions.contains(institution) {
                let since = view.unread.get(institution).map(|unread| unread.since);
                let since = since.unwrap_or_else(std::time::Instant::now);
                fresh.unread.insert(institution.clone(), UnreadRooms { since, refused });
            }
        }
        fresh
    });
}
