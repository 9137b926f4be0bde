//! Sealing and opening media allocates nothing.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use std::alloc::System;
use std::time::Duration;

use common::{Pair, Setup};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use str0m::{
    media::MediaKind,
    rtp::{ExtensionValues, RtpWrite},
};
use systir_transport::Transport;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const HEADER: [u8; 12] = [0x80, 111, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42];

/// Seals packets of two streams; those of the second are sent again once.
fn seal(transport: &mut Transport, out: &mut Vec<u8>, seqs: std::ops::Range<u16>) {
    for seq in seqs {
        for ssrc in [42, 43] {
            let write = |out: &mut Vec<u8>| {
                out.clear();
                out.extend_from_slice(&HEADER);
                out[2..4].copy_from_slice(&seq.to_be_bytes());
                out[11] = ssrc;
                out.resize(1200, 7);
            };
            write(out);
            if ssrc == 42 {
                transport.seal_rtp(out, 0).unwrap();
            } else {
                transport.seal_rtp_resendable(out, 0).unwrap();
                write(out);
                transport.reseal_rtp(out, 0).unwrap();
            }
        }
        out.clear();
        out.extend_from_slice(&[0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 77]);
        transport.seal_rtcp(out, 0).unwrap();
    }
}

/// It is the only test in this binary: other tests would allocate on their threads.
#[test]
fn sealing_and_opening_allocates_nothing() {
    let mut pair = Pair::connected(&Setup::default());
    let mut api = pair.rtc.direct_api();
    api.declare_media("aud".into(), MediaKind::Audio);
    api.declare_stream_tx(77.into(), None, "aud".into(), None);
    pair.keep_sealed = true;
    for seq in 0..400_u64 {
        let mut api = pair.rtc.direct_api();
        let stream = api.stream_tx(&77.into()).unwrap();
        let packet = RtpWrite::new(111.into(), seq.into(), (seq * 960) as u32, pair.now, vec![7; 100]);
        stream.write_rtp(packet.ext_vals(ExtensionValues::default()));
        pair.step(Duration::from_millis(20));
    }
    let mut received: Vec<_> = pair.sealed.drain(..).filter(|packet| packet[1] & 0x7F == 111).collect();
    let mut out = Vec::with_capacity(2000);
    // The first packet of a stream makes its state.
    seal(&mut pair.transport, &mut out, 0..10);
    pair.transport.open_rtp(&mut received[0]).unwrap();

    let region = Region::new(ALLOCATOR);
    seal(&mut pair.transport, &mut out, 10..1010);
    let mut opened = 0;
    for packet in &mut received[1..] {
        opened += usize::from(pair.transport.open_rtp(packet).is_ok());
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations, change.deallocations), (0, 0, 0));
    assert_eq!(opened, received.len() - 1);
    assert!(opened > 300, "{opened}");
}
