//! `drain` and `undrain`: asks a node to drain, and shows how far it is.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use systir_drain::{DrainProgress, DrainState};

use crate::gateway_client::GatewayClient;

/// How often the node is asked.
const INTERVAL: Duration = Duration::from_millis(500);

/// Questions without an answer after which the node is taken for stopped.
const SILENT_QUESTIONS: u32 = 6;

/// How long those who were asked at the deadline may take to leave.
const LAST_LEAVE: Duration = Duration::from_secs(5);

/// Arguments of `drain`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The node, whose URL --url gives. The API key is that of `[drain]` in its configuration.
    node: String,
    /// When those who are still there are asked at once, such as 90s, 10m or 1h [default: the node's configuration].
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    deadline: Option<u64>,
}

fn seconds(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        other => return Err(format!("unknown unit {other}; use s, m or h")),
    };
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| format!("{text} is not a time; write 10m"))
}

/// Drains a node and shows the progress until nobody is left, or until the rest was asked at the deadline.
pub(crate) async fn run(arguments: &Arguments, gateway: &GatewayClient, json: bool) -> Result<()> {
    let Arguments { node, deadline } = arguments;
    let body = json!({ "node": node, "deadline_seconds": deadline }).to_string();
    let mut answer = gateway.post(&["systir", "v1", "drain"], body).await?;
    let (mut shown, mut silent, mut overdue) = (Shown::new(node, json), 0, Duration::ZERO);
    loop {
        let Some(progress) = progress(&answer)? else {
            shown.end();
            bail!("the drain of {node} was ended by someone else (undrain)");
        };
        shown.show(&progress)?;
        match progress.state {
            DrainState::Drained => break,
            DrainState::Overdue if overdue >= LAST_LEAVE || progress.participants == 0 => break,
            DrainState::Overdue => overdue += INTERVAL,
            DrainState::Notice | DrainState::Moving => {}
        }
        tokio::time::sleep(INTERVAL).await;
        answer = match gateway.get(&["systir", "v1", "drain"]).await {
            Ok(answer) => {
                silent = 0;
                answer
            }
            Err(_) if silent < SILENT_QUESTIONS => {
                silent += 1;
                continue;
            }
            Err(error) => {
                shown.end();
                return Err(error.context(format!("{node} does not answer any more; it may have ended")));
            }
        };
    }
    shown.end();
    Ok(())
}

/// Ends the drain of a node.
pub(crate) async fn undo(node: &str, gateway: &GatewayClient, json: bool) -> Result<()> {
    let answer = gateway.post(&["systir", "v1", "undrain"], json!({ "node": node }).to_string()).await?;
    let text = if json {
        serde_json::to_string(&answer)?
    } else {
        format!("{node} admits participants and rooms again; those who left do not come back by themselves")
    };
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// The progress in a node's answer; none when it does not drain.
fn progress(answer: &Value) -> Result<Option<DrainProgress>> {
    serde_json::from_value(answer["drain"].clone()).context("the node's answer has no progress of a drain")
}

/// Progress as a bar on a terminal, else as a line for each change; with `--json` as a JSON object a line.
struct Shown<'a> {
    node: &'a str,
    json: bool,
    bar: Option<ProgressBar>,
    last: Option<String>,
    /// The most that was left.
    most: u32,
}

impl<'a> Shown<'a> {
    fn new(node: &'a str, json: bool) -> Self {
        let bar = (!json && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} {bar:30} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(node.to_owned());
            bar
        });
        Self { node, json, bar, last: None, most: 0 }
    }

    fn show(&mut self, progress: &DrainProgress) -> Result<()> {
        let text = sentence(progress);
        self.most = self.most.max(progress.left());
        if let Some(bar) = &self.bar {
            bar.set_length(self.most.into());
            bar.set_position((self.most - progress.left()).into());
            bar.set_message(format!("{text} ({} s left)", progress.seconds_left));
        }
        if self.last.as_ref() == Some(&text) {
            return Ok(());
        }
        if self.json {
            let line = json!({ "node": self.node, "drain": progress });
            writeln!(std::io::stdout(), "{line}")?;
        } else if self.bar.is_none() || progress.state == DrainState::Drained {
            let line = format!("{}: {text}", self.node);
            match &self.bar {
                Some(bar) => bar.suspend(|| writeln!(std::io::stdout(), "{line}"))?,
                None => writeln!(std::io::stdout(), "{line}")?,
            }
        }
        self.last = Some(text);
        Ok(())
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn counted(count: u32, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// What the operator must know. It changes only when something happened.
fn sentence(progress: &DrainProgress) -> String {
    let state = match progress.state {
        DrainState::Notice => "load balancers notice that it is not ready",
        DrainState::Moving => "moving",
        DrainState::Overdue => "the deadline has passed, and the rest was asked to reconnect",
        DrainState::Drained => "drained",
    };
    let mut parts = vec![state.to_owned()];
    if progress.left() > 0 {
        parts.push(format!(
            "{}, {} and {} left",
            counted(progress.participants, "participant", "participants"),
            counted(progress.clients, "relayed client", "relayed clients"),
            counted(progress.homes, "home role", "home roles"),
        ));
    }
    let waiting = [
        (
            "waiting until the deadline for a free seat on an approved node",
            progress.wait_for_seats,
            ["participant", "participants"],
        ),
        ("waiting until the deadline for another gateway", progress.wait_for_gateway, ["client", "clients"]),
        (
            "came back, because their URL or a load balancer leads here, and wait until the deadline",
            progress.came_back,
            ["client", "clients"],
        ),
        ("no other node may be home or took the role", progress.homes_kept, ["room", "rooms"]),
    ];
    let waiting = waiting.iter().filter(|(_, count, _)| *count > 0);
    parts.extend(waiting.map(|(why, count, [one, many])| format!("{why}: {}", counted(*count, one, many))));
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(["90", "90s", "10m", "1h"].map(seconds), [Ok(90), Ok(90), Ok(600), Ok(3_600)]);
        for bad in ["", "m", "ten", "3 weeks", "1.5m", "99999999999999999999h", "-5s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_operator_is_told_who_waits_for_what() {
        let drained = DrainProgress { state: DrainState::Drained, ..DrainProgress::default() };
        assert_eq!(sentence(&drained), "drained");
        let stuck = DrainProgress {
            state: DrainState::Moving,
            participants: 3,
            clients: 1,
            wait_for_seats: 3,
            came_back: 1,
            ..DrainProgress::default()
        };
        assert_eq!(
            sentence(&stuck),
            "moving; 3 participants, 1 relayed client and 0 home roles left; waiting until the deadline for a free seat on an \
             approved node: 3 participants; came back, because their URL or a load balancer leads here, and wait until the \
             deadline: 1 client"
        );
    }
}
