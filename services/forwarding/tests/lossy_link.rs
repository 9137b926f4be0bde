//! A core feeds another one over a link with loss, delay and reordering, in simulated time: lost packets are
//! retransmitted in time.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use common::{Encoder, Published, Sim};
use systir_forwarding::{SubscriptionId, TrackId};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

const PEER: u32 = 1;
/// A receiver plays audio this long after it was published, plus the link's delay.
const JITTER_BUFFER: Duration = Duration::from_millis(200);
const RUN_MS: u64 = 60_000;

/// Conditions in each direction of the link.
#[derive(Debug, Clone, Copy)]
struct LinkConditions {
    /// Lost packets in a thousand.
    loss: u64,
    delay_ms: u64,
    /// Each packet is delayed by up to this much more, so that some overtake others.
    jitter_ms: u64,
}

/// A pseudorandom generator (xorshift): one seed gives one run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

enum InFlight {
    Packet { flow: u32, seq: u64 },
    Nack { flow: u32, seqs: Vec<u16> },
}

struct Stream {
    home_track: TrackId,
    remote_track: TrackId,
    published: HashMap<u64, (u64, Published)>,
    arrived: HashMap<u64, u64>,
    sub: SubscriptionId,
}

struct Link {
    home: Sim,
    remote: Sim,
    start: Instant,
    conditions: LinkConditions,
    random: Random,
    in_flight: BTreeMap<(u64, u64), InFlight>,
    count: u64,
    streams: BTreeMap<u32, Stream>,
    link_packets: u64,
}

impl Link {
    fn new(conditions: LinkConditions, seed: u64) -> Self {
        let (home, remote) = (Sim::new(1), Sim::new(2));
        let start = home.now;
        let (random, in_flight) = (Random(seed), BTreeMap::new());
        let mut link = Self {
            home,
            remote,
            start,
            conditions,
            random,
            in_flight,
            count: 0,
            streams: BTreeMap::new(),
            link_packets: 0,
        };
        link.remote.now = start;
        link.stream(1, Kind::Audio, Codec::Opus);
        link.stream(2, Kind::Video, Codec::Vp8);
        link
    }

    fn stream(&mut self, flow: u32, kind: Kind, codec: Codec) {
        let home_track = self.home.core.add_track(1, kind, codec, LayerSet(1));
        self.home.core.feed(home_track, Layer(0), PEER, flow);
        let remote_track = self.remote.core.add_track(1, kind, codec, LayerSet(1));
        let sub = self.remote.subscriber(remote_track, 0);
        let (published, arrived) = (HashMap::new(), HashMap::new());
        self.streams.insert(flow, Stream { home_track, remote_track, published, arrived, sub });
    }

    fn publish(&mut self, ms: u64, flow: u32, published: Published) {
        let stream = self.streams.get_mut(&flow).unwrap();
        stream.published.insert(published.seq, (ms, published.clone()));
        self.home.put(stream.home_track, &published);
    }

    fn send(&mut self, ms: u64, what: InFlight) {
        if self.random.below(1000) < self.conditions.loss {
            return;
        }
        let at = ms + self.conditions.delay_ms + self.random.below(self.conditions.jitter_ms + 1);
        self.count += 1;
        self.in_flight.insert((at, self.count), what);
    }

    /// One millisecond.
    fn step(&mut self, ms: u64) {
        let now = self.start + Duration::from_millis(ms);
        (self.home.now, self.remote.now) = (now, now);
        while let Some(entry) = self.in_flight.first_entry().filter(|entry| entry.key().0 <= ms) {
            match entry.remove() {
                InFlight::Packet { flow, seq } => {
                    let stream = self.streams.get_mut(&flow).unwrap();
                    stream.arrived.entry(seq).or_insert(ms);
                    let (_, published) = stream.published.get(&seq).unwrap();
                    self.remote.put(stream.remote_track, published);
                }
                InFlight::Nack { flow, seqs } => {
                    self.home.core.feed_nack(now, PEER, flow, seqs.into_iter(), &mut self.home.log);
                }
            }
        }
        for sim in [&mut self.home, &mut self.remote] {
            if sim.core.poll_timeout().is_some_and(|at| at <= now) {
                sim.core.handle_timeout(now, &mut sim.log);
            }
        }
        for (_, flow, seq, _) in std::mem::take(&mut self.home.log.fed) {
            self.link_packets += 1;
            self.send(ms, InFlight::Packet { flow, seq });
        }
        for (track, _, seqs) in std::mem::take(&mut self.remote.log.lost) {
            let flow = *self.streams.iter().find(|(_, stream)| stream.remote_track == track).unwrap().0;
            self.send(ms, InFlight::Nack { flow, seqs });
        }
        self.home.log.lost.clear();
    }

