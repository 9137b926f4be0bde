//! Joins while etcd is attacked: each is placed on an approved node, or refused with a reason.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, ensure};
use systir_tests::cluster::Cluster;
use systir_tests::meeting::Member;
use systir_tests::scripted::ScriptedCodec;
use tokio::time::{Duration, sleep};

use super::APPROVED;

/// What became of joins.
#[derive(Debug, Default)]
pub(super) struct Joins {
    /// Participants on each node, who published and received the meeting's media if the room has one.
    placed: BTreeMap<String, u32>,
    /// By reason.
    refused: BTreeMap<String, u32>,
    /// Participants who were placed and then got no media, by what did not happen.
    failed: BTreeMap<String, u32>,
}

impl Joins {
    /// Participants join the running room, one after another, until this is dropped. Each must receive the member's media.
    pub(super) async fn join_running_room(
        &mut self,
        cluster: &Cluster,
        room: &str,
        member: &Member,
    ) -> Result<()> {
        for count in 0.. {
            if let Some(late) = self.join(cluster, count, room).await? {
                match late.wait_until_hears(member).await {
                    Ok(()) => add(&mut self.placed, &late.client.node),
                    Err(error) => add(&mut self.failed, &first_words(&error)),
                }
            }
        }
        Ok(())
    }

    /// Participants join rooms that do not exist yet, one after another, until this is dropped.
    pub(super) async fn join_new_rooms(&mut self, cluster: &Cluster) -> Result<()> {
        for count in 0.. {
            if let Some(late) = self.join(cluster, count, &format!("new-{count}")).await? {
                add(&mut self.placed, &late.client.node);
            }
        }
        Ok(())
    }

    async fn join(&mut self, cluster: &Cluster, count: usize, room: &str) -> Result<Option<Member>> {
        // Not in a tight loop: the machine is busy with media too.
        sleep(Duration::from_millis(100)).await;
        let gateway = APPROVED[count % APPROVED.len()];
        match Member::join(cluster, gateway, room, &format!("late-{count}"), &[ScriptedCodec::Opus]).await {
            Ok(late) => {
                let node = &late.client.node;
                ensure!(APPROVED.contains(&node.as_str()), "a join was placed on {node}");
                return Ok(Some(late));
            }
            Err(error) => {
                let text = format!("{error:#}");
                match text.rsplit_once('[').and_then(|(_, rest)| rest.split_once(']')) {
                    Some((reason, _)) => add(&mut self.refused, reason),
                    None => add(&mut self.failed, &first_words(&error)),
                }
            }
        }
        Ok(None)
    }

    /// Adds others.
    pub(super) fn add(&mut self, other: &Self) {
        for (all, some) in [
            (&mut self.placed, &other.placed),
            (&mut self.refused, &other.refused),
            (&mut self.failed, &other.failed),
        ] {
            for (what, count) in some {
                *all.entry(what.clone()).or_default() += count;
            }
        }
    }

    /// Each join was placed and got media, or was refused with a reason; some were placed.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.failed.is_empty() && !self.placed.is_empty(), "{self}");
        Ok(())
    }
}

fn add(counts: &mut BTreeMap<String, u32>, what: &str) {
    *counts.entry(what.to_owned()).or_default() += 1;
}

/// An error up to the details of what was unread.
fn first_words(error: &anyhow::Error) -> String {
    let text = format!("{error:#}").replace(|one: char| one.is_ascii_digit(), "N");
    text.split([';', '\n']).next().unwrap_or_default().chars().take(120).collect()
}

impl fmt::Display for Joins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<String, u32>| {
            let list: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
            if list.is_empty() { "none".to_owned() } else { list.join(", ") }
        };
        let Self { placed, refused, failed } = self;
        write!(f, "placed: {}; refused: {}; failed: {}", list(placed), list(refused), list(failed))
    }
}
