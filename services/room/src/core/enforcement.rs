//! The room under a policy that changes: who and what may stay is decided again, in one pass.

use std::collections::BTreeMap;

use livekit_protocol::DisconnectReason;
use rand::RngExt as _;
use systir_assignment::MediaRole;
use systir_journal::DecidedAt;
use systir_livekit::RoomEvent;
use systir_media_control::ParticipantKey;
use systir_policy::{Action, DecidedAction, Decision};

use super::RoomCore;
use super::ending::RESTORE_INTERVAL;
use crate::RoomEffect;

impl RoomCore {
    /// This node's policy was replaced: decides again on the room's class, on each participant, its gateway, this node's
    /// role and each other node.
    pub(super) fn policy_changed(&mut self) {
        self.decisions.clear();
        self.decide_on_tickets();
        let attributes = self.config.authority.room(&self.id);
        let encryption_changed = attributes.e2ee != self.attributes.e2ee;
        self.attributes = attributes;
        let all: Vec<ParticipantKey> = self.local_participants.keys().copied().collect();
        self.enforce_on_participants(&all);
        if encryption_changed {
            self.notify_all_but(None, &RoomEvent::EncryptedOnly(attributes.e2ee));
        }
        self.remove_denied_at = self.now.instant;
        self.sync_peers();
        self.show_places(encryption_changed);
        self.sent_residency = None;
        self.residency_changed();
    }

    /// Shows participants again whose node has another place in the directories than they were last shown with; all of
    /// other nodes when `tracks_changed`.
    fn show_places(&mut self, tracks_changed: bool) {
        let nodes = self.peers.keys().cloned().chain([self.config.node.clone()]);
        let places = nodes.map(|node| {
            let facts = self.config.authority.facts(&node);
            let place = facts.map(|facts| (facts.region.clone(), facts.country.clone())).unwrap_or_default();
            (node, place)
        });
        let places: BTreeMap<String, (String, String)> = places.collect();
        let known = std::mem::replace(&mut self.places, places.clone());
        for (node, (region, country)) in places {
            let moved = known.get(&node).is_none_or(|known| *known != (region.clone(), country.clone()));
            if node == self.config.node {
                if moved {
                    let attributes =
                        vec![("systir.region".to_owned(), region), ("systir.country".to_owned(), country)];
                    let event = RoomEvent::Metadata { name: None, metadata: None, attributes };
                    self.notify_all_but(None, &event);
                }
            } else if moved || tracks_changed {
                self.update_participants_of(&node);
            }
        }
    }

    /// Ends the sessions of the local participants that policy denies: one that may not join is told why and leaves; one
    /// whose gateway may not see its signalling is asked to join again, at another gateway.
    pub(super) fn enforce_on_participants(&mut self, participants: &[ParticipantKey]) {
        for participant in participants {
            let Some(local) = self.local_participants.get(participant) else { continue };
            let authority = &self.config.authority;
            let joins = authority.join(&self.id, &local.institution, local.roles);
            if let Some((action, decision)) = joins.iter().find(|(_, decision)| !decision.allowed) {
                tracing::info!(
                    action = action.as_str(),
                    reason = decision.reason.as_str(),
                    rules = rules(decision),
                    "policy denies a participant, who leaves the room"
                );
                let decided = DecidedAction::of_participant(DecidedAt::Standing, *action, &local.institution);
                authority.journal_denial(&decided, &self.id, decision);
                let why = decision.refusal().to_string();
                self.notify(*participant, RoomEvent::Dismiss { why });
                continue;
            }
            let gateway = authority.node(Action::RelaySignal, &self.id, &local.gateway);
            if !gateway.allowed {
                tracing::info!(
                    gateway = local.gateway,
                    reason = gateway.reason.as_str(),
                    rules = rules(&gateway),
                    "policy denies the gateway of a participant, who must join again at another one"
                );
                let decided =
                    DecidedAction::of_node(DecidedAt::Standing, Action::RelaySignal, &local.gateway);
                authority.journal_denial(&decided, &self.id, &gateway);
                self.notify(*participant, RoomEvent::Reconnect(DisconnectReason::Migration));
            }
        }
    }

    /// Home node only: has spill nodes that policy denies removed from the room's assignment, so that no join is sent there
    /// and no other node keeps the room open to them.
    pub(super) fn remove_denied_spill_nodes(&mut self) {
        let now = self.now.instant;
        let me = self.config.node.clone();
        if now < self.remove_denied_at || self.assignment.home != *me {
            return;
        }
        // A home that policy denies leaves the record to its successor.
        if !self.decide(MediaRole::Home, &me).allowed {
            return;
        }
        self.remove_denied_at = now + RESTORE_INTERVAL.mul_f64(self.rng.random_range(1.0..1.5));
        let spill: Vec<String> = self.assignment.spill.iter().map(ToString::to_string).collect();
        let denied: Vec<String> =
            spill.into_iter().filter(|node| !self.decide(self.role_of_peer(node), node).allowed).collect();
        self.effects.extend(denied.into_iter().map(|node| RoomEffect::RemoveSpill { node }));
    }
}

/// Rule ids, the deciding one first.
fn rules(decision: &Decision) -> String {
    decision.rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>().join(",")
}
