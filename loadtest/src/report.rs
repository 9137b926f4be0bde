//! The report of a load test.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::config::Config;
use crate::participant::Outcome;
use crate::playback::PlaybackStats;
use crate::stats::ages;

/// A reason, and how often it occurred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReasonCount {
    /// How often.
    pub count: usize,
    /// The server's message, or what failed.
    pub reason: String,
}

/// The report of a load test. Counters cover the measured time only.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// URL of the server.
    pub url: String,
    /// Name of the room.
    pub room: String,
    /// Participants that were to join.
    pub participants: usize,
    /// Participants among them that were to publish.
    pub publishers: usize,
    /// Participants that joined.
    pub joined: usize,
    /// Why the others were refused.
    pub refused: Vec<ReasonCount>,
    /// Time to join, from the request to a connected media transport, median, milliseconds.
    pub join_p50_ms: f64,
    /// 95th percentile.
    pub join_p95_ms: f64,
    /// Maximum.
    pub join_max_ms: f64,
    /// Length of the measured time, seconds.
    pub measured_s: f64,
    /// RTP packets sent by participants.
    pub packets_out: u64,
    /// RTP packets received by participants.
    pub packets_in: u64,
    /// Sent, kbit/s of RTP.
    pub out_kbps: f64,
    /// Received, kbit/s of RTP.
    pub in_kbps: f64,
    /// Packets of load participants that should have arrived: of each track, between two layer switches,
    /// all from the first to the last that arrived.
    pub packets_expected: u64,
    /// Packets among them that did not arrive.
    pub packets_lost: u64,
    /// Lost packets, percent of those expected.
    pub loss_percent: f64,
    /// Time from sending to arrival, median, milliseconds. Sender and receiver need the same clock.
    pub latency_p50_ms: f64,
    /// 99th percentile.
    pub latency_p99_ms: f64,
    /// Maximum.
    pub latency_max_ms: f64,
    /// Tracks published by others, summed over participants.
    pub tracks_expected: usize,
    /// Tracks among them of which a packet arrived.
    pub tracks_received: usize,
    /// Video frames that could be decoded: complete, and either key frames or following a decoded frame.
    pub video_frames: u64,
    /// Tracks with at least one decodable frame, summed over participants.
    pub video_tracks_received: usize,
    /// Longest time between two decodable frames of one track, milliseconds.
    pub freeze_max_ms: f64,
    /// Tracks that had no new frame for more than a second.
    pub tracks_frozen: usize,
    /// Audio packets that arrived too late for a jitter buffer of 200 ms, or never, percent.
    pub audio_missed_percent: f64,
    /// Longest run of such packets.
    pub audio_missed_run: u64,
    /// Rejoins after the server or the network ended a session.
    pub rejoined: usize,
    /// Why those sessions ended, and others that participants did not end themselves.
    pub interruptions: Vec<ReasonCount>,
    /// Time from the end of a session to the rejoin, median, milliseconds.
    pub rejoin_p50_ms: f64,
    /// 95th percentile.
    pub rejoin_p95_ms: f64,
    /// Participants by media node, as reported by the server.
    pub nodes: BTreeMap<String, usize>,
    /// Why participants that had joined were no longer connected at the end.
    pub ended: Vec<ReasonCount>,
    /// Datagrams that the local socket did not accept. Above 0, the load generator is the bottleneck.
    pub unsent: u64,
}

impl Report {
    pub(crate) fn new(
        config: &Config,
        joins: &[Duration],
        refused: Vec<String>,
        outcomes: &[Outcome],
        measured: Duration,
    ) -> Self {
        let mut age = ages();
        let (mut expected, mut arrived) = (0, 0);
        for outcome in outcomes {
            // Both histograms have the same bounds, so no value is out of range.
            let _ = age.add(&outcome.stats.age_us);
            let (e, a) = outcome.stats.completeness();
            expected += e;
            arrived += a;
        }
        let mut playback = PlaybackStats::default();
        outcomes.iter().for_each(|outcome| playback.add(outcome.playback));
        let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
        let seconds = measured.as_secs_f64().max(0.001);
        let kbps = |bytes: u64| bytes as f64 * 8.0 / 1_000.0 / seconds;
        let lost = expected.saturating_sub(arrived);
        let mut joins = joins.to_vec();
        joins.sort();
        let mut absences: Vec<_> = outcomes.iter().flat_map(|o| o.absences.iter().copied()).collect();
        absences.sort();
        let mut nodes = BTreeMap::<String, usize>::new();
        for outcome in outcomes.iter().filter(|o| !o.node.is_empty()) {
            *nodes.entry(outcome.node.clone()).or_default() += 1;
        }
        Self {
            url: config.url.clone(),
            room: config.room.clone(),
            participants: config.participants,
            publishers: config.publishers(),
            joined: joins.len(),
            refused: group(refused),
            join_p50_ms: percentile(&joins, 50),
            join_p95_ms: percentile(&joins, 95),
            join_max_ms: percentile(&joins, 100),
            measured_s: measured.as_secs_f64(),
            packets_out: sum(|o| o.stats.packets_out),
            packets_in: sum(|o| o.stats.packets_in),
            out_kbps: kbps(sum(|o| o.stats.bytes_out)),
            in_kbps: kbps(sum(|o| o.stats.bytes_in)),
            packets_expected: expected,
            packets_lost: lost,
            loss_percent: share(lost, expected),
            latency_p50_ms: quantile(&age, 0.5),
            latency_p99_ms: quantile(&age, 0.99),
            latency_max_ms: quantile(&age, 1.0),
            tracks_expected: outcomes.iter().map(|o| o.tracks_expected).sum(),
            tracks_received: outcomes.iter().map(|o| o.tracks_received).sum(),
            video_frames: playback.frames,
            video_tracks_received: playback.video_tracks_received,
            freeze_max_ms: playback.longest_freeze.as_secs_f64() * 1_000.0,
            tracks_frozen: playback.tracks_frozen,
            audio_missed_percent: share(playback.audio_missed, playback.audio_due),
            audio_missed_run: playback.longest_gap,
            rejoined: absences.len(),
            interruptions: group(outcomes.iter().flat_map(|o| o.interruptions.iter().cloned()).collect()),
            rejoin_p50_ms: percentile(&absences, 50),
            rejoin_p95_ms: percentile(&absences, 95),
            nodes,
            ended: group(outcomes.iter().filter_map(|o| o.ended.clone()).collect()),
            unsent: sum(|o| o.stats.unsent),
        }
    }

