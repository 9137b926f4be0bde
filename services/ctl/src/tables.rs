//! Prints responses as tables, or unchanged with `--json`.

use std::io::Write as _;

use anyhow::Result;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table};
use serde_json::Value;

/// A field of a response, for a terminal; `-` if there is none.
pub(crate) fn text(value: &Value, key: &str) -> String {
    printable(&match &value[key] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    })
}

/// A text of others, for a terminal: control characters, which could move the cursor or hide text, are replaced.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

/// As [`printable`], for a text of several lines.
pub(crate) fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// A table with these titles.
pub(crate) fn table(titles: &[&str]) -> Table {
    let mut table = Table::new();
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        // Without colours, but still as wide as the terminal.
        let width = table.width();
        table.force_no_tty();
        if let Some(width) = width {
            table.set_width(width);
        }
    }
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(titles.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    table
}

/// On a narrow terminal only the columns in `wrapped` break lines; names in other columns stay whole.
pub(crate) fn fit_width(table: &mut Table, wrapped: &[&str], titles: &[&str]) {
    for (column, title) in table.column_iter_mut().zip(titles) {
        column.set_padding((0, 1));
        if !wrapped.contains(title) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
}

/// Is the candidate full by its last report?
fn is_full(candidate: &Value) -> bool {
    candidate["reason"].as_str().is_some_and(|reason| ["full", "home-full"].contains(&reason))
}

fn list<'a>(response: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    response[key].as_array().into_iter().flatten()
}

