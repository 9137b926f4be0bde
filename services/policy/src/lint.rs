//! Checks beyond those of Cedar's validator.

use std::collections::BTreeSet;

use cedar_policy::{
    ActionConstraint, Effect as CedarEffect, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
    Schema,
};

use systir_documents::Vocabulary;

use crate::action::Action;
use crate::country::is_country;
use crate::rule::{Rule, RuleEffect, RuleId};
use crate::sentence::Sentence;
use crate::time_conditions::{conditions, is_time, replace_time_conditions};
use crate::tokenizer::{TokenKind, tokens};

/// Longest policy text, bytes: as written, and with its zones replaced by countries.
const MAX_TEXT_BYTES: usize = 64 * 1024;
pub(crate) const MAX_EXPANDED_BYTES: usize = 1024 * 1024;
/// Most tokens and operators of one rule, and deepest nesting of brackets. Cedar's parser and evaluator recurse, some
/// 4 KiB of stack for each operator of a chain: within these bounds a default thread stack of 2 MiB is enough.
const MAX_RULE_TOKENS: usize = 1024;
const MAX_RULE_OPERATORS: usize = 200;
const MAX_NESTING: usize = 32;

/// The layer that a policy text belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PolicyLayer<'a> {
    Floor,
    Institution(&'a str),
}

/// Refuses text that is too large to be parsed safely. Call it before zones are replaced.
pub(crate) fn check_bounds(text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!("the text has {} bytes; at most {MAX_TEXT_BYTES} are allowed", text.len()));
    }
    let (mut length, mut operators, mut depth) = (0_usize, 0_usize, 0_usize);
    for token in tokens(text) {
        length += 1;
        match (token.kind, token.text) {
            (TokenKind::Mark, "(" | "[" | "{") => depth += 1,
            (TokenKind::Mark, ")" | "]" | "}") => depth = depth.saturating_sub(1),
            (TokenKind::Mark, ";") => (length, operators) = (0, 0),
            (TokenKind::Mark, "," | "@" | "?") => {}
            (TokenKind::Mark, _) | (TokenKind::Word, "if" | "in" | "has" | "like" | "is") => operators += 1,
            _ => {}
        }
        if length > MAX_RULE_TOKENS || operators > MAX_RULE_OPERATORS || depth > MAX_NESTING {
            let line = text.get(..token.range.start).unwrap_or_default().matches('\n').count() + 1;
            return Err(format!(
                "line {line}: a rule has more than {MAX_RULE_TOKENS} tokens, {MAX_RULE_OPERATORS} operators, or \
                 brackets deeper than {MAX_NESTING}; split it into several rules, or use a zone"
            ));
        }
    }
    Ok(())
}

