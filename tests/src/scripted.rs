//! A client of LiveKit's protocol that does what the test says, in any order: its signalling is
//! bare, its WebRTC stack is str0m. What no SDK would do can be tried with it.

mod connections;
mod media;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use livekit_protocol::{
    AddTrackRequest, DataPacket, SimulcastCodec, TrackInfo, TrackSource, TrackType, UserPacket, VideoLayer,
    data_packet,
};
pub use livekit_protocol::{signal_request::Message as Request, signal_response::Message as Response};
pub use media::{Coding, Picture};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::scenario::waiting;

/// Everything that is awaited happens within this time, or the test fails.
pub const LIMIT: Duration = Duration::from_secs(15);

/// One packet that arrived.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// Extended sequence number.
    pub seq: u64,
    /// RTP timestamp.
    pub time: u32,
    /// Its SSRC.
    pub ssrc: u32,
    /// What the payload shows.
    pub picture: Option<Picture>,
}

/// Something that happened to the client.
#[derive(Debug, Clone)]
pub enum Happened {
    /// A message of the server.
    Said(Box<Response>),
    /// A data message: its channel and what it says.
    Data(String, Box<DataPacket>),
    /// A connection is up: the publisher's (true) or the subscriber's.
    Connected(bool),
    /// Signalling ended.
    Closed,
}

#[derive(Debug)]
pub(crate) enum Order {
    Send(Box<Request>),
    SendText(String),
    Publish { cid: String, coding: Coding, layers: Vec<String> },
    Stop(String),
    Data { reliable: bool, packet: Box<DataPacket> },
    AnswerNothing(bool),
    CutSignalling,
}

/// Packets by track.
pub(crate) type Arrivals = Arc<Mutex<HashMap<String, Vec<Arrived>>>>;

/// A participant.
#[derive(Debug)]
pub struct Scripted {
    orders: mpsc::UnboundedSender<Order>,
    happened: mpsc::UnboundedReceiver<Happened>,
    /// What happened and nobody asked for yet.
    kept: Vec<Happened>,
    arrivals: Arrivals,
    /// `PA_...`
    pub sid: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    /// Joins; `query` is appended to the address, such as `auto_subscribe=0`.
    ///
    /// # Errors
    /// What the server answers, status and words.
    pub async fn join(url: &str, token: &str, query: &str) -> Result<Self> {
        let (orders, taken) = mpsc::unbounded_channel();
        let (tell, happened) = mpsc::unbounded_channel();
        let arrivals = Arrivals::default();
        let (task, join) = connections::connect(url, token, query, taken, tell, arrivals.clone()).await?;
        let sid = join.participant.as_ref().map(|me| me.sid.clone()).unwrap_or_default();
        let kept = vec![Happened::Said(Box::new(Response::Join(join)))];
        Ok(Self { orders, happened, kept, arrivals, sid, task })
    }

    /// Joins and waits for the subscriber's connection.
    ///
    /// # Errors
    /// When either does not happen.
    pub async fn meet(url: &str, token: &str, query: &str) -> Result<Self> {
        let mut client = Self::join(url, token, query).await?;
        client.until("connected", |one| matches!(one, Happened::Connected(false)).then_some(())).await?;
        Ok(client)
    }

    fn order(&self, order: Order) {
        // A client that is over hears nothing; whoever waits for its answer is told so.
        let _ = self.orders.send(order);
    }

    /// Sends a request.
    pub fn send(&self, request: Request) {
        self.order(Order::Send(Box::new(request)));
    }

    /// Sends a WebSocket text message, JSON for the most part.
    pub fn send_text(&self, text: &str) {
        self.order(Order::SendText(text.to_owned()));
    }

    /// Offers, and once it is answered sends, a track. It is not announced: see [`Scripted::publish`].
    pub fn offer(&self, cid: &str, coding: Coding, layers: &[&str]) {
        let layers = layers.iter().map(|rid| (*rid).to_owned()).collect();
        self.order(Order::Publish { cid: cid.to_owned(), coding, layers });
    }

    /// Offers the track's m-line inactive.
    pub fn unpublish(&self, cid: &str) {
        self.order(Order::Stop(cid.to_owned()));
    }

    /// Ends the WebSocket without a goodbye.
    pub fn cut(&self) {
        self.order(Order::CutSignalling);
    }

    /// Leaves offers unanswered, until told otherwise.
    pub fn answer_nothing(&self, nothing: bool) {
        self.order(Order::AnswerNothing(nothing));
    }

