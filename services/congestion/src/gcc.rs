//! Google congestion control, as the crate `goog_cc` ports it from libwebrtc, behind types of our own.
//!
//! What is not used of it, and why:
//! - periodic probing while the application limits its rate: it compares our time with the real clock. Whether
//!   the rate is limited by the application rests on our time alone and is used;
//! - the congestion window: libwebrtc applies it to the encoder; silence lowers the estimate elsewhere.

use goog_cc::experiments::FieldTrials;
use goog_cc::network_control::{NetworkControllerConfig, NetworkControllerInterface};
use goog_cc::transport::{
    NetworkAvailability, NetworkControlUpdate, PacedPacketInfo, PacketResult, ProcessInterval, SentPacket,
    StreamsConfig, TargetRateConstraints, TransportPacketsFeedback,
};
use goog_cc::units::{DataRate, DataSize, TimeDelta, Timestamp};
use goog_cc::{GoogCcConfig, GoogCcNetworkController};

use crate::limits::BitrateLimits;

/// Microseconds since a fixed time before the connection began.
pub(crate) type Micros = u64;

/// The window over which the throughput is measured. libwebrtc's is 500 packets; this crate passes over all
/// of them for each packet, and keeps about 130 bytes of each.
const MAX_WINDOW: usize = 80;
const WINDOW: TimeDelta = TimeDelta::from_millis(500);
/// On congestion the estimate falls to this part of the throughput (libwebrtc: 0.85). A server's probes
/// congest the path more often than its media, and then the throughput is below the capacity.
const BACKOFF: f64 = 0.9;
/// libwebrtc probes for 15 ms with packets of full size. Ours are smaller, and what is shorter than jitter
/// measures nothing.
const PROBE_DURATION: TimeDelta = TimeDelta::from_millis(40);
/// The application counts as limited, so that probes are allowed, while it sends less than this part of the estimate
/// (libwebrtc: 0.65). The estimate grows to 1.5 times the throughput without a probe, and a server cannot send at any
/// rate: between two layers it would stay there for good.
const LIMITED_BELOW: f64 = 0.9;
/// Losses that wait for a received packet.
const MAX_LOSSES: usize = 1024;

/// The probes with which an estimator begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstProbes {
    /// At three and six times the estimate.
    Usual,
    /// Only the lower one: the path is thought to carry little more than audio, which would wait behind the other.
    Cautious,
    /// They are asked for and dropped: what the path carries was just measured.
    Later,
}

/// A probe that the estimator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) id: i32,
    /// Bits per second.
    pub(crate) rate: u64,
    pub(crate) packets: usize,
    pub(crate) bytes: usize,
}

/// The estimator of one connection.
pub(crate) struct Gcc {
    controller: GoogCcNetworkController,
    /// Bits per second.
    target: u64,
    clusters: Vec<Cluster>,
    /// The estimator accepts losses only together with a received packet.
    losses: Vec<PacketResult>,
    odd: bool,
    /// Its arithmetic panics when time goes back.
    latest: Micros,
}

