//! A core that feeds another one over a link that loses, delays and shuffles, in simulated time:
//! what is lost is asked for again in time.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use common::{Encoder, Made, Sim};
use systir_forwarding::{SubscriptionId, TrackId};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

const PEER: u32 = 1;
/// Sound is played so long after it was made, and after the shortest way that it can take.
const BUFFER: Duration = Duration::from_millis(200);
const LENGTH: u64 = 60_000;

/// One direction.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Packets in a thousand that are lost.
    loss: u64,
    delay_ms: u64,
    /// Each packet takes up to so much longer, so that some overtake others.
    shuffle_ms: u64,
}

/// A small generator: the same run for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

enum Passing {
    Packet { flow: u32, seq: u64 },
    Nack { flow: u32, seqs: Vec<u16> },
}

struct Stream {
    here: TrackId,
    there: TrackId,
    made: HashMap<u64, (u64, Made)>,
    arrived: HashMap<u64, u64>,
    sub: SubscriptionId,
}

struct Link {
    home: Sim,
    far: Sim,
    start: Instant,
    way: Way,
    dice: Dice,
    passing: BTreeMap<(u64, u64), Passing>,
    count: u64,
    streams: BTreeMap<u32, Stream>,
    crossed: u64,
}

impl Link {
    fn new(way: Way, seed: u64) -> Self {
        let (home, far) = (Sim::new(1), Sim::new(2));
        let start = home.now;
        let (dice, passing) = (Dice(seed), BTreeMap::new());
        let mut link =
            Self { home, far, start, way, dice, passing, count: 0, streams: BTreeMap::new(), crossed: 0 };
        link.far.now = start;
        link.stream(1, Kind::Audio, Codec::Opus);
        link.stream(2, Kind::Video, Codec::Vp8);
        link
    }

    fn stream(&mut self, flow: u32, kind: Kind, codec: Codec) {
        let here = self.home.core.add_track(1, kind, codec, LayerSet(1));
        self.home.core.feed(here, Layer(0), PEER, flow);
        let there = self.far.core.add_track(1, kind, codec, LayerSet(1));
        let sub = self.far.subscriber(there, 0);
        let (made, arrived) = (HashMap::new(), HashMap::new());
        self.streams.insert(flow, Stream { here, there, made, arrived, sub });
    }

    fn publish(&mut self, ms: u64, flow: u32, made: Made) {
        let stream = self.streams.get_mut(&flow).unwrap();
        stream.made.insert(made.seq, (ms, made.clone()));
        self.home.put(stream.here, &made);
    }

    fn send(&mut self, ms: u64, what: Passing) {
        if self.dice.below(1000) < self.way.loss {
            return;
        }
        let at = ms + self.way.delay_ms + self.dice.below(self.way.shuffle_ms + 1);
        self.count += 1;
        self.passing.insert((at, self.count), what);
    }

    /// One millisecond.
    fn step(&mut self, ms: u64) {
        let now = self.start + Duration::from_millis(ms);
        (self.home.now, self.far.now) = (now, now);
        while let Some(entry) = self.passing.first_entry().filter(|entry| entry.key().0 <= ms) {
            match entry.remove() {
                Passing::Packet { flow, seq } => {
                    let stream = self.streams.get_mut(&flow).unwrap();
                    stream.arrived.entry(seq).or_insert(ms);
                    let (_, made) = stream.made.get(&seq).unwrap();
                    self.far.put(stream.there, made);
                }
                Passing::Nack { flow, seqs } => {
                    self.home.core.feed_nack(now, PEER, flow, seqs.into_iter(), &mut self.home.log);
                }
            }
        }
        for sim in [&mut self.home, &mut self.far] {
            if sim.core.poll_timeout().is_some_and(|at| at <= now) {
                sim.core.handle_timeout(now, &mut sim.log);
            }
        }
        for (_, flow, seq, _) in std::mem::take(&mut self.home.log.fed) {
            self.crossed += 1;
            self.send(ms, Passing::Packet { flow, seq });
        }
        for (track, _, seqs) in std::mem::take(&mut self.far.log.lost) {
            let flow = *self.streams.iter().find(|(_, stream)| stream.there == track).unwrap().0;
            self.send(ms, Passing::Nack { flow, seqs });
        }
        self.home.log.lost.clear();
    }

