//! Members of a meeting who publish, and what they receive of each other while a test acts on the cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, token};
use crate::scripted::{ClientEvent, Response, ScriptedClient, ScriptedCodec};

/// How often received packets are counted.
const SAMPLE: Duration = Duration::from_millis(100);

/// A published track.
#[derive(Debug)]
struct MemberTrack {
    sid: String,
    codec: ScriptedCodec,
}

/// A participant that publishes its microphone, and perhaps its camera.
#[derive(Debug)]
pub struct Member {
    /// Its identity.
    pub identity: String,
    /// Its client.
    pub client: ScriptedClient,
    tracks: Vec<MemberTrack>,
}

impl Member {
    /// Joins through a gateway and publishes these tracks.
    ///
    /// # Errors
    /// When the join is refused, or fails.
    pub async fn join(
        cluster: &Cluster,
        gateway: &str,
        room: &str,
        identity: &str,
        codecs: &[ScriptedCodec],
    ) -> Result<Self> {
        let token = token(room, identity)?;
        let client = ScriptedClient::join_and_connect(&cluster.url(gateway), &token, "").await?;
        Self::publishing(client, identity, codecs).await
    }

    /// Publishes these tracks with a client that has joined.
    ///
    /// # Errors
    /// When that fails.
    pub async fn publishing(
        mut client: ScriptedClient,
        identity: &str,
        codecs: &[ScriptedCodec],
    ) -> Result<Self> {
        let mut tracks = Vec::new();
        for codec in codecs {
            let sid = client.publish(codec.name(), *codec, &[]).await?.sid;
            tracks.push(MemberTrack { sid, codec: *codec });
        }
        Ok(Self { identity: identity.to_owned(), client, tracks })
    }

    /// The sids of its tracks, `TR_...`.
    pub fn track_sids(&self) -> impl Iterator<Item = &str> {
        self.tracks.iter().map(|track| track.sid.as_str())
    }

    /// Waits until this member receives all tracks of the other one.
    ///
    /// # Errors
    /// When it does not.
    pub async fn wait_until_hears(&self, other: &Self) -> Result<()> {
        for track in &other.tracks {
            let what = format!("{} receives {} of {}", self.identity, track.codec.name(), other.identity);
            self.client.wait_for_packets(&what, &track.sid, |packets| packets.len() > 5).await?;
        }
        Ok(())
    }

    /// Waits until this member is told that another one left.
    ///
    /// # Errors
    /// When it is not told.
    pub async fn wait_until_gone(&mut self, identity: &str) -> Result<()> {
        self.client
            .wait_for_response(&format!("{identity} left"), |response| match response {
                Response::Update(update) => update.participants.iter().find_map(|one| {
                    let left = one.state() == livekit_protocol::participant_info::State::Disconnected;
                    (one.identity == identity && left).then_some(())
                }),
                _ => None,
            })
            .await
    }

    /// Was this member told to leave, or has its signalling ended?
    #[must_use]
    pub fn was_interrupted(&mut self) -> bool {
        self.client.has_seen(|one| match one {
            ClientEvent::Closed => Some(()),
            ClientEvent::Response(response) => matches!(**response, Response::Leave(_)).then_some(()),
            _ => None,
        })
    }
}

/// Waits until all receive all tracks of each other.
///
/// # Errors
/// When one does not.
pub async fn wait_until_all_hear(members: &[Member]) -> Result<()> {
    for listener in members {
        for other in members.iter().filter(|other| other.identity != listener.identity) {
            listener.wait_until_hears(other).await?;
        }
    }
    Ok(())
}

/// What one member received of one track.
#[derive(Debug)]
struct Reception {
    packets: u64,
    expected: f64,
    last: Instant,
    longest: Duration,
}

/// What members received of each other.
#[derive(Debug, Default)]
pub struct Receptions(BTreeMap<String, Reception>);

impl Receptions {
    /// Counts, until it is dropped, what the members receive of each other.
    pub async fn count(&mut self, members: &[Member]) {
        for member in members {
            member.client.clear_packets();
        }
        let start = Instant::now();
        loop {
            sleep(SAMPLE).await;
            for listener in members {
                let received = listener.client.take_packets();
                for other in members.iter().filter(|other| other.identity != listener.identity) {
                    for track in &other.tracks {
                        let packets = received.get(&track.sid).map_or(0, Vec::len);
                        let what =
                            format!("{} of {} at {}", track.codec.name(), other.identity, listener.identity);
                        self.add(what, packets, track.codec, start);
                    }
                }
            }
        }
    }

    fn add(&mut self, what: String, packets: usize, codec: ScriptedCodec, start: Instant) {
        let now = Instant::now();
        let none = || Reception { packets: 0, expected: 0.0, last: start, longest: Duration::ZERO };
        let reception = self.0.entry(what).or_insert_with(none);
        reception.packets += packets as u64;
        // A client that was late sends what is due: the number depends on the time alone.
        reception.expected = now.duration_since(start).as_secs_f64() / codec.interval().as_secs_f64();
        reception.longest = reception.longest.max(now.duration_since(reception.last));
        if packets > 0 {
            reception.last = now;
        }
    }

    fn share(reception: &Reception) -> f64 {
        if reception.expected < 1.0 { 1.0 } else { reception.packets as f64 / reception.expected }
    }

    /// The smallest share of a track's packets that a member received, and which one it was.
    ///
    /// # Errors
    /// When nothing was counted.
    pub fn worst(&self) -> Result<(f64, &str)> {
        let shares = self.0.iter().map(|(what, reception)| (Self::share(reception), what.as_str()));
        shares.min_by(|one, other| one.0.total_cmp(&other.0)).context("nothing was counted")
    }
}

impl fmt::Display for Receptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packets: u64 = self.0.values().map(|reception| reception.packets).sum();
        let expected: f64 = self.0.values().map(|reception| reception.expected).sum();
        write!(f, "{packets} of {expected:.0} packets")?;
        if let Ok((share, what)) = self.worst() {
            write!(f, "; least {:.2} % ({what})", 100.0 * share)?;
        }
        if let Some((what, reception)) = self.0.iter().max_by_key(|(_, reception)| reception.longest) {
            write!(f, "; no packet for at most {} ms ({what})", reception.longest.as_millis())?;
        }
        Ok(())
    }
}
