//! One synthetic participant: joins, publishes, subscribes, and rejoins after a session was lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use livekit_token::{AccessToken, VideoGrants};
use str0m::Rtc;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::Connector;

use crate::config::Config;
use crate::media::unix_us;
use crate::names;
use crate::peer::Peer;
use crate::playback::PlaybackStats;
use crate::publisher::Publisher;
use crate::session::{ServerLeave, Session};
use crate::signal::{JoinError, Signal};
use crate::stats::Stats;
use crate::track_counts::{TrackCounts, TrackTotals};

/// Time limit for signalling and media together.
const JOIN_LIMIT: Duration = Duration::from_secs(20);
/// How often progress is shown.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// Failed rejoins in a row after which a participant gives up.
const MAX_REJOINS: u32 = 12;

/// Phase of the load test, the same for all participants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Joining,
    Measuring,
    /// Counting has stopped; all participants are still connected.
    Counted,
    Leave,
}

/// A participant's reports to the runner: `Joined` or `Refused` once, then `Counted` once if it joined.
#[derive(Debug)]
pub(crate) enum Notice {
    Joined(Duration),
    Refused { identity: String, error: JoinError },
    Counted,
}

/// A participant's results.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) stats: Stats,
    pub(crate) tracks_expected: usize,
    pub(crate) tracks_received: usize,
    /// Of the session that was open when counting stopped.
    pub(crate) playback: PlaybackStats,
    /// Time between a lost session and the rejoin, for each rejoin.
    pub(crate) absences: Vec<Duration>,
    /// Why each session ended that the participant did not end itself.
    pub(crate) interruptions: Vec<String>,
    /// The participant's media node, as reported by the server.
    pub(crate) node: String,
    /// Why it was no longer connected at the end.
    pub(crate) ended: Option<String>,
}

pub(crate) struct Participant {
    pub(crate) config: Arc<Config>,
    pub(crate) base: String,
    pub(crate) tls: Option<Connector>,
    pub(crate) index: usize,
    pub(crate) publishes: bool,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) notices: mpsc::Sender<Notice>,
    pub(crate) outcome: Outcome,
    pub(crate) counted: bool,
    /// Of all participants.
    pub(crate) totals: Arc<TrackTotals>,
    /// This participant's part of the totals.
    pub(crate) shown: TrackCounts,
}

/// How a session ended.
enum Ended {
    /// The test is over.
    Done,
    NotJoined(JoinError),
    /// The connection was lost, or the server asked to rejoin.
    Lost(String),
    /// The server ended the session for good.
    Removed(String),
}

impl Participant {
    fn identity(&self) -> String {
        format!("{}-{}", self.config.identity_prefix, self.index)
    }