/// `policy` as a rule, or everything that is wrong with it.
pub(crate) fn check_rule(
    policy: &Policy,
    order: usize,
    layer: PolicyLayer<'_>,
    schema: &Schema,
    vocabulary: &Vocabulary,
) -> Result<Rule, Vec<String>> {
    let mut wrong = Vec::new();
    for (key, _) in policy.annotations() {
        if !matches!(key, "id" | "why" | "tier" | "hours") {
            wrong.push(format!("@{key} is not known; use @id, @why, @tier and @hours"));
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
        CedarEffect::Permit => RuleEffect::Permit,
        CedarEffect::Forbid => RuleEffect::Forbid,
    };
    let actions = actions(policy, schema);
    let on_node = actions.iter().any(|action| action.is_on_node());
    let by_participant = actions.iter().any(|action| !action.is_on_node());
    let sentence = match policy.annotation("why") {
        Some(why) => Sentence::parse(why, on_node, by_participant).map_err(|error| wrong.push(error)).ok(),
        None => {
            wrong.push("it needs a @why: the sentence that is shown with a decision".to_owned());
            None
        }
    };
    let tier = tier(policy, effect, &actions).map_err(|error| wrong.push(error)).ok().flatten();
    let json = policy.to_json().map_err(|error| wrong.push(error.to_string())).unwrap_or_default();
    if effect == RuleEffect::Permit {
        wrong.extend(check_permit(policy, &json, layer));
    }
    let time_conditions = time_conditions(&json).map_err(|error| wrong.push(error)).unwrap_or_default();
    wrong.extend(check_literals(policy, layer, vocabulary));
    if policy.annotation("hours").is_some() && time_conditions.is_empty() {
        wrong.push("@hours is for rules that read the time".to_owned());
    }
    match sentence {
        Some(sentence) if wrong.is_empty() => Ok(Rule {
            id: RuleId::new(id),
            effect,
            tier,
            actions,
            sentence,
            order,
            time_conditions,
            hours: policy.annotation("hours").map(Into::into),
        }),
        _ => Err(wrong),
    }
}

/// The parts of the rule that depend on the time alone.
fn time_conditions(json: &serde_json::Value) -> Result<Vec<(serde_json::Value, bool)>, String> {
    let mut found = Vec::new();
    for (condition, positive) in conditions(json) {
        replace_time_conditions(condition, positive, &mut |part, positive| {
            found.push((part.clone(), positive));
            part.clone()
        })?;
    }
    Ok(found)
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

fn tier(policy: &Policy, effect: RuleEffect, actions: &[Action]) -> Result<Option<u32>, String> {
    let spills = effect == RuleEffect::Permit && actions.contains(&Action::Spill);
    match (policy.annotation("tier"), spills) {
        (Some(tier), true) => tier.parse().map(Some).map_err(|_| {
            format!("@tier({tier:?}) is not a number; write @tier(\"1\") for the nodes that are asked first")
        }),
        (None, true) => {
            Err("it permits spill and needs a @tier: nodes of the lowest tier are asked first".to_owned())
        }
        (Some(_), false) => Err("@tier is for rules that permit spill".to_owned()),
        (None, false) => Ok(None),
    }
}

/// A permit must be narrow: named actions, the institution's own rooms, no untrusted claims.
fn check_permit(policy: &Policy, json: &serde_json::Value, layer: PolicyLayer<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    match layer {
        PolicyLayer::Floor => wrong.push("the floor only forbids; permits belong in an institution's policy".to_owned()),
        PolicyLayer::Institution(institution) if !names_itself(policy, institution) => wrong.push(format!(
            "a permit must say `principal in Institution::{institution:?}` (or the same of the resource): it is about \
             the institution's own rooms or participants"
        )),
        PolicyLayer::Institution(_) => {}
    }
    let named = |uid: &EntityUid| uid.id().unescaped().parse::<Action>().is_ok();
    let each_named = match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(action) => named(&action),
        ActionConstraint::In(actions) => actions.iter().all(named),
    };
    if !each_named {
        wrong.push("a permit must name its actions one by one, not as a group".to_owned());
    }
    if mentions_claims(json) {
        let what = "a permit may read of `context` only the time, `context.now` and `context.weekday`: claims can only forbid";
        wrong.push(what.to_owned());
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

fn mentions_claims(json: &serde_json::Value) -> bool {
    let mut pending = vec![json];
    while let Some(value) = pending.pop() {
        match value {
            serde_json::Value::Array(items) => pending.extend(items),
            serde_json::Value::Object(fields) => {
                if fields.get("Var").and_then(serde_json::Value::as_str) == Some("context") {
                    return true;
                }
                pending.extend(
                    fields.iter().filter(|(key, parts)| !is_time(key, parts)).map(|(_, parts)| parts),
                );
            }
            _ => {}
        }
    }
    false
}

/// Every entity that the rule names must be in the document's vocabulary: Cedar itself accepts any id, so a rule with a
/// typo would silently never apply.
pub(crate) fn check_literals(
    policy: &Policy,
    layer: PolicyLayer<'_>,
    vocabulary: &Vocabulary,
) -> Vec<String> {
    let known = |names: &BTreeSet<String>, id: &str| names.contains(id);
    let own = |id: &str| matches!(layer, PolicyLayer::Institution(institution) if institution == id);
    let mut wrong = BTreeSet::new();
    for uid in policy.entity_literals() {
        let id = uid.id().unescaped();
        let what = match uid.type_name().basename() {
            "Country" if !is_country(id) => {
                "is not an ISO 3166-1 alpha-2 country; write Country::\"DK\", not Country::\"Denmark\""
            }
            "Operator" if !known(&vocabulary.operators, id) => {
                "is not an operator of the document's vocabulary"
            }
            "Host" if !known(&vocabulary.hosts, id) => "is not a host of the document's vocabulary",
            "Node" if !known(&vocabulary.nodes, id) => "is not a node of the document's vocabulary",
            "Institution" if !own(id) && !known(&vocabulary.institutions, id) => {
                "is not an institution of the document's vocabulary"
            }
            "Room" | "Participant" => {
                "cannot be named: rules apply to the institution, not to single rooms or participants"
            }
            _ => continue,
        };
        wrong.insert(format!("{uid} {what}"));
    }
    wrong.into_iter().collect()
}
