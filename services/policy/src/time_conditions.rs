//! The parts of a rule that depend on the time alone: `context.now < datetime("2027-03-28T01:00:00Z")`. A rule decides
//! otherwise at another time only if one of them does, so decisions are made again only then.

use std::collections::BTreeSet;

use cedar_policy::{
    Authorizer, Context, Entities, EntityId, EntityTypeName, EntityUid, ParseErrors, Policy, PolicyId,
    PolicySet, Request, RestrictedExpression,
};
use serde_json::{Value, json};

use crate::time::PolicyTime;

/// The attributes of the context that state the time.
const TIME: [&str; 2] = ["now", "weekday"];

/// Expressions whose value is true or false.
const TRUE_OR_FALSE: [&str; 10] = ["==", "!=", "<", "<=", ">", ">=", "in", "!", "&&", "||"];

/// What an expression reads.
#[derive(Clone, Copy, Default)]
struct Reads {
    time: bool,
    other: bool,
}

/// The condition of a policy in Cedar's JSON form with each greatest part that depends on the time alone replaced.
/// `replace` is told whether the whole is true rather if the part is (`positive`), or rather if it is not.
///
/// # Errors
/// When the time is used otherwise: mixed with other values, or as a whole context.
pub(crate) fn replace_time_conditions(
    condition: &Value,
    positive: bool,
    replace: &mut dyn FnMut(&Value, bool) -> Value,
) -> Result<Value, String> {
    let found = reads(condition)?;
    if !found.time {
        return Ok(condition.clone());
    }
    let operator = condition.as_object().and_then(|fields| fields.keys().next()).map_or("", String::as_str);
    if !found.other {
        if !TRUE_OR_FALSE.contains(&operator) && !is_true_or_false(condition) {
            return Err(compared_with_constants());
        }
        return Ok(replace(condition, positive));
    }
    let decides_by_time = operator == "if-then-else" && reads(&condition[operator]["if"])?.time;
    if !matches!(operator, "&&" | "||" | "!" | "if-then-else") || decides_by_time {
        return Err(compared_with_constants());
    }
    let mut replaced = condition.clone();
    for (_, part) in replaced[operator].as_object_mut().into_iter().flatten() {
        *part = replace_time_conditions(part, positive == (operator != "!"), replace)?;
    }
    Ok(replaced)
}

/// The conditions of a policy in Cedar's JSON form, each with whether the policy applies rather if it is true.
pub(crate) fn conditions(policy: &Value) -> impl Iterator<Item = (&Value, bool)> {
    let conditions = policy["conditions"].as_array().into_iter().flatten();
    conditions.map(|condition| (&condition["body"], condition["kind"] == "when"))
}

/// Which times are meant by a rule that does not read the time any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// A request is permitted if it could be at some time.
    Some,
    /// A request is permitted if it is at all times.
    All,
}

impl Times {
    /// The rule without its conditions on the time. Each of them is taken for itself: that no two can hold at once does not
    /// count, so that [`Times::Some`] permits rather too much and [`Times::All`] too little.
    ///
    /// # Errors
    /// When the rule uses the time in a way that the loader refuses.
    pub fn of(self, policy: &Policy) -> Result<Policy, String> {
        let mut json = policy.to_json().map_err(|error| error.to_string())?;
        let permits = json["effect"] == "permit";
        let applies = permits == (self == Self::Some);
        let mut reads_time = false;
        for condition in json["conditions"].as_array_mut().into_iter().flatten() {
            let positive = condition["kind"] == "when";
            let body = replace_time_conditions(&condition["body"], positive, &mut |_, positive| {
                reads_time = true;
                json!({"Value": positive == applies})
            })?;
            condition["body"] = body;
        }
        if !reads_time {
            return Ok(policy.clone());
        }
        Policy::from_json(Some(policy.id().clone()), json).map_err(|error| error.to_string())
    }
}

/// `if A then B else C` of conditions, and `[A, B].contains(C)`.
fn is_true_or_false(expression: &Value) -> bool {
    if expression.get("contains").is_some() {
        return true;
    }
    let Some(parts) = expression.get("if-then-else") else { return false };
    ["then", "else"].iter().all(|part| {
        let operator = parts[part].as_object().and_then(|fields| fields.keys().next());
        parts[part]["Value"].is_boolean()
            || operator.is_some_and(|operator| TRUE_OR_FALSE.contains(&operator.as_str()))
            || is_true_or_false(&parts[part])
    })
}