    /// Runs until the test is over, the server removes the participant, or rejoining fails.
    pub(crate) async fn run(mut self) -> Outcome {
        let mut joined = false;
        let mut lost_at = None;
        let mut failures = 0;
        loop {
            let ended = self.session(&mut joined, &mut lost_at).await;
            let why = match ended {
                Ended::Done => break,
                Ended::NotJoined(error) if !joined => {
                    let _ = self.notices.send(Notice::Refused { identity: self.identity(), error }).await;
                    return self.outcome;
                }
                Ended::NotJoined(error) => {
                    failures += 1;
                    error.to_string()
                }
                Ended::Lost(why) => {
                    failures = 0;
                    lost_at = Some(Instant::now());
                    self.outcome.interruptions.push(why.clone());
                    why
                }
                Ended::Removed(why) => {
                    self.outcome.ended = Some(why);
                    break;
                }
            };
            if self.config.no_rejoin || failures > MAX_REJOINS {
                self.outcome.ended = Some(why);
                break;
            }
            // Exponential backoff with full jitter: participants must not rejoin all at once.
            let pause = Duration::from_millis(300) * 2_u32.pow(failures.min(5));
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(rand::random::<f64>())) => {}
                () = counted(self.phase.clone()) => {
                    self.outcome.ended = Some(why);
                    break;
                }
            }
        }
        self.take_results(None).await;
        self.outcome
    }

    /// Adds what arrived since measuring began to the totals.
    fn show_tracks(&mut self, session: &Session) {
        let published = session.expected_tracks();
        let now = TrackCounts {
            expected: published.len(),
            received: self.outcome.stats.tracks_received(&published),
            video_received: session.playback.video_tracks_received(),
        };
        self.totals.update(std::mem::replace(&mut self.shown, now), now);
    }

    /// Takes the results, at the first call only.
    async fn take_results(&mut self, session: Option<&Session>) {
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        if let Some(session) = session {
            let expected = session.expected_tracks();
            self.outcome.tracks_received = self.outcome.stats.tracks_received(&expected);
            self.outcome.tracks_expected = expected.len();
            self.outcome.playback = session.playback.stats(Instant::now(), unix_us(), &expected);
            self.outcome.node = session.node.clone();
        }
        let _ = self.notices.send(Notice::Counted).await;
    }

    fn token(&self) -> Result<String, JoinError> {
        let identity = self.identity();
        let grants = VideoGrants {
            room_join: true,
            room: self.config.room.clone(),
            can_publish: Some(self.publishes),
            can_subscribe: Some(true),
            ..VideoGrants::default()
        };
        AccessToken::with_api_key(&self.config.api_key, &self.config.api_secret)
            .with_identity(&identity)
            .with_name(&names::name(&self.config.identity_prefix, self.index))
            .with_grants(grants)
            .to_jwt()
            .map_err(|error| JoinError::Protocol(format!("cannot sign a token: {error}")))
    }

    async fn session(&mut self, joined: &mut bool, lost_at: &mut Option<Instant>) -> Ended {
        let started = Instant::now();
        let opened = tokio::select! {
            opened = self.open() => opened,
            () = counted(self.phase.clone()) => return Ended::Done,
        };
        let mut session = match opened {
            Ok(session) => session,
            Err(error) => return Ended::NotJoined(error),
        };
        let mut connected = None;
        let mut show_tracks = tokio::time::interval(PROGRESS_INTERVAL);
        show_tracks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            if session.joining() {
                if started.elapsed() > JOIN_LIMIT {
                    break Ended::NotJoined(JoinError::TooSlow("media connection"));
                }
                if connected.is_none() && session.primary_connected() {
                    connected = Some(started.elapsed());
                }
                if session.ready() {
                    session.set_joined();
                    if std::mem::replace(joined, true) {
                        self.outcome.absences.extend(lost_at.take().map(|lost_at| lost_at.elapsed()));
                    } else {
                        let after = connected.unwrap_or_else(|| started.elapsed());
                        let _ = self.notices.send(Notice::Joined(after)).await;
                    }
                }
            }
            let due = session.due().min(if session.joining() { started + JOIN_LIMIT } else { session.due() });
            let step = tokio::select! {
                biased;
                changed = self.phase.changed() => {
                    let phase = if changed.is_ok() { *self.phase.borrow_and_update() } else { Phase::Leave };
                    match phase {
                        Phase::Joining => {}
                        Phase::Measuring => {
                            self.outcome.stats = Stats::new();
                            session.playback.reset_counters(Instant::now());
                        }
                        Phase::Counted => self.take_results(Some(&session)).await,
                        Phase::Leave => break Ended::Done,
                    }
                    Ok(())
                }
                _ = show_tracks.tick(), if *self.phase.borrow() == Phase::Measuring => {
                    self.show_tracks(&session);
                    Ok(())
                }
                message = session.signal.next() => match message {
                    Ok(message) => session.on_signal(message).await,
                    Err(why) => Err(anyhow!(why)),
                },
                readable = session.subscriber.readable() => readable.map_err(Into::into)
                    .and_then(|()| session.subscriber.receive()),
                readable = readable(session.publisher.as_mut()) => readable.map_err(Into::into)
                    .and_then(|()| session.publisher.as_mut().map_or(Ok(()), |p| p.peer.receive())),
                () = tokio::time::sleep_until(due.into()) => session.tick(&mut self.outcome.stats).await,
            };
            session.handle_events(&mut self.outcome.stats);
            let step = step.and_then(|()| session.alive());
            if let Err(error) = step {
                let error = session.leave_reason(error).await;
                let why = format!("{error:#}");
                let removed = error.downcast_ref::<ServerLeave>().is_some_and(|leave| !leave.may_rejoin);
                break match (session.joining(), removed) {
                    (true, true) => Ended::NotJoined(JoinError::Refused(why)),
                    (true, false) => Ended::NotJoined(JoinError::Ended(why)),
                    (false, true) => Ended::Removed(why),
                    (false, false) => Ended::Lost(why),
                };
            }
        };
        if matches!(ended, Ended::Done) {
            self.take_results(Some(&session)).await;
        }
        session.signal.leave().await;
        ended
    }

    async fn open(&self) -> Result<Session, JoinError> {
        let token = self.token()?;
        let (signal, join) = Signal::join(&self.base, &token, self.tls.clone()).await?;
        let local = signal.local_ip().ok_or_else(|| JoinError::Unreachable("no local address".into()))?;
        let now = Instant::now();
        let ended = |error: anyhow::Error| JoinError::Ended(format!("{error:#}"));
        let subscriber = Peer::open(Rtc::builder(), local, self.config.tcp, now).await.map_err(ended)?;
        let publisher = if self.publishes {
            let codecs = Rtc::builder().clear_codecs().enable_opus(true, false).enable_vp8(true);
            let peer = Peer::open(codecs, local, self.config.tcp, now).await.map_err(ended)?;
            Some(Publisher::new(peer, self.config.clone(), self.index))
        } else {
            None
        };
        let mut session = Session::new(signal, subscriber, publisher, join, now);
        session.add_tracks().await.map_err(ended)?;
        Ok(session)
    }
}

/// Waits until counting has stopped.
async fn counted(mut phase: watch::Receiver<Phase>) {
    // An error means that the runner has ended, and counting with it.
    let _ = phase.wait_for(|phase| *phase >= Phase::Counted).await;
}

async fn readable(publisher: Option<&mut Publisher>) -> std::io::Result<()> {
    match publisher {
        Some(publisher) => publisher.peer.readable().await,
        None => std::future::pending().await,
    }
}
