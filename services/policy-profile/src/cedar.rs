//! Writes Cedar text.

use crate::hours::Hours;

/// A rule before it is written.
pub(crate) struct RuleText<'a> {
    pub(crate) id: &'a str,
    pub(crate) tier: Option<u32>,
    pub(crate) hours: Option<&'a Hours>,
    pub(crate) why: &'a str,
    /// `permit` or `forbid`.
    pub(crate) effect: &'a str,
    pub(crate) principal: &'a str,
    pub(crate) action: &'a str,
    pub(crate) resource: &'a str,
    /// `when { ... }` or `unless { ... }`; may be empty. With hours it is continued after the text.
    pub(crate) clause: &'a str,
}

impl RuleText<'_> {
    pub(crate) fn write(&self, out: &mut String) {
        let Self { id, tier, why, effect, principal, action, resource, clause, hours } = self;
        out.push_str(&format!("\n@id({})\n", text(id)));
        if let Some(tier) = tier {
            out.push_str(&format!("@tier(\"{tier}\")\n"));
        }
        if let Some(hours) = hours {
            out.push_str(&format!("@hours({})\n", text(&hours.to_string())));
        }
        out.push_str(&format!("@why({})\n{effect} ({principal}, {action}, {resource})", text(why)));
        if !clause.is_empty() {
            out.push_str(&format!("\n{clause}"));
        }
        if hours.is_none() {
            out.push_str(";\n");
        }
    }
}

/// A Cedar string.
pub(crate) fn text(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// An entity of one of the schema's types.
pub(crate) fn entity(kind: &str, name: &str) -> String {
    format!("{kind}::{}", text(name))
}

/// Entities, separated by commas.
pub(crate) fn entities<'a>(kind: &str, names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| entity(kind, name)).collect::<Vec<_>>().join(", ")
}
