//! A client of LiveKit's protocol that runs the commands of a test in any order. It sends signalling
//! messages directly and uses str0m for WebRTC, so a test can do what no SDK does.

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
pub use media::{ScriptedCodec, VideoFrame};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::scenario::waiting;

/// Limit of each wait.
pub const LIMIT: Duration = Duration::from_secs(15);

/// A received RTP packet.
#[derive(Debug, Clone)]
pub struct ReceivedPacket {
    /// Extended sequence number.
    pub seq: u64,
    /// RTP timestamp.
    pub time: u32,
    /// Its SSRC.
    pub ssrc: u32,
    /// What the payload contains, for video.
    pub frame: Option<VideoFrame>,
}

/// An event of the client.
#[derive(Debug, Clone)]
pub enum ClientEvent {
    /// A signalling message of the server.
    Response(Box<Response>),
    /// A data message, with the label of its channel.
    Data(String, Box<DataPacket>),
    /// A peer connection is up: the publisher's (true) or the subscriber's (false).
    Connected(bool),
    /// Signalling ended.
    Closed,
}

#[derive(Debug)]
pub(crate) enum ClientCommand {
    Send(Box<Request>),
    SendText(String),
    Publish { cid: String, codec: ScriptedCodec, layers: Vec<String> },
    Stop(String),
    Data { reliable: bool, packet: Box<DataPacket> },
    IgnoreOffers(bool),
    CutSignalling,
}

/// Packets by track.
pub(crate) type PacketsByTrack = Arc<Mutex<HashMap<String, Vec<ReceivedPacket>>>>;

