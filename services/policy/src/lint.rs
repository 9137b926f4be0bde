//! What Cedar's validator lets through and we do not.

use std::collections::BTreeSet;

use cedar_policy::{
    ActionConstraint, Effect as CedarEffect, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
    Schema,
};

use crate::action::Action;
use crate::country::is_country;
use crate::names::KnownNames;
use crate::rule::{Effect, Rule, RuleId};
use crate::sentence::Sentence;
use crate::tokenizer::{Kind, tokens};

/// Longest policy text as written, and with its zones spelled out, bytes.
const LONGEST_TEXT: usize = 64 * 1024;
pub(crate) const LONGEST_EXPANDED: usize = 1024 * 1024;
/// Most tokens and operators of one rule, and deepest nesting of brackets. Cedar's parser and evaluator recurse, some
/// 4 KiB of stack for each operator of a chain: within these bounds a decision never depends on whose stack it is
/// made.
const LONGEST_RULE: usize = 1024;
const MOST_OPERATORS: usize = 200;
const DEEPEST_NESTING: usize = 32;

/// Whose text it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layer<'a> {
    Floor,
    Institution(&'a str),
}

impl<'a> Layer<'a> {
    pub(crate) fn place(self) -> &'a str {
        match self {
            Self::Floor => "floor",
            Self::Institution(institution) => institution,
        }
    }
}

/// Refuses text that is too large to be parsed safely; before zones are spelled out.
pub(crate) fn bounds(text: &str) -> Result<(), String> {
    if text.len() > LONGEST_TEXT {
        return Err(format!("the text has {} bytes; at most {LONGEST_TEXT} are read", text.len()));
    }
    let (mut length, mut operators, mut depth) = (0_usize, 0_usize, 0_usize);
    for token in tokens(text) {
        length += 1;
        match (token.kind, token.text) {
            (Kind::Mark, "(" | "[" | "{") => depth += 1,
            (Kind::Mark, ")" | "]" | "}") => depth = depth.saturating_sub(1),
            (Kind::Mark, ";") => (length, operators) = (0, 0),
            (Kind::Mark, "," | "@" | "?") => {}
            (Kind::Mark, _) | (Kind::Word, "if" | "in" | "has" | "like" | "is") => operators += 1,
            _ => {}
        }
        if length > LONGEST_RULE || operators > MOST_OPERATORS || depth > DEEPEST_NESTING {
            let line = text.get(..token.range.start).unwrap_or_default().matches('\n').count() + 1;
            return Err(format!(
                "line {line}: a rule has more than {LONGEST_RULE} words and marks, {MOST_OPERATORS} operators, or \
                 brackets deeper than {DEEPEST_NESTING}; make it several rules, or name a zone"
            ));
        }
    }
    Ok(())
}

/// The rule that `policy` is, or everything that is wrong with it.
pub(crate) fn rule(
    policy: &Policy,
    order: usize,
    layer: Layer<'_>,
    schema: &Schema,
    names: &KnownNames,
) -> Result<Rule, Vec<String>> {
    let mut wrong = Vec::new();
    for (key, _) in policy.annotations() {
        if !matches!(key, "id" | "why" | "tier") {
            wrong.push(format!("@{key} is not known; there are @id, @why and @tier"));
        }
    }
    let id = policy.annotation("id").unwrap_or_default();
    if !is_rule_id(id) {
        wrong.push(
            "it needs an @id of at most 64 lower-case letters, digits and '-', so that a decision can name it"
                .to_owned(),
        );
    }
    let effect = match policy.effect() {
        CedarEffect::Permit => Effect::Permit,
        CedarEffect::Forbid => Effect::Forbid,
    };
    let actions = actions(policy, schema);
    let on_node = actions.iter().any(|action| action.is_on_node());
    let by_participant = actions.iter().any(|action| !action.is_on_node());
    let sentence = match policy.annotation("why") {
        Some(why) => Sentence::parse(why, on_node, by_participant).map_err(|error| wrong.push(error)).ok(),
        None => {
            wrong.push("it needs a @why: the sentence that people are shown".to_owned());
            None
        }
    };
    let tier = tier(policy, effect, &actions).map_err(|error| wrong.push(error)).ok().flatten();
    if effect == Effect::Permit {
        wrong.extend(permit(policy, layer));
    }
    wrong.extend(literals(policy, names));
    match sentence {
        Some(sentence) if wrong.is_empty() => {
            Ok(Rule { id: RuleId::new(id), effect, tier, actions, sentence, order })
        }
        _ => Err(wrong),
    }
}

