//! What the ladder of a join was made of.

use serde::{Deserialize, Serialize};

/// Most candidates of a line.
pub const MAX_CANDIDATES: usize = 64;

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// What the ladder of a join was made of, so that it can be made again of another policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalPlacement {
    /// The participant, without a name.
    pub participant: PlacedParticipant,
    /// The nodes that carried the room; none for a new room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_by: Option<PlacedRoom>,
    /// The nodes, approved ones first. Nodes that were not alive and carried nothing are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<JournalCandidate>,
    /// Candidates beyond [`MAX_CANDIDATES`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub candidates_left_out: usize,
    /// The nodes that were asked for a seat and gave none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<AnsweredSeat>,
}

/// What the token makes of a participant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedParticipant {
    /// Others do not see it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// It is a recorder.
    #[serde(default, skip_serializing_if = "is_false")]
    pub recorder: bool,
    /// It is a guest of the meeting page.
    #[serde(default, skip_serializing_if = "is_false")]
    pub guest: bool,
    /// It does not publish.
    #[serde(default, skip_serializing_if = "is_false")]
    pub view_only: bool,
}

/// The nodes that carried a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedRoom {
    /// The home node.
    pub home: String,
    /// The spill nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spill: Vec<String>,
}

/// A node that could have been asked for a seat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalCandidate {
    /// Its id.
    pub node: String,
    /// The decision on `home`.
    #[serde(default)]
    pub home: JournalRole,
    /// The decision on `spill`.
    #[serde(default)]
    pub spill: JournalRole,
    /// Participants that it carried, by its last report.
    pub participants: u32,
    /// Its seats.
    pub capacity: u32,
    /// CPU use, thousandths.
    pub cpu_permille: u32,
    /// Age of the report, milliseconds; none when its load was not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_ms_ago: Option<u64>,
    /// It drained.
    #[serde(default, skip_serializing_if = "is_false")]
    pub draining: bool,
    /// It was not alive.
    #[serde(default, skip_serializing_if = "is_false")]
    pub offline: bool,
    /// It holds no room key of the institution, so it cannot be home.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_room_key: bool,
}

/// The decision on a candidate in one role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRole {
    /// Was it allowed?
    #[serde(default, skip_serializing_if = "is_false")]
    pub allowed: bool,
    /// The tier of the deciding rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<u32>,
    /// The deciding rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}

/// A node that was asked for a seat and gave none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredSeat {
    /// The node.
    pub node: String,
    /// The reason code of its refusal.
    pub reason: String,
}