/// A participant.
#[derive(Debug)]
pub struct ScriptedClient {
    commands: mpsc::UnboundedSender<ClientCommand>,
    events: mpsc::UnboundedReceiver<ClientEvent>,
    /// Events that no wait has returned yet.
    unread: Vec<ClientEvent>,
    packets: PacketsByTrack,
    /// `PA_...`
    pub sid: String,
    /// Its media node.
    pub node: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for ScriptedClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ScriptedClient {
    /// Joins; `query` is appended to the URL, such as `auto_subscribe=0`.
    ///
    /// # Errors
    /// When the server refuses; with status and text.
    pub async fn join(url: &str, token: &str, query: &str) -> Result<Self> {
        let (commands, command_receiver) = mpsc::unbounded_channel();
        let (event_sender, events) = mpsc::unbounded_channel();
        let packets = PacketsByTrack::default();
        let (task, join) =
            connections::connect(url, token, query, command_receiver, event_sender, packets.clone()).await?;
        let sid = join.participant.as_ref().map(|me| me.sid.clone()).unwrap_or_default();
        let attributes = join.participant.as_ref().map(|me| &me.attributes);
        let node = attributes.and_then(|all| all.get("systir.node")).cloned().unwrap_or_default();
        let unread = vec![ClientEvent::Response(Box::new(Response::Join(join)))];
        Ok(Self { commands, events, unread, packets, sid, node, task })
    }

    /// Joins and waits until the subscriber's peer connection is up.
    ///
    /// # Errors
    /// When either fails.
    pub async fn join_and_connect(url: &str, token: &str, query: &str) -> Result<Self> {
        let mut client = Self::join(url, token, query).await?;
        client
            .wait_for("connected", |one| matches!(one, ClientEvent::Connected(false)).then_some(()))
            .await?;
        Ok(client)
    }

    fn command(&self, command: ClientCommand) {
        // Fails when the task has ended; the next wait reports that.
        let _ = self.commands.send(command);
    }

    /// Sends a request.
    pub fn send(&self, request: Request) {
        self.command(ClientCommand::Send(Box::new(request)));
    }

    /// Sends a WebSocket text message.
    pub fn send_text(&self, text: &str) {
        self.command(ClientCommand::SendText(text.to_owned()));
    }

    /// Offers a track, and sends it once the offer is answered. It does not announce it: see
    /// [`ScriptedClient::publish`].
    pub fn offer(&self, cid: &str, codec: ScriptedCodec, layers: &[&str]) {
        let layers = layers.iter().map(|rid| (*rid).to_owned()).collect();
        self.command(ClientCommand::Publish { cid: cid.to_owned(), codec, layers });
    }

    /// Offers the track's m-line inactive.
    pub fn unpublish(&self, cid: &str) {
        self.command(ClientCommand::Stop(cid.to_owned()));
    }

    /// Drops the WebSocket without a leave request.
    pub fn cut_signalling(&self) {
        self.command(ClientCommand::CutSignalling);
    }

    /// Leaves the server's offers unanswered, or answers them again.
    pub fn ignore_offers(&self, ignore: bool) {
        self.command(ClientCommand::IgnoreOffers(ignore));
    }

    /// Announces a track, waits for its sid, and offers it.
    ///
    /// # Errors
    /// When the server does not accept it.
    pub async fn publish(&mut self, cid: &str, codec: ScriptedCodec, layers: &[&str]) -> Result<TrackInfo> {
        let info = self.announce(cid, codec, layers, true).await?;
        self.offer(cid, codec, layers);
        Ok(info)
    }

    /// Announces a track, with or without the name of its codec, and waits for its sid.
    ///
    /// # Errors
    /// When the server does not accept it.
    pub async fn announce(
        &mut self,
        cid: &str,
        codec: ScriptedCodec,
        layers: &[&str],
        named: bool,
    ) -> Result<TrackInfo> {
        self.send(Request::AddTrack(announcement(cid, codec, layers, named)));
        self.wait_for_response("track_published", |response| match response {
            Response::TrackPublished(published) if published.cid == cid => published.track.clone(),
            _ => None,
        })
        .await
    }

    /// Sends a text on a data channel, to these identities or to all.
    pub fn send_data(&self, reliable: bool, text: &str, to: &[&str]) {
        let packet = DataPacket {
            destination_identities: to.iter().map(|identity| (*identity).to_owned()).collect(),
            value: Some(data_packet::Value::User(UserPacket {
                payload: text.as_bytes().to_vec(),
                topic: Some("test".to_owned()),
                ..Default::default()
            })),
            ..Default::default()
        };
        self.send_data_packet(reliable, packet);
    }

    /// Sends a data message as it is.
    pub fn send_data_packet(&self, reliable: bool, packet: DataPacket) {
        self.command(ClientCommand::Data { reliable, packet: Box::new(packet) });
    }

    /// Waits for an event; unread earlier ones count.
    ///
    /// # Errors
    /// When none comes within [`LIMIT`].
    pub async fn wait_for<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&ClientEvent) -> Option<T>,
    ) -> Result<T> {
        let found = self.unread.iter().enumerate().find_map(|(at, one)| Some((at, find(one)?)));
        if let Some((at, found)) = found {
            self.unread.remove(at);
            return Ok(found);
        }
        let _waiting = waiting(what);
        let end = Instant::now() + LIMIT;
        loop {
            let next = timeout_at(end, self.events.recv()).await;
            let Ok(next) = next else { bail!("{what} did not happen; unread events: {:#?}", self.unread) };
            let one = next.with_context(|| format!("the client ended before {what}"))?;
            if let Some(found) = find(&one) {
                return Ok(found);
            }
            self.unread.push(one);
        }
    }

    /// Waits for a signalling message of the server.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn wait_for_response<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&Response) -> Option<T>,
    ) -> Result<T> {
        self.wait_for(what, |one| match one {
            ClientEvent::Response(response) => find(response),
            _ => None,
        })
        .await
    }

    /// Waits for a data message with this text: the label of its channel, and the message.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn wait_for_data(&mut self, text: &str) -> Result<(String, DataPacket)> {
        self.wait_for(&format!("the message `{text}`"), |one| match one {
            ClientEvent::Data(label, packet) if text_of(packet) == text => {
                Some((label.clone(), (**packet).clone()))
            }
            _ => None,
        })
        .await
    }

    /// Has a data message with this text arrived?
    pub fn has_received_data(&mut self, text: &str) -> bool {
        self.has_seen(|one| {
            matches!(one, ClientEvent::Data(_, packet) if text_of(packet) == text).then_some(())
        })
    }

    /// Has an event been received, and not been returned by a wait, that matches?
    pub fn has_seen<T>(&mut self, find: impl Fn(&ClientEvent) -> Option<T>) -> bool {
        while let Ok(one) = self.events.try_recv() {
            self.unread.push(one);
        }
        self.unread.iter().any(|one| find(one).is_some())
    }

    /// Waits until the server reports a matching track of a participant.
    ///
    /// # Errors
    /// When it does not.
    pub async fn wait_for_track(
        &mut self,
        identity: &str,
        matches: impl Fn(&TrackInfo) -> bool,
    ) -> Result<TrackInfo> {
        let of = |all: &[livekit_protocol::ParticipantInfo]| {
            let participant = all.iter().filter(|one| one.identity == identity);
            participant.flat_map(|one| &one.tracks).find(|track| matches(track)).cloned()
        };
        self.wait_for_response(&format!("a track of {identity}"), |response| match response {
            Response::Join(join) => of(&join.other_participants),
            Response::Update(update) => of(&update.participants),
            _ => None,
        })
        .await
    }

    /// The packets of a track received so far.
    #[must_use]
    pub fn packets(&self, track_sid: &str) -> Vec<ReceivedPacket> {
        let packets = self.packets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        packets.get(track_sid).cloned().unwrap_or_default()
    }

    /// Discards the received packets of all tracks.
    pub fn clear_packets(&self) {
        drop(self.take_packets());
    }

    /// The packets received so far, by track. They are not returned again.
    #[must_use]
    pub fn take_packets(&self) -> HashMap<String, Vec<ReceivedPacket>> {
        std::mem::take(&mut self.packets.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Waits until the received packets of a track meet the condition.
    ///
    /// # Errors
    /// When they do not within [`LIMIT`].
    pub async fn wait_for_packets(
        &self,
        what: &str,
        track_sid: &str,
        mut condition: impl FnMut(&[ReceivedPacket]) -> bool,
    ) -> Result<Vec<ReceivedPacket>> {
        let _waiting = waiting(what);
        let end = Instant::now() + LIMIT;
        loop {
            let packets = self.packets(track_sid);
            if condition(&packets) {
                return Ok(packets);
            }
            if Instant::now() > end {
                let last: Vec<_> = packets.iter().rev().take(5).collect();
                bail!("{what} did not happen; {} packets arrived, the last: {last:?}", packets.len());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn text_of(packet: &DataPacket) -> String {
    match &packet.value {
        Some(data_packet::Value::User(user)) => String::from_utf8_lossy(&user.payload).into_owned(),
        _ => String::new(),
    }
}

/// The request that announces a track.
#[must_use]
pub fn announcement(cid: &str, codec: ScriptedCodec, rids: &[&str], named: bool) -> AddTrackRequest {
    let mut request = AddTrackRequest { cid: cid.to_owned(), name: cid.to_owned(), ..Default::default() };
    if codec == ScriptedCodec::Opus {
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
            codec: codec.name().to_owned(),
            cid: cid.to_owned(),
            layers: layers.clone(),
            ..Default::default()
        }];
    }
    request.layers = layers;
    request
}
