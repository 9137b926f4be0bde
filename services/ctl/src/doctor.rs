//! `systirctl doctor`: checks a node and its machine.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color};
use systir_doctor::{Diagnosis, Finding, FindingLevel};

use crate::USAGE;
use crate::tables::{fit_width, printable, printable_lines, table};

/// Arguments of `systirctl doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Run it as the user of the node, who may read its files and see its ports: \
                        sudo -u systir systirctl doctor\n\n\
                        Exit codes: 0 nothing is wrong (there may be warnings), 1 something is wrong, 64 the configuration \
                        cannot be used, or an invalid command line.")]
pub(crate) struct Arguments {
    /// Configuration file of the node. Variables `SYSTIR_<SECTION>__<FIELD>` count, as for the node.
    #[arg(long, env = "SYSTIR_CONFIG", value_name = "FILE", default_value = "/etc/systir/node.toml")]
    config: PathBuf,
    /// Show only what is not ok.
    #[arg(long)]
    quiet: bool,
}

/// Prints the lines; the exit code says whether something is wrong.
pub(crate) async fn run(arguments: &Arguments, json: bool) -> Result<ExitCode> {
    let mut diagnosis = systir_relay::doctor::diagnose(&arguments.config).await;
    let (status, summary) = (exit_code(&diagnosis), summary(&diagnosis));
    if arguments.quiet {
        diagnosis.findings.retain(|finding| finding.level != FindingLevel::Ok);
    }
    let mut out = std::io::stdout();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&diagnosis)?)?;
    } else {
        if !diagnosis.findings.is_empty() {
            writeln!(out, "{}", lines(&diagnosis.findings))?;
        }
        writeln!(out, "{summary}")?;
    }
    Ok(ExitCode::from(status))
}

fn exit_code(diagnosis: &Diagnosis) -> u8 {
    match (&diagnosis.node, diagnosis.worst()) {
        (None, _) => USAGE,
        (Some(_), FindingLevel::Wrong) => 1,
        (Some(_), FindingLevel::Ok | FindingLevel::Warning) => 0,
    }
}

fn lines(findings: &[Finding]) -> String {
    let titles = ["area", "subject", "state", "what was found, and what to do"];
    let mut table = table(&titles);
    // A line for each fact, not between them.
    table.load_style(NOTHING);
    for finding in findings {
        let color = match finding.level {
            FindingLevel::Ok => Color::Green,
            FindingLevel::Warning => Color::Yellow,
            FindingLevel::Wrong => Color::Red,
        };
        let what = match &finding.advice {
            Some(advice) => format!("{}\n→ {advice}", finding.what),
            None => finding.what.clone(),
        };
        // Both have words of other machines: names of nodes, errors of etcd, sentences of documents.
        table.add_row(vec![
            Cell::new(finding.area.as_str()).add_attribute(Attribute::Bold),
            Cell::new(printable(&finding.subject)),
            Cell::new(finding.level.as_str()).fg(color),
            Cell::new(printable_lines(&what)),
        ]);
    }
    fit_width(&mut table, &["what was found, and what to do"], &titles);
    table.to_string()
}

fn summary(diagnosis: &Diagnosis) -> String {
    let [wrong, warnings, ok] =
        [FindingLevel::Wrong, FindingLevel::Warning, FindingLevel::Ok].map(|level| diagnosis.count(level));
    format!("{wrong} wrong, {warnings} with a warning, {ok} ok")
}

#[cfg(test)]
mod tests {
    use systir_doctor::FindingArea;

    use super::*;

    fn with(node: Option<&str>, findings: &[Finding]) -> Diagnosis {
        Diagnosis { node: node.map(str::to_owned), findings: findings.to_vec() }
    }

    #[test]
    fn the_exit_code_says_whether_something_is_wrong() {
        let ok = Finding::ok(FindingArea::Clock, "wall clock", "right");
        let warning = Finding::warning(FindingArea::Kernel, "open files", "few");
        let wrong = Finding::wrong(FindingArea::Etcd, "etcd", "away");
        assert_eq!(exit_code(&with(Some("cph-1"), &[ok, warning.clone()])), 0);
        assert_eq!(exit_code(&with(Some("cph-1"), &[warning, wrong.clone()])), 1);
        assert_eq!(exit_code(&with(None, &[wrong])), 64);
    }

    #[test]
    fn a_line_says_what_was_found_and_what_to_do() {
        let found = Finding::wrong(FindingArea::Etcd, "https://192.0.2.10:2379", "does not answer")
            .advise("start it");
        let text = lines(std::slice::from_ref(&found));
        for part in ["etcd", "https://192.0.2.10:2379", "wrong", "does not answer", "→ start it"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(summary(&with(Some("cph-1"), &[found])), "1 wrong, 0 with a warning, 0 ok");
    }

    #[test]
    fn what_another_machine_says_does_not_control_the_terminal() {
        let found = Finding::wrong(FindingArea::Peers, "sto-1\u{1b}[2J", "one line\u{9b}1m\nand another\r")
            .advise("start\u{7} it");
        let text = lines(std::slice::from_ref(&found));
        let foreign = ['\u{9b}', '\u{7}', '\r'];
        assert!(!text.contains(foreign) && !text.contains("\u{1b}[2J"), "{text:?}");
        // A message of several lines stays readable.
        assert!(
            text.lines().any(|line| line.contains("one line") && !line.contains("and another")),
            "{text}"
        );
    }
}
