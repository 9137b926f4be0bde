//! Mutants of one rule: the rule with one part deleted, negated or widened. Rules are changed in Cedar's JSON form.

use cedar_policy::{Policy, PolicySet};
use serde_json::{Value, json};
use systir_policy::Action;

/// A text with one rule changed.
pub(crate) struct Mutant {
    /// The rule.
    pub(crate) rule: String,
    /// The change.
    pub(crate) what: String,
    pub(crate) text: String,
}

/// All mutants of a text, its zones replaced by countries.
pub(crate) fn mutants(text: &str) -> Vec<Mutant> {
    let parsed: PolicySet = text.parse().unwrap();
    let mut rules: Vec<Policy> = parsed.policies().cloned().collect();
    rules.sort_by_key(|rule| rule.id().to_string());
    let written: Vec<String> = rules.iter().map(|rule| rule.to_cedar().unwrap()).collect();
    let mut mutants = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let id = rule.annotation("id").unwrap();
        let mut seen = vec![written[at].clone()];
        for (what, changed) in changes(&rule.to_json().unwrap()) {
            let changed = changed.map_or(String::new(), |json| {
                Policy::from_json(Some(rule.id().clone()), json)
                    .unwrap_or_else(|error| panic!("{id}: {what}: {error}"))
                    .to_cedar()
                    .unwrap()
            });
            if seen.contains(&changed) {
                continue;
            }
            seen.push(changed.clone());
            let all: Vec<&str> = written
                .iter()
                .enumerate()
                .map(|(other, text)| if other == at { changed.as_str() } else { text.as_str() })
                .collect();
            mutants.push(Mutant { rule: id.to_owned(), what, text: all.join("\n") });
        }
    }
    mutants
}

/// The rule with one change, or without it deleted.
fn changes(rule: &Value) -> Vec<(String, Option<Value>)> {
    let mut changes = vec![("deleted".to_owned(), None)];
    let mut add = |what: String, changed: Value| changes.push((what, Some(changed)));
    let permits = rule["effect"] == "permit";
    let mut opposite = rule.clone();
    opposite["effect"] = json!(if permits { "forbid" } else { "permit" });
    add("effect negated".to_owned(), opposite);
    for part in ["principal", "resource"] {
        let mut wider = rule.clone();
        wider[part] = json!({"op": "All"});
        add(format!("any {part}"), wider);
    }
    let actions = named_actions(&rule["action"]);
    let same_kind = |action: &Action| {
        let first = actions.first().and_then(|name| name.parse::<Action>().ok());
        first.is_none_or(|first| first.is_on_node() == action.is_on_node())
    };
    let kind: Vec<Action> = Action::ALL.into_iter().filter(same_kind).collect();
    if permits {
        for more in kind.iter().filter(|action| !actions.contains(&action.as_str().to_owned())) {
            let names = actions.iter().map(String::as_str).chain([more.as_str()]);
            add(format!("permits {more} too"), with_actions(rule, names));
        }
    } else {
        let all: Vec<&str> = if actions.is_empty() {
            Action::ALL.into_iter().filter(|action| action.is_on_node()).map(Action::as_str).collect()
        } else {
            actions.iter().map(String::as_str).collect()
        };
        for less in &all {
            let names = all.iter().copied().filter(|name| name != less);
            add(format!("does not forbid {less}"), with_actions(rule, names));
        }
    }
    for at in 0..rule["conditions"].as_array().map_or(0, Vec::len) {
        let mut without = rule.clone();
        without["conditions"].as_array_mut().unwrap().remove(at);
        add("condition deleted".to_owned(), without);
        let mut negated = rule.clone();
        let kind = &mut negated["conditions"][at]["kind"];
        *kind = json!(if *kind == "when" { "unless" } else { "when" });
        add("condition negated".to_owned(), negated);
        for (what, body) in expression_changes(&rule["conditions"][at]["body"]) {
            let mut changed = rule.clone();
            changed["conditions"][at]["body"] = body;
            add(what, changed);
        }
    }
    changes
}

/// The names of the actions in the scope; none for a group or any action.
fn named_actions(scope: &Value) -> Vec<String> {
    let ids = |entity: &Value| entity["id"].as_str().unwrap_or_default().to_owned();
    let listed = scope["entities"].as_array().into_iter().flatten().map(ids);
    let names: Vec<String> = listed.chain(scope.get("entity").map(ids)).collect();
    names.into_iter().filter(|name| name.parse::<Action>().is_ok()).collect()
}

fn with_actions<'a>(rule: &Value, names: impl Iterator<Item = &'a str>) -> Value {
    let entities: Vec<Value> = names.map(|name| json!({"type": "Action", "id": name})).collect();
    let spills = entities.iter().any(|entity| entity["id"] == "spill");
    let mut changed = rule.clone();
    changed["action"] = json!({"op": "in", "entities": entities});
    // A permission to spill needs a tier.
    if spills && changed["effect"] == "permit" && changed["annotations"]["tier"].is_null() {
        changed["annotations"]["tier"] = json!("9");
    }
    changed
}

/// The expression with one part of it negated, left out, or a list of countries or days longer.
fn expression_changes(expression: &Value) -> Vec<(String, Value)> {
    let mut changes = Vec::new();
    let Some((operator, parts)) = expression.as_object().and_then(|fields| fields.iter().next()) else {
        return changes;
    };
    let connects = matches!(operator.as_str(), "&&" | "||");
    if connects {
        for side in ["left", "right"] {
            changes.push((format!("only the {side} of {operator}"), parts[side].clone()));
            for (what, changed) in expression_changes(&parts[side]) {
                let mut whole = expression.clone();
                whole[operator.as_str()][side] = changed;
                changes.push((what, whole));
            }
        }
        return changes;
    }
    changes.push((format!("{} negated", words(expression)), json!({"!": {"arg": expression}})));
    for (kind, outside) in [("Country", "US"), ("Weekday", "sat")] {
        let list = parts["right"]["Set"].as_array().filter(|list| {
            list.iter().all(|item| item["Value"]["__entity"]["type"] == kind) && operator == "in"
        });
        if let Some(list) = list {
            let mut longer = list.clone();
            longer.push(json!({"Value": {"__entity": {"type": kind, "id": outside}}}));
            let mut whole = expression.clone();
            whole[operator.as_str()]["right"]["Set"] = json!(longer);
            changes.push((format!("{} with {outside}", words(expression)), whole));
        }
    }
    changes
}

fn words(expression: &Value) -> String {
    let text = expression.to_string();
    let attribute = text.split("\"attr\":\"").nth(1).and_then(|rest| rest.split('"').next());
    attribute.unwrap_or("the condition").to_owned()
}
