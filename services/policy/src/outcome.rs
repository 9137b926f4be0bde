//! Cedar's response as a decision, with its rules and its sentence.

use cedar_policy::{Decision as CedarDecision, PolicyId};
use systir_reason::Reason;

use crate::action::Action;
use crate::decision::Decision;
use crate::loader::LoadedPolicy;
use crate::node::NodeFacts;
use crate::rule::{Rule, RuleEffect};
use crate::sentence::SentenceValues;

/// Cedar's response as a decision. Cedar skips a rule that fails, so a failing forbid would allow: any error denies. Only
/// a permit that fails because the time is not known is skipped.
pub(crate) fn decision_of(
    policy: &LoadedPolicy,
    values: &SentenceValues<'_>,
    time_known: bool,
    cedar_decision: CedarDecision,
    diagnostics: &cedar_policy::Diagnostics,
) -> Decision {
    let version = Some(&policy.text.version);
    let failed = diagnostics.errors().map(|error| match error {
        cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
    });
    let failed = in_order(policy, failed);
    let needs_time = |rule: &Rule| !time_known && rule.reads_time();
    let fatal = |rule: &&&Rule| !(needs_time(rule) && rule.effect == RuleEffect::Permit);
    let ids = |rules: &[&Rule]| rules.iter().map(|rule| rule.id.clone()).collect();
    let without_time = |what: &str, rules: &[&Rule]| {
        let names: Vec<_> = rules.iter().map(|rule| rule.id.as_str()).collect();
        let why = format!(
            "this node does not know the time, so {} {what} ({}); set its clock",
            if names.len() == 1 { "a rule that reads it" } else { "rules that read it" },
            names.join(", ")
        );
        Decision { rules: ids(rules), ..Decision::deny(Reason::TimeUnknown, why, version) }
    };
    let fatal: Vec<&Rule> = failed.iter().filter(fatal).copied().collect();
    if fatal.iter().any(|rule| !needs_time(rule)) || diagnostics.errors().count() > failed.len() {
        let names: Vec<_> = fatal.iter().map(|rule| rule.id.as_str()).collect();
        let why = format!("a rule could not be evaluated ({}), so nothing is allowed", names.join(", "));
        return Decision { rules: ids(&fatal), ..Decision::deny(Reason::EvaluationError, why, version) };
    }
    if !fatal.is_empty() {
        return without_time("may forbid", &fatal);
    }
    let deciding = in_order(policy, diagnostics.reason());
    let rules = deciding.iter().map(|rule| rule.id.clone()).collect();
    match (cedar_decision, deciding.first()) {
        (CedarDecision::Allow, Some(first)) if first.effect == RuleEffect::Permit => Decision {
            allowed: true,
            reason: Reason::Allowed,
            rules,
            why: first.sentence.render(values),
            tier: first.tier.filter(|_| values.action == Action::Spill),
            policy_version: version.cloned(),
        },
        (CedarDecision::Deny, Some(_)) => {
            let whys: Vec<_> = deciding.iter().map(|rule| rule.sentence.render(values)).collect();
            Decision { rules, ..Decision::deny(Reason::Forbidden, whys.join("; "), version) }
        }
        (CedarDecision::Deny, None) if !failed.is_empty() => without_time("cannot permit", &failed),
        // An allow without a known permit rule counts as a denial.
        _ => Decision::deny(Reason::NoRule, no_rule(values), version),
    }
}

/// The rules with these ids: the lowest tier first, then in the order of the text.
fn in_order<'a>(policy: &'a LoadedPolicy, ids: impl Iterator<Item = &'a PolicyId>) -> Vec<&'a Rule> {
    let mut rules: Vec<_> = ids.filter_map(|id| policy.rules.get(id)).collect();
    rules.sort_by_key(|rule| (rule.tier.unwrap_or(u32::MAX), rule.order));
    rules
}

fn no_rule(values: &SentenceValues<'_>) -> String {
    let SentenceValues { institution, action, .. } = values;
    match (values.node, values.participant) {
        (Some(node), _) => format!("no rule of {institution} permits {action} on {}", describe(node)),
        (None, Some(from)) => format!("no rule of {institution} permits {action} to participants of {from}"),
        (None, None) => format!("no rule of {institution} permits {action}"),
    }
}

fn describe(node: &NodeFacts) -> String {
    let NodeFacts { id, country, operator, host, host_controlled_from, .. } = node;
    if node.own_machine() {
        format!("{id} ({operator}'s own machine in {country})")
    } else {
        format!(
            "{id} (in {country}, run by {operator} on a machine of {host}, controlled from {host_controlled_from})"
        )
    }
}