    fn run(&mut self) {
        let mut encoder = Encoder::new(0, 1000, 1, 1);
        for ms in 0..LENGTH {
            if ms % 20 == 0 {
                let seq = ms / 20 + 1;
                let timestamp = (seq * 960) as u32;
                let (layer, codec, payload) = (Layer(0), Codec::Opus, vec![7; 40]);
                self.publish(ms, 1, Made { layer, codec, seq, timestamp, marker: false, payload });
            }
            if ms % 40 == 7 {
                for made in encoder.frame(ms < 40, 4) {
                    self.publish(ms, 2, made);
                }
            }
            self.step(ms);
        }
        for ms in LENGTH..LENGTH + 2000 {
            self.step(ms);
        }
    }

    /// Of a stream: how many packets were made, never came, and came too late for `limit`.
    fn outcome(&self, flow: u32, limit: Duration) -> (usize, usize, usize) {
        let stream = &self.streams[&flow];
        let late = |(seq, at): (&u64, &u64)| {
            let least = self.way.delay_ms;
            at - stream.made[seq].0 - least > limit.as_millis() as u64
        };
        // What is lost at the very end is noticed by nothing that follows.
        let end = LENGTH - 100;
        let made: Vec<_> = stream.made.iter().filter(|(_, (ms, _))| *ms < end).map(|(seq, _)| seq).collect();
        let never = made.iter().filter(|seq| !stream.arrived.contains_key(seq)).count();
        (made.len(), never, stream.arrived.iter().filter(|arrival| late(*arrival)).count())
    }
}

const WAYS: [(u64, u64); 6] = [(10, 0), (50, 0), (10, 20), (50, 20), (10, 60), (50, 60)];

#[test]
fn what_a_link_loses_comes_again_before_it_is_played() {
    for (loss, delay_ms) in WAYS {
        let mut link = Link::new(Way { loss, delay_ms, shuffle_ms: 0 }, 42 + loss + delay_ms);
        link.run();
        let (made, never, late) = link.outcome(1, BUFFER);
        println!("loss {loss}/1000, {delay_ms} ms: sound {made} made, {never} never came, {late} late");
        // Once in a thousand at most is half of what a listener notices.
        assert!((never + late) * 1000 <= made * 3, "{never} + {late} of {made}");
        let (made, never, late) = link.outcome(2, Duration::from_millis(700));
        println!("loss {loss}/1000, {delay_ms} ms: pictures {made} made, {never} never came, {late} late");
        assert_eq!((never, late), (0, 0), "no picture is given up, none stands still for long");
        let sent = link.far.log.of(link.streams[&2].sub).len();
        assert_eq!(sent, link.streams[&2].arrived.len(), "and each reaches the subscriber once");
    }
}

#[test]
fn packets_that_overtake_each_other_are_not_asked_for() {
    let mut link = Link::new(Way { loss: 0, delay_ms: 20, shuffle_ms: 9 }, 7);
    link.run();
    let made: usize = link.streams.values().map(|stream| stream.made.len()).sum();
    assert_eq!(link.crossed as usize, made, "each crossed once");
    assert_eq!(link.outcome(2, Duration::from_millis(20)), (LENGTH as usize / 40 * 4 - 8, 0, 0));
}

#[test]
fn asking_again_does_not_flood_a_long_link() {
    let mut link = Link::new(Way { loss: 50, delay_ms: 100, shuffle_ms: 0 }, 11);
    link.run();
    let made: usize = link.streams.values().map(|stream| stream.made.len()).sum();
    let share = link.crossed as f64 / made as f64;
    println!("{share:.3} packets cross for each that was made");
    assert!(share < 1.25, "{share}");
    assert_eq!(link.outcome(2, Duration::from_secs(1)).1, 0);
}