fn print(response: &Value, json: bool, table: impl FnOnce() -> String) -> Result<()> {
    let text = if json { serde_json::to_string_pretty(response)? } else { table() };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// `systirctl nodes`.
pub(crate) fn nodes(response: &Value, json: bool) -> Result<()> {
    print(response, json, || {
        let titles = [
            "node",
            "site",
            "country",
            "operator",
            "host",
            "controlled from",
            "participants",
            "version",
            "state",
        ];
        let mut table = table(&titles);
        for node in list(response, "nodes") {
            let alive = node["alive"] == true;
            let own = node["own_machine"] == true;
            let host = Cell::new(text(node, "host"));
            let state = match (alive, node["draining"] == true, node["participants"] == 0) {
                (false, ..) if node["supported"] == false => Cell::new("unsupported version").fg(Color::Red),
                (false, ..) => Cell::new("no lease").fg(Color::Red),
                (true, true, false) => Cell::new("draining").fg(Color::Yellow),
                (true, true, true) => Cell::new("drained").fg(Color::Yellow),
                (true, false, _) => Cell::new("up").fg(Color::Green),
            };
            table.add_row(vec![
                Cell::new(text(node, "node")).add_attribute(Attribute::Bold),
                Cell::new(text(node, "site")),
                Cell::new(text(node, "country")),
                Cell::new(text(node, "operator")),
                if own { host } else { host.fg(Color::Yellow) },
                Cell::new(text(node, "host_controlled_from")),
                Cell::new(format!("{} of {}", text(node, "participants"), text(node, "capacity"))),
                Cell::new(text(node, "version")),
                state,
            ]);
        }
        fit_width(&mut table, &["controlled from", "host"], &titles);
        format!("{table}\nregistry: {}", text(response, "registry"))
    })
}

/// `systirctl where`.
pub(crate) fn residency(response: &Value, json: bool) -> Result<()> {
    print(response, json, || {
        let titles = ["node", "roles", "site", "country", "operator", "host", "controlled from", "rule"];
        let mut table = table(&titles);
        for node in list(response, "nodes") {
            let mut cells = vec![Cell::new(text(node, "node")).add_attribute(Attribute::Bold)];
            let fields = ["roles", "site", "country", "operator", "host", "host_controlled_from", "rule"];
            cells.extend(fields.map(|field| Cell::new(text(node, field))));
            table.add_row(cells);
        }
        fit_width(&mut table, &["controlled from", "host", "rule"], &titles);
        table.to_string()
    })
}

/// `systirctl rooms`.
pub(crate) fn rooms(response: &Value, json: bool) -> Result<()> {
    print(response, json, || {
        let titles = ["room", "sid", "home", "spill", "epoch", "policy", "room key"];
        let mut table = table(&titles);
        for room in list(response, "rooms") {
            table.add_row(
                ["room", "sid", "home", "spill", "epoch", "policy_version", "room_key"]
                    .map(|key| Cell::new(text(room, key))),
            );
        }
        fit_width(&mut table, &["room", "spill"], &titles);
        table.to_string()
    })
}

/// `systirctl documents`.
pub(crate) fn documents(response: &Value, json: bool) -> Result<()> {
    print(response, json, || {
        let titles = ["document", "owner", "version", "state", "renew by", "not after", "signed with"];
        let mut table = table(&titles);
        for document in list(response, "documents") {
            let state = text(document, "state");
            let color = match state.as_str() {
                "valid" => Color::Green,
                "renewal-overdue" => Color::Yellow,
                _ => Color::Red,
            };
            let signers: Vec<String> =
                list(document, "signers").map(|signer| text(signer, "fingerprint")).collect();
            table.add_row(vec![
                Cell::new(text(document, "kind")).add_attribute(Attribute::Bold),
                Cell::new(text(document, "owner")),
                Cell::new(text(document, "version")),
                Cell::new(state).fg(color),
                Cell::new(text(document, "renew_by")),
                Cell::new(text(document, "not_after")),
                Cell::new(signers.join("\n")),
            ]);
        }
        fit_width(&mut table, &["signed with"], &titles);
        table.to_string()
    })
}

/// `systirctl explain ROOM`.
pub(crate) fn explain(response: &Value, json: bool) -> Result<()> {
    print(response, json, || {
        let mut out = String::new();
        let assignment = &response["assignment"];
        if assignment.is_null() {
            out.push_str(&format!(
                "{}: not assigned yet; this is the ladder for the next join\n",
                text(response, "room")
            ));
        } else {
            out.push_str(&format!(
                "{}: home {}, spill [{}], epoch {}, policy {}\n",
                text(response, "room"),
                text(assignment, "home"),
                text(assignment, "spill"),
                text(assignment, "epoch"),
                text(assignment, "policy_version")
            ));
        }
        // The sentences name the rules, so there is no column for them.
        let titles = ["rank", "node", "role", "seats", "reason", "why"];
        let mut table = table(&titles);
        for row in list(response, "candidates") {
            let reason = match (row["rank"].is_null(), is_full(row)) {
                (true, _) => Color::Red,
                (false, true) => Color::Yellow,
                (false, false) => Color::Green,
            };
            table.add_row(vec![
                Cell::new(text(row, "rank")),
                Cell::new(text(row, "node")).add_attribute(Attribute::Bold),
                Cell::new(text(row, "role")),
                Cell::new(text(row, "load")),
                Cell::new(text(row, "reason")).fg(reason),
                Cell::new(text(row, "why")),
            ]);
        }
        fit_width(&mut table, &["why"], &titles);
        out.push_str(&table.to_string());
        let mut ranked = list(response, "candidates").filter(|row| !row["rank"].is_null()).peekable();
        if ranked.peek().is_some() && ranked.all(is_full) {
            out.push_str("\nEvery approved node is full by its last report; the next join asks each again.");
        }
        if !response["refusal"].is_null() {
            out.push_str(&format!(
                "\nThe next join would be refused: {}",
                text(&response["refusal"], "sentence")
            ));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_gateway_answers_does_not_control_the_terminal() {
        let answer = json!({
            "text": "cph-1\u{1b}[2J\u{7}", "list": ["a\u{9b}1m", {"b": "\u{7f}\u{9d}"}], "object": {"c": "\u{85}"},
            "number": 7, "nothing": null,
        });
        for key in ["text", "list", "object"] {
            let text = text(&answer, key);
            assert!(!text.contains(char::is_control), "{text:?}");
        }
        assert_eq!(text(&answer, "text"), "cph-1\u{fffd}[2J\u{fffd}");
        assert_eq!(["number", "nothing"].map(|key| text(&answer, key)), ["7", "-"]);
    }
}