    fn run(&mut self) {
        let mut encoder = Encoder::new(0, 1000, 1, 1);
        for ms in 0..RUN_MS {
            if ms % 20 == 0 {
                let seq = ms / 20 + 1;
                let timestamp = (seq * 960) as u32;
                let (layer, codec, payload) = (Layer(0), Codec::Opus, vec![7; 40]);
                self.publish(ms, 1, Published { layer, codec, seq, timestamp, marker: false, payload });
            }
            if ms % 40 == 7 {
                for published in encoder.frame(ms < 40, 4) {
                    self.publish(ms, 2, published);
                }
            }
            self.step(ms);
        }
        for ms in RUN_MS..RUN_MS + 2000 {
            self.step(ms);
        }
    }

    /// Of a stream: how many packets were published, never arrived, and arrived later than `limit` after the
    /// link's delay.
    fn outcome(&self, flow: u32, limit: Duration) -> (usize, usize, usize) {
        let stream = &self.streams[&flow];
        let late = |(seq, at): (&u64, &u64)| {
            let least = self.conditions.delay_ms;
            at - stream.published[seq].0 - least > limit.as_millis() as u64
        };
        // A loss at the very end is not detected, because no packet follows.
        let end = RUN_MS - 100;
        let published: Vec<_> =
            stream.published.iter().filter(|(_, (ms, _))| *ms < end).map(|(seq, _)| seq).collect();
        let never = published.iter().filter(|seq| !stream.arrived.contains_key(seq)).count();
        (published.len(), never, stream.arrived.iter().filter(|arrival| late(*arrival)).count())
    }
}

const CONDITIONS: [(u64, u64); 6] = [(10, 0), (50, 0), (10, 20), (50, 20), (10, 60), (50, 60)];

#[test]
fn lost_packets_are_retransmitted_before_they_are_played() {
    for (loss, delay_ms) in CONDITIONS {
        let mut link = Link::new(LinkConditions { loss, delay_ms, jitter_ms: 0 }, 42 + loss + delay_ms);
        link.run();
        let (published, never, late) = link.outcome(1, JITTER_BUFFER);
        println!(
            "loss {loss}/1000, {delay_ms} ms: audio {published} published, {never} never arrived, {late} late"
        );
        assert!((never + late) * 1000 <= published * 3, "{never} + {late} of {published}");
        let (published, never, late) = link.outcome(2, Duration::from_millis(700));
        println!(
            "loss {loss}/1000, {delay_ms} ms: video {published} published, {never} never arrived, {late} late"
        );
        assert_eq!((never, late), (0, 0), "video was lost or late");
        let sent = link.remote.log.of(link.streams[&2].sub).len();
        assert_eq!(sent, link.streams[&2].arrived.len(), "not each packet reached the subscriber once");
    }
}

#[test]
fn reordered_packets_are_not_requested() {
    let mut link = Link::new(LinkConditions { loss: 0, delay_ms: 20, jitter_ms: 9 }, 7);
    link.run();
    let published: usize = link.streams.values().map(|stream| stream.published.len()).sum();
    assert_eq!(link.link_packets as usize, published, "not each packet crossed the link once");
    assert_eq!(link.outcome(2, Duration::from_millis(20)), (RUN_MS as usize / 40 * 4 - 8, 0, 0));
}

#[test]
fn retransmissions_do_not_flood_a_link_with_a_long_delay() {
    let mut link = Link::new(LinkConditions { loss: 50, delay_ms: 100, jitter_ms: 0 }, 11);
    link.run();
    let published: usize = link.streams.values().map(|stream| stream.published.len()).sum();
    let share = link.link_packets as f64 / published as f64;
    println!("{share:.3} packets crossed the link for each published one");
    // A lost video packet crosses it once more, a lost audio packet up to five times.
    assert!(share < 1.12, "{share}");
    assert_eq!(link.outcome(2, Duration::from_secs(1)).1, 0);
}