fn compared_with_constants() -> String {
    "the time may only be compared with constants: write conditions such as `context.now.toTime() < duration(\"14h\")` \
     and `context.weekday == Weekday::\"mon\"`, joined by && and ||"
        .to_owned()
}

fn reads(expression: &Value) -> Result<Reads, String> {
    let mut found = Reads::default();
    match expression {
        Value::Array(items) => {
            for item in items {
                found = found.and(reads(item)?);
            }
        }
        Value::Object(fields) => {
            for (operator, parts) in fields {
                found = found.and(match operator.as_str() {
                    "Value" => Reads::default(),
                    // The names in a record are the author's, not operators.
                    "Record" => {
                        let fields = parts.as_object().into_iter().flat_map(|fields| fields.values());
                        fields.map(reads).try_fold(Reads::default(), |all, one| one.map(|one| all.and(one)))?
                    }
                    "Var" if parts == "context" => {
                        return Err("`context` may only be read as context.ATTRIBUTE".to_owned());
                    }
                    "Var" => Reads { other: true, time: false },
                    "." | "has" if parts["left"]["Var"] == "context" => {
                        let time = TIME.iter().any(|name| parts["attr"] == *name);
                        if time && operator == "has" {
                            return Err("`context has now` has no meaning: on a node that does not know the time no rule \
                                        permits by it, and each rule that forbids by it forbids"
                                .to_owned());
                        }
                        Reads { time, other: !time }
                    }
                    _ => reads(parts)?,
                });
            }
        }
        _ => {}
    }
    Ok(found)
}

impl Reads {
    fn and(self, other: Self) -> Self {
        Self { time: self.time || other.time, other: self.other || other.other }
    }
}

/// The conditions on the time of all rules of an engine, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeConditions {
    policies: PolicySet,
}

impl TimeConditions {
    pub(crate) fn new<'a>(conditions: impl IntoIterator<Item = &'a Value>) -> Result<Self, String> {
        let mut policies = PolicySet::new();
        let texts: BTreeSet<String> = conditions.into_iter().map(Value::to_string).collect();
        for (at, text) in texts.into_iter().enumerate() {
            let body: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let all = json!({"op": "All"});
            let policy = json!({
                "effect": "permit", "principal": all, "action": all, "resource": all,
                "conditions": [{"kind": "when", "body": body}],
            });
            let policy = Policy::from_json(Some(PolicyId::new(at.to_string())), policy);
            let policy = policy.map_err(|error| error.to_string())?;
            policies.add(policy).map_err(|error| error.to_string())?;
        }
        Ok(Self { policies })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Those that hold. None: the time is not known.
    pub(crate) fn holding(&self, time: Option<PolicyTime>) -> Option<BTreeSet<PolicyId>> {
        let context = Context::from_pairs(attributes(time?).ok()?).ok()?;
        let none: EntityTypeName = "Time".parse().ok()?;
        let uid = EntityUid::from_type_name_and_id(none, EntityId::new(""));
        let request = Request::new(uid.clone(), uid.clone(), uid, context, None).ok()?;
        let response = Authorizer::new().is_authorized(&request, &self.policies, &Entities::empty());
        Some(response.diagnostics().reason().cloned().collect())
    }
}

/// The time as attributes of the context.
pub(crate) fn attributes(time: PolicyTime) -> Result<[(String, RestrictedExpression); 2], Box<ParseErrors>> {
    let weekday: EntityTypeName = "Weekday".parse().map_err(Box::new)?;
    let weekday = EntityUid::from_type_name_and_id(weekday, EntityId::new(time.weekday()));
    Ok([
        ("now".to_owned(), RestrictedExpression::new_datetime(time.to_string())),
        ("weekday".to_owned(), RestrictedExpression::new_entity_uid(weekday)),
    ])
}

/// Is it `context.now` or `context.weekday`?
pub(crate) fn is_time(operator: &str, parts: &Value) -> bool {
    operator == "." && parts["left"]["Var"] == "context" && TIME.iter().any(|name| parts["attr"] == *name)
}
