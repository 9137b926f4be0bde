//! Is the wall clock right? The kernel knows whether NTP sets it, other nodes say what time it is for them, and
//! certificates and documents were made in the past.

use std::time::Duration;

use crate::finding::{Finding, FindingArea};
use crate::time_span::time_span;

/// Nodes refuse tickets and grants of a node whose clock differs by more.
pub const LARGEST_DIFFERENCE: Duration = Duration::from_secs(300);
/// With NTP, clocks differ by less. Times of other nodes are known to the second.
const USUAL_DIFFERENCE: Duration = Duration::from_secs(5);

/// What tells of the clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClockFacts {
    /// Does the kernel say that its clock is synchronized? None: nobody can tell.
    pub synchronized: Option<bool>,
    /// Seconds by which the clocks of other nodes are ahead of this one.
    pub ahead: Vec<i64>,
    /// What was made in the future, by this clock: its name, and in how many seconds.
    pub made_in_future: Option<(String, u64)>,
}

/// The check of the clock: one line for what other nodes and files say, one for the kernel's state.
#[must_use]
pub fn clock(facts: &ClockFacts) -> Vec<Finding> {
    vec![wall_clock(facts), synchronization(facts)]
}

const NTP: &str = "synchronize it with NTP (apt-get install chrony), then restart the node";

fn wall_clock(facts: &ClockFacts) -> Finding {
    let (area, subject) = (FindingArea::Clock, "wall clock");
    if let Some((what, seconds)) = &facts.made_in_future {
        let behind = time_span(Duration::from_secs(*seconds));
        let what =
            format!("{what} was made {behind} in the future: this clock is behind, or its maker's is ahead");
        return Finding::wrong(area, subject, what).advise(NTP);
    }
    let Some(ahead) = median(&facts.ahead) else {
        return Finding::ok(area, subject, "not before the dates of certificates and documents");
    };
    let difference = Duration::from_secs(ahead.unsigned_abs());
    let nodes = facts.ahead.len();
    let side = if ahead > 0 { "behind" } else { "ahead of" };
    let of = if nodes == 1 { "one other node".to_owned() } else { format!("{nodes} other nodes") };
    let what = format!("{} {side} {of}", time_span(difference));
    if difference > LARGEST_DIFFERENCE {
        let what = format!("{what}: they refuse what this node signs");
        return Finding::wrong(area, subject, what).advise(NTP);
    }
    if difference > USUAL_DIFFERENCE {
        return Finding::warning(area, subject, what).advise(NTP);
    }
    Finding::ok(area, subject, format!("as on {of}"))
}

fn synchronization(facts: &ClockFacts) -> Finding {
    let (area, subject) = (FindingArea::Clock, "synchronization");
    match facts.synchronized {
        Some(true) => Finding::ok(area, subject, "the kernel's clock is synchronized"),
        Some(false) => Finding::warning(area, subject, "no NTP client synchronizes this machine's clock")
            .advise("apt-get install chrony"),
        None if !facts.ahead.is_empty() => {
            Finding::ok(area, subject, "unknown here; the clocks of other nodes were compared")
        }
        None => Finding::warning(area, subject, "it cannot be told whether NTP synchronizes the clock")
            .advise("apt-get install chrony; `timedatectl` shows it"),
    }
}

/// The middle one, so that one node with a wrong clock does not count. Of two middle ones the one that is nearer to this
/// node's clock: two nodes with one clock outvote a third.
fn median(all: &[i64]) -> Option<i64> {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    let middle = [sorted.len().checked_sub(1)? / 2, sorted.len() / 2];
    middle.into_iter().filter_map(|at| sorted.get(at).copied()).min_by_key(|ahead| ahead.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(facts: &ClockFacts) -> Vec<String> {
        let all = clock(facts).into_iter();
        all.map(|finding| format!("{} {}", finding.level.as_str(), finding.line())).collect()
    }

    fn with(synchronized: Option<bool>, ahead: &[i64]) -> ClockFacts {
        ClockFacts { synchronized, ahead: ahead.to_vec(), made_in_future: None }
    }

    #[test]
    fn one_wrong_clock_of_three_is_the_others() {
        for wrong in [90_000, -90_000] {
            assert_eq!(lines(&with(Some(true), &[0, wrong]))[0], "ok wall clock: as on 2 other nodes");
        }
    }

    #[test]
    fn a_clock_as_that_of_other_nodes_is_ok() {
        let found = lines(&with(Some(true), &[0, 1, -1]));
        assert_eq!(found[0], "ok wall clock: as on 3 other nodes");
        assert_eq!(found[1], "ok synchronization: the kernel's clock is synchronized");
        assert!(lines(&with(None, &[0]))[1].starts_with("ok "), "others were compared");
    }

    #[test]
    fn a_clock_that_differs_is_a_warning_and_from_five_minutes_on_wrong() {
        let line = |ahead: &[i64]| lines(&with(None, ahead))[0].clone();
        assert!(line(&[5]).starts_with("ok "));
        assert!(
            line(&[60]).starts_with("warning wall clock: 60 seconds behind one other node"),
            "{}",
            line(&[60])
        );
        let found = line(&[-420, -421, 0]);
        assert!(found.starts_with("wrong wall clock: 7 minutes ahead of 3 other nodes"), "{found}");
        assert!(line(&[0, 0, 90_000]).starts_with("ok "), "one wrong clock among others does not count");
    }

    #[test]
    fn what_was_made_in_the_future_shows_a_clock_that_is_behind() {
        let made_in_future = Some(("the directory of nordunet".to_owned(), 86_400 * 30));
        let found = lines(&ClockFacts { made_in_future, ..ClockFacts::default() });
        assert!(
            found[0]
                .starts_with("wrong wall clock: the directory of nordunet was made 30 days in the future")
        );
    }

    #[test]
    fn a_clock_that_nobody_sets_is_a_warning() {
        assert!(lines(&with(Some(false), &[]))[1].starts_with("warning synchronization: no NTP client"));
        assert!(lines(&with(None, &[]))[1].starts_with("warning synchronization: it cannot be told"));
    }
}