impl std::fmt::Debug for Gcc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gcc").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Gcc {
    /// An estimator that begins with `limits.start` and does not probe yet.
    pub(crate) fn new(now: Micros, limits: &BitrateLimits, probes: FirstProbes) -> Self {
        let mut trials = FieldTrials::default();
        if probes != FirstProbes::Usual {
            trials.probing_configuration.p2 = 0.0;
        }
        trials.robust_throughput_estimator_settings.max_window_packets = MAX_WINDOW;
        trials.robust_throughput_estimator_settings.window_duration = WINDOW;
        trials.bwe_back_off_factor.backoff_factor = BACKOFF;
        trials.congestion_window.queue_size_ms = 0;
        trials.alr_detector_parameters.bandwidth_usage_ratio = LIMITED_BELOW;
        trials.probing_configuration.min_probe_duration = PROBE_DURATION;
        // One probe at what is useful, none at twice that.
        trials.probing_configuration.alloc_p2 = 0.0;
        let config = NetworkControllerConfig {
            field_trials: trials,
            constraints: TargetRateConstraints {
                at_time: time(now),
                min_data_rate: Some(rate(limits.min)),
                max_data_rate: Some(rate(limits.max)),
                starting_rate: Some(rate(limits.start)),
            },
            ..NetworkControllerConfig::default()
        };
        let mut gcc = Self {
            controller: GoogCcNetworkController::new(config, GoogCcConfig { feedback_only: true }),
            target: limits.start,
            clusters: Vec::new(),
            losses: Vec::new(),
            odd: false,
            latest: now,
        };
        // The first call applies the configuration.
        gcc.process(now);
        gcc
    }

    /// Bits per second.
    pub(crate) fn target(&self) -> u64 {
        self.target
    }

    /// Takes the probes that were asked for.
    pub(crate) fn clusters(&mut self) -> impl Iterator<Item = Cluster> + '_ {
        self.clusters.drain(..)
    }

    /// Begins with exponential probing, at most up to twice `useful`.
    pub(crate) fn start_probing(&mut self, now: Micros, useful: u64) {
        self.set_useful(now, useful);
        let at_time = self.clock(now);
        let update =
            self.controller.on_network_availability(NetworkAvailability { at_time, network_available: true });
        self.apply(update);
    }

    /// Sets what could be used at most, in bits per second. If that changes while the application limits its
    /// rate and no probe is under way, the estimator probes for it: at most at twice the estimate, then
    /// further if that succeeds.
    pub(crate) fn set_useful(&mut self, now: Micros, useful: u64) {
        let at_time = self.clock(now);
        let update = self.controller.on_streams_config(StreamsConfig {
            at_time,
            max_total_allocated_bitrate: Some(rate(useful)),
            ..StreamsConfig::default()
        });
        self.apply(update);
    }

    /// Is to be called every 25 to 200 ms.
    pub(crate) fn process(&mut self, now: Micros) {
        let at_time = self.clock(now);
        let update = self.controller.on_process_interval(ProcessInterval { at_time, pacer_queue: None });
        self.apply(update);
    }

    pub(crate) fn sent(&mut self, packet: SentPacket) {
        self.controller.on_sent_packet(packet);
    }

    /// Packets that were reported for the first time, and losses that turned out to be late arrivals.
    pub(crate) fn feedback(&mut self, now: Micros, mut results: Vec<PacketResult>) {
        if !results.iter().any(PacketResult::is_received) {
            results.truncate(MAX_LOSSES.saturating_sub(self.losses.len()));
            self.losses.append(&mut results);
            return;
        }
        if !self.losses.is_empty() {
            results.splice(0..0, std::mem::take(&mut self.losses));
        }
        // Whether it may probe is decided anew only when something changed. The round-trip time does nearly
        // always; one microsecond more or less makes it certain.
        self.odd = !self.odd;
        let now = (now + u64::from(self.odd)).max(self.latest + 1);
        self.latest = now;
        let update = self.controller.on_transport_packets_feedback(TransportPacketsFeedback {
            feedback_time: time(now),
            data_in_flight: DataSize::zero(),
            packet_feedbacks: results,
            sendless_arrival_times: Vec::new(),
        });
        self.apply(update);
    }

    fn clock(&mut self, now: Micros) -> Timestamp {
        self.latest = self.latest.max(now);
        time(self.latest)
    }

    fn apply(&mut self, update: NetworkControlUpdate) {
        if let Some(target) = update.target_rate {
            self.target = u64::try_from(target.target_rate.bps()).unwrap_or(0);
        }
        self.clusters.extend(update.probe_cluster_configs.iter().map(|config| {
            let rate = u64::try_from(config.target_data_rate.bps()).unwrap_or(0);
            let duration = u64::try_from(config.target_duration.us()).unwrap_or(0);
            Cluster {
                id: config.id,
                rate,
                packets: usize::try_from(config.target_probe_count).unwrap_or(0),
                bytes: (rate.saturating_mul(duration) / 8_000_000) as usize,
            }
        }));
    }
}

/// A packet as the estimator takes it. `probe`: its cluster.
pub(crate) fn sent_packet(number: u64, at: Micros, size: u16, probe: Option<Cluster>) -> SentPacket {
    SentPacket {
        send_time: time(at),
        // Its arithmetic divides by sizes.
        size: DataSize::from_bytes(i64::from(size.max(1))),
        sequence_number: signed(number),
        pacing_info: probe.map_or_else(PacedPacketInfo::default, |cluster| {
            PacedPacketInfo::new(cluster.id, cluster.packets.max(2) as i64, cluster.bytes.max(2) as i64)
        }),
        ..SentPacket::default()
    }
}

/// What feedback says about a packet: when it arrived, or that it did not.
pub(crate) fn packet_result(packet: SentPacket, arrival: Option<Micros>) -> PacketResult {
    PacketResult {
        sent_packet: packet,
        receive_time: arrival.map_or_else(Timestamp::plus_infinity, time),
        ..PacketResult::default()
    }
}

fn time(at: Micros) -> Timestamp {
    Timestamp::from_micros(signed(at))
}

fn rate(bits_per_second: u64) -> DataRate {
    DataRate::from_bits_per_sec(signed(bits_per_second))
}

/// The estimator's arithmetic multiplies rates with microseconds in 64 bits; no rate or time comes near this.
fn signed(value: u64) -> i64 {
    value.min(1 << 50) as i64
}
