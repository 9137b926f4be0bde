//! Cedar's response as a decision, with its rules and its sentence.

use cedar_policy::{Decision as CedarDecision, PolicyId};
use systir_reason::Reason;

use crate::action::Action;
use crate::decision::Decision;
use crate::loader::LoadedPolicy;
use crate::node::NodeFacts;
use crate::rule::{Rule, RuleEffect};
use crate::sentence::SentenceValues;

/// Cedar's response as a decision. Cedar skips a rule that fails, so a failing forbid would allow: any error denies.
pub(crate) fn decision_of(
    policy: &LoadedPolicy,
    values: &SentenceValues<'_>,
    cedar_decision: CedarDecision,
    diagnostics: &cedar_policy::Diagnostics,
) -> Decision {
    let version = Some(&policy.text.version);
    let failed = diagnostics.errors().map(|error| match error {
        cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
    });
    let failed = in_order(policy, failed);
    if diagnostics.errors().next().is_some() {
        let names: Vec<_> = failed.iter().map(|rule| rule.id.as_str()).collect();
        let why = format!("a rule could not be evaluated ({}), so nothing is allowed", names.join(", "));
        let rules = failed.iter().map(|rule| rule.id.clone()).collect();
        return Decision { rules, ..Decision::deny(Reason::EvaluationError, why, version) };
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
