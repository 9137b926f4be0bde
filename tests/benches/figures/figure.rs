//! A measured figure beside its goal, and the table of them.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use owo_colors::{OwoColorize, Stream};
use serde::Serialize;

use crate::machine::Machine;

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// What is measured.
    name: &'static str,
    value: f64,
    unit: &'static str,
    /// The upper limit; none for a figure without a goal.
    goal: Option<f64>,
    /// How it was measured.
    how: String,
}

impl Figure {
    /// A figure with a goal.
    pub(crate) fn new(name: &'static str, value: f64, unit: &'static str, goal: f64, how: String) -> Self {
        Self { name, value, unit, goal: Some(goal), how }
    }

    /// A figure without a goal, as context for the others.
    pub(crate) fn without_goal(name: &'static str, value: f64, unit: &'static str, how: String) -> Self {
        Self { name, value, unit, goal: None, how }
    }

    fn verdict(&self) -> Option<bool> {
        self.goal.map(|goal| self.value <= goal)
    }
}

/// All figures and the machine.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) figures: Vec<Figure>,
}

impl Report {
    /// A table for the terminal.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["figure", "measured", "goal", "", "how"]);
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        for figure in &self.figures {
            let goal = figure.goal.map(|goal| format!("<= {} {}", number(goal), figure.unit));
            let verdict = match figure.verdict() {
                None => String::new(),
                Some(true) => "ok".if_supports_color(Stream::Stdout, |text| text.green()).to_string(),
                Some(false) => "misses".if_supports_color(Stream::Stdout, |text| text.red()).to_string(),
            };
            table.add_row([
                Cell::new(figure.name),
                right(format!("{} {}", number(figure.value), figure.unit)),
                right(goal.unwrap_or_default()),
                Cell::new(verdict),
                Cell::new(&figure.how),
            ]);
        }
        format!("{}\n{table}", self.machine.lines())
    }
}

/// Three significant digits, without a fraction where there is none.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        small if small < 1.0 => 3,
        small if small < 10.0 => 2,
        small if small < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
