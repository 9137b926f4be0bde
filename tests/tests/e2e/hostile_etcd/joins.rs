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
    /// Joins again and again, until it is dropped: the running room, and rooms that nobody is in.
    pub(super) async fn go_on(&mut self, cluster: &Cluster, room: &str, members: &[Member]) -> Result<()> {
        for count in 0.. {
            let gateway = APPROVED[count % APPROVED.len()];
            let new_room = format!("new-{count}");
            // Two through each gateway, then two into new rooms.
            let running = count % 4 < 2;
            let room = if running { room } else { &new_room };
            let identity = format!("late-{count}");
            match Member::join(cluster, gateway, room, &identity, &[ScriptedCodec::Opus]).await {
                Ok(late) => {
                    let node = late.client.node.clone();
                    ensure!(APPROVED.contains(&node.as_str()), "a join was placed on {node}");
                    match members.first().filter(|_| running) {
                        Some(member) => match late.wait_until_hears(member).await {
                            Ok(()) => add(&mut self.placed, &node),
                            Err(error) => add(&mut self.failed, &first_words(&error)),
                        },
                        None => add(&mut self.placed, &format!("{node} (new room)")),
                    }
                }
                Err(error) => {
                    let text = format!("{error:#}");
                    match text.rsplit_once('[').and_then(|(_, rest)| rest.split_once(']')) {
                        Some((reason, _)) => {
                            let room = if running { "" } else { " (new room)" };
                            add(&mut self.refused, &format!("{reason}{room}"));
                        }
                        None => add(&mut self.failed, &first_words(&error)),
                    }
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
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

    /// The number of participants that were placed.
    pub(super) fn placed(&self) -> u32 {
        self.placed.values().sum()
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
