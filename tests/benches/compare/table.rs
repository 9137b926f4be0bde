//! The figures of all servers beside each other, as a Markdown table.

use std::fmt;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{Cell, CellAlignment};

use crate::servers::Server;

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// It is context for others.
    None,
    /// An upper limit.
    AtMost(f64),
    /// A lower limit.
    AtLeast(f64),
    /// LiveKit's figure divided by this is an upper limit for ours.
    LiveKitBy(f64),
}

impl Goal {
    fn text(self) -> String {
        match self {
            Self::None => String::new(),
            Self::AtMost(limit) => format!("<= {}", number(limit)),
            Self::AtLeast(limit) => format!(">= {}", number(limit)),
            Self::LiveKitBy(times) => format!("<= LiveKit / {}", number(times)),
        }
    }

    /// Is it met by this figure of a server? `livekit` is that of LiveKit's, where the goal is one of Systir beside it.
    fn met(self, value: f64, livekit: Option<f64>) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
            Self::LiveKitBy(times) => livekit.map(|livekit| value <= livekit / times),
        }
    }
}

/// One figure of one run.
#[derive(Debug)]
pub(crate) struct Figure {
    /// What was run.
    pub(crate) group: String,
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
    pub(crate) value: f64,
}

#[derive(Debug)]
struct Row {
    group: String,
    name: &'static str,
    unit: &'static str,
    goal: Goal,
    /// Of each server, in the order of [`Table::servers`], the values of all runs.
    values: Vec<Vec<f64>>,
    floor: Vec<f64>,
}

/// All figures of all runs, in the order in which they came first.
#[derive(Debug)]
pub(crate) struct Table {
    servers: Vec<Server>,
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(servers: &[Server]) -> Self {
        Self { servers: servers.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn add(&mut self, server: Server, figure: Figure) {
        let Some(column) = self.servers.iter().position(|one| *one == server) else { return };
        let found = self.rows.iter().position(|row| row.group == figure.group && row.name == figure.name);
        let row = found.unwrap_or_else(|| {
            let Figure { group, name, unit, goal, .. } = figure;
            let values = vec![Vec::new(); self.servers.len()];
            self.rows.push(Row { group, name, unit, goal, values, floor: Vec::new() });
            self.rows.len() - 1
        });
        self.rows[row].values[column].push(figure.value);
    }

    /// Adds the cost of sealing and sending alone to the first row of a group.
    pub(crate) fn add_floor(&mut self, group: &str, floor: Option<f64>) {
        if let (Some(row), Some(floor)) = (self.rows.iter_mut().find(|row| row.group == group), floor) {
            row.floor.push(floor);
        }
    }

    /// The column that Systir is compared with.
    fn compared(&self) -> Option<(usize, usize)> {
        let column = |server| self.servers.iter().position(|one| *one == server);
        Some((column(Server::Systir)?, column(Server::LiveKit).or_else(|| column(Server::Tuned))?))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_style(ASCII_MARKDOWN);
        let mut header = vec!["".to_owned(), "figure".to_owned(), "unit".to_owned(), "goal".to_owned()];
        header.extend(self.servers.iter().map(ToString::to_string));
        let floors = self.rows.iter().any(|row| !row.floor.is_empty());
        header.extend(self.compared().map(|(_, other)| format!("Systir / {}", self.servers[other])));
        header.extend(floors.then(|| "seal and send".to_owned()));
        table.set_header(header);
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let mut group = "";
        for row in &self.rows {
            let medians: Vec<Option<f64>> = row.values.iter().map(|values| median(values)).collect();
            let first = if row.group == group { "" } else { row.group.as_str() };
            group = &row.group;
            let mut cells =
                vec![Cell::new(first), Cell::new(row.name), Cell::new(row.unit), right(row.goal.text())];
            for (column, value) in medians.iter().enumerate() {
                let text = value.map_or_else(|| "-".to_owned(), number);
                let livekit = self
                    .compared()
                    .filter(|(ours, _)| *ours == column)
                    .and_then(|(_, theirs)| medians[theirs]);
                let met = value.and_then(|value| row.goal.met(value, livekit));
                cells.push(right(if met == Some(false) { format!("{text} !") } else { text }));
            }
            if let Some((ours, theirs)) = self.compared() {
                let ratio = medians[ours].zip(medians[theirs]).map(|(ours, theirs)| ours / theirs);
                let shown = ratio.filter(|ratio| ratio.is_finite());
                cells.push(right(shown.map_or_else(String::new, |ratio| format!("{ratio:.2}"))));
            }
            if floors {
                cells.push(right(median(&row.floor).map_or_else(String::new, number)));
            }
            table.add_row(cells);
        }
        write!(formatter, "{table}\n\n`!` misses the goal.")
    }
}

/// None of no values.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (lower, upper) = (sorted.get(sorted.len().saturating_sub(1) / 2)?, sorted.get(sorted.len() / 2)?);
    // The mean of two times of which one is infinite would be infinite; equal ones need no mean.
    Some(if lower == upper { *lower } else { (lower + upper) / 2.0 })
}

/// Three significant digits.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        infinite if infinite.is_infinite() => return "never".to_owned(),
        whole if whole.fract() == 0.0 => 0,
        small if small < 1.0 => 3,
        small if small < 10.0 => 2,
        small if small < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}