    /// The report as a table for a terminal.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header([self.room.as_str(), self.url.as_str()]);
        let mut row = |name: &str, value: String| {
            table.add_row([Cell::new(name), Cell::new(value).set_alignment(CellAlignment::Right)]);
        };
        row("joined", format!("{} of {}, {} publishing", self.joined, self.participants, self.publishers));
        for group in &self.refused {
            row("refused", format!("{} x {}", group.count, group.reason));
        }
        row(
            "join time p50 / p95 / max",
            format!("{:.0} / {:.0} / {:.0} ms", self.join_p50_ms, self.join_p95_ms, self.join_max_ms),
        );
        row("tracks received", format!("{} of {}", self.tracks_received, self.tracks_expected));
        let nodes: Vec<_> = self.nodes.iter().map(|(node, count)| format!("{node} {count}")).collect();
        if !nodes.is_empty() {
            row("participants by node", nodes.join(", "));
        }
        row("packets out / in", format!("{} / {}", self.packets_out, self.packets_in));
        row("bit rate out / in", format!("{} / {}", rate(self.out_kbps), rate(self.in_kbps)));
        row(
            "loss",
            format!("{:.3} % ({} of {})", self.loss_percent, self.packets_lost, self.packets_expected),
        );
        row(
            "latency p50 / p99 / max",
            format!(
                "{:.2} / {:.2} / {:.2} ms",
                self.latency_p50_ms, self.latency_p99_ms, self.latency_max_ms
            ),
        );
        if self.video_tracks_received > 0 {
            row(
                "video frames, longest freeze",
                format!("{}, {:.0} ms", self.video_frames, self.freeze_max_ms),
            );
        }
        row(
            "audio missed, longest gap",
            format!("{:.3} %, {} packets", self.audio_missed_percent, self.audio_missed_run),
        );
        row("measured", format!("{:.1} s", self.measured_s));
        if self.rejoined > 0 {
            row(
                "rejoined, after p50 / p95",
                format!("{}, {:.0} / {:.0} ms", self.rejoined, self.rejoin_p50_ms, self.rejoin_p95_ms),
            );
        }
        for group in &self.ended {
            row("ended", format!("{} x {}", group.count, group.reason));
        }
        if self.unsent > 0 {
            row("datagrams not accepted by the local socket", self.unsent.to_string());
        }
        table.to_string()
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn rate(kbps: f64) -> String {
    if kbps < 10_000.0 { format!("{kbps:.0} kbit/s") } else { format!("{:.1} Mbit/s", kbps / 1_000.0) }
}

fn group(reasons: Vec<String>) -> Vec<ReasonCount> {
    let mut groups = BTreeMap::<String, usize>::new();
    for reason in reasons {
        *groups.entry(reason).or_default() += 1;
    }
    groups.into_iter().map(|(reason, count)| ReasonCount { count, reason }).collect()
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
}

fn quantile(ages: &Histogram<u64>, quantile: f64) -> f64 {
    ages.value_at_quantile(quantile) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_use_sorted_times() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(
            (percentile(&times, 50), percentile(&times, 95), percentile(&times, 100)),
            (50.0, 95.0, 100.0)
        );
        assert_eq!((percentile(&times[..1], 50), percentile(&[], 50)), (1.0, 0.0));
    }

    #[test]
    fn refusals_are_grouped_by_reason() {
        let config = Config { participants: 3, ..Config::default() };
        let refused = vec!["full".into(), "full".into()];
        let report = Report::new(&config, &[Duration::from_millis(40)], refused, &[], Duration::ZERO);
        assert_eq!(report.refused, [ReasonCount { count: 2, reason: "full".into() }]);
        let table = report.table();
        assert!(table.contains("1 of 3") && table.contains("2 x full"), "{table}");
        assert_eq!(serde_json::to_value(&report).unwrap()["joined"], 1);
    }
}