fn is_rule_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The actions that the rule can apply to.
fn actions(policy: &Policy, schema: &Schema) -> Vec<Action> {
    let found: BTreeSet<Action> = policy
        .get_valid_request_envs(schema)
        .filter_map(|env| env.action().id().unescaped().parse().ok())
        .collect();
    found.into_iter().collect()
}

fn tier(policy: &Policy, effect: Effect, actions: &[Action]) -> Result<Option<u32>, String> {
    let spills = effect == Effect::Permit && actions.contains(&Action::Spill);
    match (policy.annotation("tier"), spills) {
        (Some(tier), true) => tier.parse().map(Some).map_err(|_| {
            format!("@tier({tier:?}) is not a number; write @tier(\"1\") for who is asked first")
        }),
        (None, true) => {
            Err("it permits spill and needs a @tier: in which order sisters are asked".to_owned())
        }
        (Some(_), false) => Err("@tier is for rules that permit spill".to_owned()),
        (None, false) => Ok(None),
    }
}

/// A permit gives away as little as can be said: named actions, one's own rooms, nothing on hearsay.
fn permit(policy: &Policy, layer: Layer<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    match layer {
        Layer::Floor => wrong.push("the floor only forbids; permits are the institutions'".to_owned()),
        Layer::Institution(institution) if !names_itself(policy, institution) => wrong.push(format!(
            "a permit must say `principal in Institution::{institution:?}` (or so of the resource): it is about \
             the institution's own rooms or people"
        )),
        Layer::Institution(_) => {}
    }
    let named = |uid: &EntityUid| uid.id().unescaped().parse::<Action>().is_ok();
    let each_named = match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(action) => named(&action),
        ActionConstraint::In(actions) => actions.iter().all(named),
    };
    if !each_named {
        wrong.push("a permit must name its actions one by one, none of a group".to_owned());
    }
    match policy.to_json() {
        Ok(json) if !mentions_context(&json) => {}
        Ok(_) => wrong.push("a permit must not read `context`: claims can only forbid".to_owned()),
        Err(error) => wrong.push(format!("it cannot be looked through: {error}")),
    }
    wrong
}

fn names_itself(policy: &Policy, institution: &str) -> bool {
    let itself =
        |uid: &EntityUid| uid.type_name().basename() == "Institution" && uid.id().unescaped() == institution;
    let principal = match policy.principal_constraint() {
        PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => itself(&uid),
        _ => false,
    };
    principal
        || match policy.resource_constraint() {
            ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => itself(&uid),
            _ => false,
        }
}

fn mentions_context(json: &serde_json::Value) -> bool {
    let mut left = vec![json];
    while let Some(value) = left.pop() {
        match value {
            serde_json::Value::Array(items) => left.extend(items),
            serde_json::Value::Object(fields) => {
                if fields.get("Var").and_then(serde_json::Value::as_str) == Some("context") {
                    return true;
                }
                left.extend(fields.values());
            }
            _ => {}
        }
    }
    false
}

/// Every entity that the rule names must be one that is known: to Cedar any id is as good as another.
fn literals(policy: &Policy, names: &KnownNames) -> Vec<String> {
    let mut wrong = BTreeSet::new();
    for uid in policy.entity_literals() {
        let id = uid.id().unescaped();
        let what = match uid.type_name().basename() {
            "Country" if !is_country(id) => {
                "is not an ISO 3166-1 alpha-2 country; write Country::\"DK\", not Country::\"Denmark\""
            }
            "Operator" if !names.operators.contains(id) => "is no operator that the nodes file knows",
            "Host" if !names.hosts.contains(id) => "is no host that the nodes file knows",
            "Node" if !names.nodes.contains(id) => "is no node of the nodes file",
            "Institution" if !names.institutions.contains(id) => "is no institution that is known here",
            "Room" | "Participant" => {
                "cannot be named: policy is of the institution, not of single rooms or people"
            }
            _ => continue,
        };
        wrong.insert(format!("{uid} {what}"));
    }
    wrong.into_iter().collect()
}
