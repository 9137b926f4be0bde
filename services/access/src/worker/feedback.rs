//! RTCP: what clients and links say about packets, and what we tell publishers and subscribers
//! regularly.

use std::time::Instant;

use systir_media::SubscriptionId;
use systir_media::packet::SenderReport;
use systir_media::rtp::parse_link_packet;
use systir_transport::rtcp::{self, Rtcp};

use super::connection::Role;
use super::egress::RECEIVER_SSRC;
use super::engine::{Engine, REPORTS};
