//! Tables of expected decisions.
//!
//! ```toml
//! bundle = "ku.dk.note"
//! floor = "floor.note"
//! directories = ["nordunet.note"]
//!
//! [[node]]
//! id = "leased-1"
//! country = "SE"
//! operator = "nordunet"
//! operator_controlled_from = "DK"
//! host = "amazon"
//! host_controlled_from = "US"
//!
//! [[case]]
//! action = "spill"
//! node = "leased-1"
//! room = "exam-1"
//! at = 2027-02-03T09:30:00+01:00
//! expect = "deny"
//! rule = "floor-confidential-on-own-machines"
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use systir_documents::{Directory, DirectoryNode, Lifetime, parse_rfc3339};
use systir_policy::{Action, Claims, Decision, PolicyEngine, PolicyTime, Request, Subject};
use toml::Spanned;
use toml::value::{Datetime, Offset};

/// A table: documents, and decisions that are expected of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionTable {
    /// The bundle, a file beside the table.
    pub bundle: PathBuf,
    /// The operator's floor, a file beside the table.
    pub floor: Option<PathBuf>,
    /// Directories with nodes, files beside the table.
    #[serde(default)]
    pub directories: Vec<PathBuf>,
    #[serde(default, rename = "node")]
    nodes: Vec<TableNode>,
    #[serde(default, rename = "case")]
    cases: Vec<Spanned<ExpectedDecision>>,
    #[serde(skip)]
    lines: Vec<usize>,
}

/// A node that the cases name, without keys and addresses.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableNode {
    id: String,
    country: String,
    operator: String,
    operator_controlled_from: String,
    host: String,
    host_controlled_from: String,
}

/// One decision that is expected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedDecision {
    action: Action,
    node: Option<String>,
    /// The institution of a participant.
    participant: Option<String>,
    /// The name of a room; without it, one that no pattern matches.
    room: Option<String>,
    /// When; without it the decision must not depend on the time.
    at: Option<toml::Value>,
    expect: Expected,
    /// A rule that must be among those that decided.
    rule: Option<String>,
    /// The tier of an allowed spill.
    tier: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
}

/// The table cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct TableError {
    /// The line, from 1, if one is at fault.
    pub line: Option<usize>,
    /// What is wrong and what to write.
    pub what: String,
}

impl DecisionTable {
    /// Reads the text of a table.
    ///
    /// # Errors
    /// When it is no table, or has no cases.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        let line = |offset: usize| text.get(..offset).unwrap_or_default().matches('\n').count() + 1;
        let mut table: Self = toml::from_str(text).map_err(|error| TableError {
            line: error.span().map(|span| line(span.start)),
            what: error.message().trim().replace('\n', "; "),
        })?;
        if table.cases.is_empty() {
            let what = "there are no cases; write [[case]] with action, node or participant, and expect";
            return Err(TableError { line: None, what: what.to_owned() });
        }
        table.lines = table.cases.iter().map(|case| line(case.span().start)).collect();
        Ok(table)
    }

    /// Directories with the table's own nodes, one for each operator. They are never out of date.
    #[must_use]
    pub fn own_directories(&self) -> Vec<Directory> {
        let mut directories = BTreeMap::<&str, Directory>::new();
        for node in &self.nodes {
            let operator = &node.operator;
            let directory = directories.entry(operator).or_insert_with(|| Directory {
                operator: operator.clone(),
                trust_domain: operator.clone(),
                controlled_from: node.operator_controlled_from.clone(),
                version: 1,
                lifetime: Lifetime { issued: 0, renew_by: u64::MAX, not_after: u64::MAX },
                roots: String::new(),
                nodes: Vec::new(),
            });
            directory.nodes.push(DirectoryNode {
                id: node.id.clone(),
                spiffe_id: format!("spiffe://{operator}/relay/{}", node.id),
                keys: Vec::new(),
                prefixes: Vec::new(),
                site: node.country.clone(),
                region: node.country.to_lowercase(),
                country: node.country.clone(),
                host: node.host.clone(),
                host_controlled_from: node.host_controlled_from.clone(),
            });
        }
        directories.into_values().collect()
    }

    /// How many cases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Are there no cases? A table that was read has some.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// The cases that the engine decides otherwise than expected, each with its line.
    #[must_use]
    pub fn problems(&self, engine: &PolicyEngine, institution: &str) -> Vec<(usize, String)> {
        let cases = self.lines.iter().zip(&self.cases);
        let checked = cases.map(|(line, case)| (*line, case.get_ref().check(engine, institution)));
        checked.filter_map(|(line, result)| result.err().map(|what| (line, what))).collect()
    }
}