    /// Announces a track, waits for its sid, and brings it.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn publish(&mut self, cid: &str, coding: Coding, layers: &[&str]) -> Result<TrackInfo> {
        let info = self.announce(cid, coding, layers, true).await?;
        self.offer(cid, coding, layers);
        Ok(info)
    }

    /// Announces a track, with its codec or without, and waits for its sid.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn announce(
        &mut self,
        cid: &str,
        coding: Coding,
        layers: &[&str],
        named: bool,
    ) -> Result<TrackInfo> {
        self.send(Request::AddTrack(announcement(cid, coding, layers, named)));
        self.said("track_published", |said| match said {
            Response::TrackPublished(published) if published.cid == cid => published.track.clone(),
            _ => None,
        })
        .await
    }

    /// Sends a text on a data channel.
    pub fn say(&self, reliable: bool, text: &str, to: &[&str]) {
        let packet = DataPacket {
            destination_identities: to.iter().map(|who| (*who).to_owned()).collect(),
            value: Some(data_packet::Value::User(UserPacket {
                payload: text.as_bytes().to_vec(),
                topic: Some("test".to_owned()),
                ..Default::default()
            })),
            ..Default::default()
        };
        self.send_packet(reliable, packet);
    }

    /// Sends a data message as it is.
    pub fn send_packet(&self, reliable: bool, packet: DataPacket) {
        self.order(Order::Data { reliable, packet: Box::new(packet) });
    }

    /// Waits for something, also among what happened earlier and was not asked for.
    ///
    /// # Errors
    /// When it does not happen within [`LIMIT`].
    pub async fn until<T>(&mut self, what: &str, mut find: impl FnMut(&Happened) -> Option<T>) -> Result<T> {
        let found = self.kept.iter().enumerate().find_map(|(at, one)| Some((at, find(one)?)));
        if let Some((at, found)) = found {
            self.kept.remove(at);
            return Ok(found);
        }
        let _waiting = waiting(what);
        let end = Instant::now() + LIMIT;
        loop {
            let next = timeout_at(end, self.happened.recv()).await;
            let Ok(next) = next else { bail!("{what} did not happen; this did: {:#?}", self.kept) };
            let one = next.with_context(|| format!("the client ended before {what}"))?;
            if let Some(found) = find(&one) {
                return Ok(found);
            }
            self.kept.push(one);
        }
    }

    /// Waits for a message of the server.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn said<T>(&mut self, what: &str, mut find: impl FnMut(&Response) -> Option<T>) -> Result<T> {
        self.until(what, |one| match one {
            Happened::Said(said) => find(said),
            _ => None,
        })
        .await
    }

    /// Waits for a data message of these words: its channel and all of it.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn heard(&mut self, text: &str) -> Result<(String, DataPacket)> {
        self.until(&format!("the message `{text}`"), |one| match one {
            Happened::Data(label, packet) if words(packet) == text => {
                Some((label.clone(), (**packet).clone()))
            }
            _ => None,
        })
        .await
    }

    /// Did any data message of these words come so far?
    pub fn has_heard(&mut self, text: &str) -> bool {
        while let Ok(one) = self.happened.try_recv() {
            self.kept.push(one);
        }
        self.kept.iter().any(|one| matches!(one, Happened::Data(_, packet) if words(packet) == text))
    }

    /// Waits for a track of somebody to be shown, in a state that suits.
    ///
    /// # Errors
    /// When it is not shown.
    pub async fn sees_track(
        &mut self,
        identity: &str,
        suits: impl Fn(&TrackInfo) -> bool,
    ) -> Result<TrackInfo> {
        let of = |all: &[livekit_protocol::ParticipantInfo]| {
            let who = all.iter().filter(|who| who.identity == identity);
            who.flat_map(|who| &who.tracks).find(|track| suits(track)).cloned()
        };
        self.said(&format!("a track of {identity}"), |said| match said {
            Response::Join(join) => of(&join.other_participants),
            Response::Update(update) => of(&update.participants),
            _ => None,
        })
        .await
    }

    /// The packets of a track so far.
    #[must_use]
    pub fn arrived(&self, track_sid: &str) -> Vec<Arrived> {
        let arrivals = self.arrivals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        arrivals.get(track_sid).cloned().unwrap_or_default()
    }

    /// Forgets the packets of all tracks.
    pub fn forget_arrivals(&self) {
        self.arrivals.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    /// Waits until the packets of a track are as they should.
    ///
    /// # Errors
    /// When they do not become so within [`LIMIT`].
    pub async fn receives(
        &self,
        what: &str,
        track_sid: &str,
        mut enough: impl FnMut(&[Arrived]) -> bool,
    ) -> Result<Vec<Arrived>> {
        let _waiting = waiting(what);
        let end = Instant::now() + LIMIT;
        loop {
            let arrived = self.arrived(track_sid);
            if enough(&arrived) {
                return Ok(arrived);
            }
            if Instant::now() > end {
                let last: Vec<_> = arrived.iter().rev().take(5).collect();
                bail!("{what} did not happen; {} packets arrived, the last: {last:?}", arrived.len());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn words(packet: &DataPacket) -> String {
    match &packet.value {
        Some(data_packet::Value::User(user)) => String::from_utf8_lossy(&user.payload).into_owned(),
        _ => String::new(),
    }
}

/// What a client says of a track before it offers it.
#[must_use]
pub fn announcement(cid: &str, coding: Coding, rids: &[&str], named: bool) -> AddTrackRequest {
    let mut request = AddTrackRequest { cid: cid.to_owned(), name: cid.to_owned(), ..Default::default() };
    if coding == Coding::Opus {
        request.set_type(TrackType::Audio);
        request.set_source(TrackSource::Microphone);
        return request;
    }
    request.set_type(TrackType::Video);
    request.set_source(TrackSource::Camera);
    let layers: Vec<VideoLayer> = (0..rids.len().max(1))
        .map(|at| {
            let (width, height) = media::size(if rids.is_empty() { 2 } else { at });
            let quality = i32::try_from(at).unwrap_or_default();
            VideoLayer { quality, width, height, ..Default::default() }
        })
        .collect();
    if let Some(largest) = layers.last() {
        (request.width, request.height) = (largest.width, largest.height);
    }
    if named {
        request.simulcast_codecs = vec![SimulcastCodec {
            codec: coding.name().to_owned(),
            cid: cid.to_owned(),
            layers: layers.clone(),
            ..Default::default()
        }];
    }
    request.layers = layers;
    request
}
