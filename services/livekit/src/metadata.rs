//! Name, metadata and attributes of a participant: data of the application.

use livekit_protocol::{self as proto, request_response as rr};

use super::reply;
use super::session::Session;

/// Prefix of the attributes that only the server sets.
const RESERVED: &str = "systir.";

impl Session {
    pub(super) fn update_metadata(&mut self, request: proto::UpdateParticipantMetadata) {
        let id = request.request_id;
        let limits = self.config.limits;
        let reserved = request.attributes.keys().any(|key| key.starts_with(RESERVED));
        let refusal = if !self.config.grants.can_update_own_metadata {
            Some((rr::Reason::NotAllowed, "the token lacks canUpdateOwnMetadata"))
        } else if reserved {
            Some((rr::Reason::NotAllowed, "attributes that begin with `systir.` are set by the server"))
        } else if request.name.len() > limits.name {
            Some((rr::Reason::LimitExceeded, "the name is too long"))
        } else if request.metadata.len() > limits.metadata {
            Some((rr::Reason::LimitExceeded, "the metadata is too long"))
        } else if self.attributes_after(&request) > limits.attributes {
            Some((rr::Reason::LimitExceeded, "the attributes are too long in all"))
        } else {
            None
        };
        if let Some((reason, text)) = refusal {
            let of = rr::Request::UpdateMetadata(proto::UpdateParticipantMetadata {
                request_id: id,
                ..Default::default()
            });
            return self.refuse(id, reason, text, Some(of));
        }
        let given = |text: String| (!text.is_empty()).then_some(text);
        let attributes = request.attributes.into_iter().collect();
        self.apply_metadata(given(request.name), given(request.metadata), attributes);
        if id != 0 {
            self.signal(reply::request_response(id, rr::Reason::Ok, "", None));
        }
    }

    /// Sets the given values; an attribute with an empty value is removed.
    pub(super) fn apply_metadata(
        &mut self,
        name: Option<String>,
        metadata: Option<String>,
        attributes: Vec<(String, String)>,
    ) {
        if let Some(name) = name {
            self.own.name = name;
        }
        if let Some(metadata) = metadata {
            self.own.metadata = metadata;
        }
        for (key, value) in attributes {
            if value.is_empty() {
                self.own.attributes.remove(&key);
            } else {
                self.own.attributes.insert(key, value);
            }
        }
        self.own_changed(true);
    }

    /// Bytes of all attributes after the request.
    fn attributes_after(&self, request: &proto::UpdateParticipantMetadata) -> usize {
        let bytes =
            |(key, value): (&String, &String)| if value.is_empty() { 0 } else { key.len() + value.len() };
        let kept = self.own.attributes.iter().filter(|(key, _)| !request.attributes.contains_key(*key));
        kept.map(bytes).sum::<usize>() + request.attributes.iter().map(bytes).sum::<usize>()
    }
}
