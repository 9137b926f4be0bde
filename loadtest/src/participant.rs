//! One synthetic participant: joins, publishes, subscribes, comes back when asked to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use livekit_token::{AccessToken, VideoGrants};
use str0m::Rtc;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::Connector;

use crate::config::Config;
use crate::media::unix_us;
use crate::names;
use crate::peer::Peer;
use crate::playback::Experience;
use crate::publisher::Publisher;
use crate::session::{Left, Session};
use crate::signal::{JoinError, Signal};
use crate::stats::Stats;

/// How long signalling and media together may take.
const JOIN_LIMIT: Duration = Duration::from_secs(20);
/// Attempts to come back before giving up.
const REJOINS: u32 = 8;

/// What everyone does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Joining,
    Measuring,
    /// Nothing is counted any more, but everyone is still there.
    Over,
    Leave,
}

/// What the runner is told while it runs: once `Joined` or `Refused`, and once `Counted` by those
/// who joined.
#[derive(Debug)]
pub(crate) enum Note {
    Joined(Duration),
    Refused { identity: String, error: JoinError },
    Counted,
}

/// What the runner is told in the end.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) stats: Stats,
    pub(crate) tracks_expected: usize,
    pub(crate) tracks_heard: usize,
    /// What it saw and heard in its last session.
    pub(crate) experience: Experience,
    /// How long each absence was that ended with a new session.
    pub(crate) absences: Vec<Duration>,
    /// Why each session ended that it did not end itself.
    pub(crate) interruptions: Vec<String>,
    /// The node that carries its media, as far as the server says.
    pub(crate) node: String,
    /// Why it was not there in the end.
    pub(crate) ended: Option<String>,
}

pub(crate) struct Participant {
    pub(crate) config: Arc<Config>,
    pub(crate) base: String,
    pub(crate) tls: Option<Connector>,
    pub(crate) index: usize,
    pub(crate) publishes: bool,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) notes: mpsc::Sender<Note>,
    pub(crate) outcome: Outcome,
    pub(crate) counted: bool,
}

/// How a session ended.
enum Ended {
    /// The test is over.
    Done,
    NotJoined(JoinError),
    Lost(String),
    /// The server does not want it back.
    Dismissed(String),
}

impl Participant {
    fn identity(&self) -> String {
        format!("{}-{}", self.config.identity_prefix, self.index)
    }

    /// Stays until the test is over or the server does not want it any more.
    pub(crate) async fn run(mut self) -> Outcome {
        let mut joined = false;
        let mut away_since = None;
        let mut failures = 0;
        loop {
            let ended = self.session(&mut joined, &mut away_since).await;
            let why = match ended {
                Ended::Done => break,
                Ended::NotJoined(error) if !joined => {
                    let _ = self.notes.send(Note::Refused { identity: self.identity(), error }).await;
                    return self.outcome;
                }
                Ended::NotJoined(error) => {
                    failures += 1;
                    error.to_string()
                }
                Ended::Lost(why) => {
                    failures = 0;
                    away_since = Some(Instant::now());
                    self.outcome.interruptions.push(why.clone());
                    why
                }
                Ended::Dismissed(why) => {
                    self.outcome.ended = Some(why);
                    break;
                }
            };
            if self.config.no_rejoin || failures > REJOINS {
                self.outcome.ended = Some(why);
                break;
            }
            // Full jitter, so that a crowd does not come back as one.
            let pause = Duration::from_millis(300) * 2_u32.pow(failures.min(5));
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(rand::random::<f64>())) => {}
                () = over(self.phase.clone()) => {
                    self.outcome.ended = Some(why);
                    break;
                }
            }
        }
        self.count(None).await;
        self.outcome
    }

    /// Fixes the result, once; what is counted afterwards is thrown away.
    async fn count(&mut self, session: Option<&Session>) {
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        if let Some(session) = session {
            let expected = session.expected_tracks();
            self.outcome.tracks_heard = self.outcome.stats.heard(&expected);
            self.outcome.tracks_expected = expected.len();
            self.outcome.experience = session.watch.experience(Instant::now(), unix_us(), &expected);
            self.outcome.node = session.node.clone();
        }
        let _ = self.notes.send(Note::Counted).await;
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

    async fn session(&mut self, joined: &mut bool, away_since: &mut Option<Instant>) -> Ended {
        let started = Instant::now();
        let opened = tokio::select! {
            opened = self.open() => opened,
            () = over(self.phase.clone()) => return Ended::Done,
        };
        let mut session = match opened {
            Ok(session) => session,
            Err(error) => return Ended::NotJoined(error),
        };
        let mut arrived = None;
        let ended = loop {
            if session.unsettled() {
                if started.elapsed() > JOIN_LIMIT {
                    break Ended::NotJoined(JoinError::TooSlow("media connection"));
                }
                if arrived.is_none() && session.primary_connected() {
                    arrived = Some(started.elapsed());
                }
                if session.ready() {
                    session.settle();
                    if std::mem::replace(joined, true) {
                        self.outcome.absences.extend(away_since.take().map(|since| since.elapsed()));
                    } else {
                        let after = arrived.unwrap_or_else(|| started.elapsed());
                        let _ = self.notes.send(Note::Joined(after)).await;
                    }
                }
            }
            let due =
                session.due().min(if session.unsettled() { started + JOIN_LIMIT } else { session.due() });
            let step = tokio::select! {
                biased;
                changed = self.phase.changed() => {
                    let phase = if changed.is_ok() { *self.phase.borrow_and_update() } else { Phase::Leave };
                    match phase {
                        Phase::Joining => {}
                        Phase::Measuring => {
                            self.outcome.stats = Stats::new();
                            session.watch.restart(Instant::now());
                        }
                        Phase::Over => self.count(Some(&session)).await,
                        Phase::Leave => break Ended::Done,
                    }
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
            session.look(&mut self.outcome.stats);
            let step = step.and_then(|()| session.alive());
            if let Err(error) = step {
                let error = session.last_words(error).await;
                let why = format!("{error:#}");
                let dismissed = error.downcast_ref::<Left>().is_some_and(|left| !left.again);
                break match (session.unsettled(), dismissed) {
                    (true, true) => Ended::NotJoined(JoinError::Refused(why)),
                    (true, false) => Ended::NotJoined(JoinError::Ended(why)),
                    (false, true) => Ended::Dismissed(why),
                    (false, false) => Ended::Lost(why),
                };
            }
        };
        if matches!(ended, Ended::Done) {
            self.count(Some(&session)).await;
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

/// Ends when nothing is counted any more.
async fn over(mut phase: watch::Receiver<Phase>) {
    // An error means that the runner is gone, and then it is over as well.
    let _ = phase.wait_for(|phase| *phase >= Phase::Over).await;
}

async fn readable(publisher: Option<&mut Publisher>) -> std::io::Result<()> {
    match publisher {
        Some(publisher) => publisher.peer.readable().await,
        None => std::future::pending().await,
    }
}