impl ExpectedDecision {
    fn check(&self, engine: &PolicyEngine, institution: &str) -> Result<(), String> {
        let subject = match (&self.node, &self.participant, self.action.is_on_node()) {
            (Some(node), None, true) => node,
            (None, Some(from), false) => from,
            (_, _, true) => {
                return Err(format!("{} is an action on a node: write node = \"...\"", self.action));
            }
            (_, _, false) => {
                return Err(format!(
                    "{} is an action of a participant: write participant = \"INSTITUTION\"",
                    self.action
                ));
            }
        };
        let now = self.at.as_ref().map(time).transpose()?;
        let engine = engine.at(now);
        let decision = decide(&engine, institution, self.room.as_deref(), self.action, subject);
        let asked =
            format!("{} {} {subject}", self.action, if self.action.is_on_node() { "on" } else { "of" });
        if decision.reason.as_str() == "time-unknown" {
            return Err(format!("{asked}: it depends on the time: write at = 2027-02-03T09:30:00+01:00"));
        }
        if decision.allowed != (self.expect == Expected::Allow) {
            return Err(format!("{asked}: {}", described(&decision)));
        }
        match &self.rule {
            Some(rule) if !decision.rules.iter().any(|decided| decided.as_str() == rule) => {
                return Err(format!("{asked}: rule {rule} did not decide: {}", described(&decision)));
            }
            _ => {}
        }
        match self.tier {
            Some(tier) if decision.tier != Some(tier) => {
                Err(format!("{asked}: it has not tier {tier}: {}", described(&decision)))
            }
            _ => Ok(()),
        }
    }
}

/// `2027-02-03T09:30:00+01:00`, a date and time of TOML.
fn time(at: &toml::Value) -> Result<PolicyTime, String> {
    let wrong = || format!("at = {at} is no time with an offset; write at = 2027-02-03T09:30:00+01:00");
    let toml::Value::Datetime(Datetime { date: Some(date), time: Some(time), offset: Some(offset) }) = at
    else {
        return Err(wrong());
    };
    let seconds =
        parse_rfc3339(&format!("{date}T{:02}:{:02}:00Z", time.hour, time.minute)).map_err(|_| wrong())?;
    let ahead = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(*minutes) * 60,
    };
    seconds.checked_add_signed(-ahead).map(PolicyTime::at).ok_or_else(wrong)
}

/// The decision on a node, or on participants of an institution, as `action` wants.
pub fn decide(
    engine: &PolicyEngine,
    institution: &str,
    room: Option<&str>,
    action: Action,
    subject: &str,
) -> Decision {
    let room = room.map(|name| engine.room(institution, name)).unwrap_or_default();
    let subject = if action.is_on_node() {
        Subject::Node(subject)
    } else {
        Subject::Participant { institution: subject }
    };
    engine.decide(&Request { institution, action, subject, room, claims: Claims::default() })
}

fn described(decision: &Decision) -> String {
    let word = if decision.allowed { "allowed" } else { "denied" };
    let rules: Vec<&str> = decision.rules.iter().map(|rule| rule.as_str()).collect();
    let rules = if rules.is_empty() { decision.reason.as_str().to_owned() } else { rules.join(", ") };
    let tier = decision.tier.map(|tier| format!(", tier {tier}")).unwrap_or_default();
    format!("{word} [{rules}{tier}]: {}", decision.why)
}
