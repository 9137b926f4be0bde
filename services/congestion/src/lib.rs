//! Congestion control of one connection to one subscriber, on the sender's side: it estimates the bit rate
//! that the path carries and says when to probe for more. The estimator is Google congestion control as
//! libwebrtc has it. It sends nothing, has no clock (time is an argument), and does not choose layers.
//!
//! - [`CongestionControl`] numbers packets, takes transport-wide feedback, and gives the estimate and the
//!   probes.
//! - [`Pacer`] says when the next packet may leave.
//!
//! # Example
//!
//! ```
//! use std::time::{Duration, Instant};
//!
//! use systir_congestion::{BitrateLimits, CongestionControl, Pacer, SentKind};
//! use systir_rtp::rtcp::{RtcpPacket, parse};
//! use systir_rtp::twcc::{Feedback, TwccRecorder};
//!
//! let start = Instant::now();
//! let limits = BitrateLimits { min: 50_000, start: 300_000, max: 5_000_000 };
//! let mut control = CongestionControl::new(start, limits);
//! let mut pacer = Pacer::new(start, control.pacing_rate());
//! let mut receiver = TwccRecorder::new(start);
//! // Three layers are wanted, the lowest is sent.
//! control.set_demand(start, 2_350_000, 150_000, 0);
//! assert_eq!(control.estimate(), 300_000);
//!
//! for ms in (0..1000).step_by(20) {
//!     let now = start + Duration::from_millis(ms);
//!     // A frame of one packet.
//!     if pacer.may_send(now) {
//!         pacer.sent(now, 375);
//!         receiver.record(now, control.sent(now, 375, SentKind::Media), 1);
//!     }
//!     // Probes measure whether more fits. A program spreads their packets with a pacer.
//!     while let Some(probe) = control.poll_probe(now) {
//!         let size = probe.bytes.div_ceil(probe.packets);
//!         for packet in 0..probe.packets as u32 {
//!             let at = now + Duration::from_secs_f64(8.0 * size as f64 / probe.rate as f64) * packet;
//!             receiver.record(at, control.sent(at, size, SentKind::Probe(probe.id)), 1);
//!         }
//!     }
//!     let mut out = Vec::new();
//!     receiver.write(now, 1, &mut out);
//!     for packet in parse(&out) {
//!         if let RtcpPacket::TransportCc { fci } = packet
//!             && let Some(feedback) = Feedback::parse(fci)
//!         {
//!             control.feedback(now, &feedback);
//!         }
//!     }
//!     if control.poll_timeout().is_some_and(|due| due <= now) {
//!         control.handle_timeout(now);
//!     }
//!     pacer.set_rate(now, control.pacing_rate());
//! }
//! assert!(control.estimate() > 600_000, "{}", control.estimate());
//! ```

// Tests read the clock for a start time.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod arrival;
mod backlog;
mod bottleneck_queue;
mod control;
mod gcc;
mod history;
mod limits;
mod pacer;
mod probe;
mod probing;
mod reports;
mod silence;

pub use control::CongestionControl;
pub use limits::BitrateLimits;
pub use pacer::Pacer;
pub use probe::{Probe, ProbeId, SentKind};
