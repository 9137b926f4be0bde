//! The task of a scripted client: its two peer connections and its WebSocket.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use futures::{SinkExt as _, StreamExt as _};
use livekit_protocol::{DataPacket, JoinResponse, SessionDescription, SignalRequest, SignalResponse};
use prost::Message as _;
use str0m::change::SdpPendingOffer;
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::media::{Direction, MediaKind, Mid, Pt, Rid, Simulcast, SimulcastLayer};
use str0m::rtp::{ExtensionValues, RtpWrite, Ssrc};
use str0m::{Event, Rtc};
use systir_load::peer::{Peer, install_crypto_provider};
use systir_load::sdp::tracks_by_mid;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::media::{self, ScriptedCodec, Source};
use super::{ClientCommand, ClientEvent, LIMIT, PacketsByTrack, ReceivedPacket, Request, Response};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A track that the client has offered, and sends once the offer is answered.
#[derive(Debug)]
struct Track {
    cid: String,
    codec: ScriptedCodec,
    rids: Vec<String>,
    mid: Mid,
    pt: Option<Pt>,
    source: Option<Source>,
}

#[derive(Debug)]
struct Connections {
    socket: Option<Socket>,
    publisher: Peer,
    subscriber: Peer,
    events: mpsc::UnboundedSender<ClientEvent>,
    packets: PacketsByTrack,
    /// Commands that wait for the answer to the last offer before they may offer.
    queued: VecDeque<ClientCommand>,
    offered: Option<SdpPendingOffer>,
    tracks: Vec<Track>,
    channels: [Option<ChannelId>; 2],
    labels: HashMap<(bool, ChannelId), String>,
    /// Data messages that wait until their channel is open.
    unsent_data: Vec<(bool, DataPacket)>,
    /// Track sids of the subscriber's m-lines by mid; track sid and codec by SSRC.
    mids: HashMap<String, String>,
    streams: HashMap<Ssrc, (String, ScriptedCodec)>,
    ignore_offers: bool,
    offers: u32,
    reported_connected: [bool; 2],
}

/// Joins; the task runs until the client is dropped.
pub(super) async fn connect(
    url: &str,
    token: &str,
    query: &str,
    mut commands: mpsc::UnboundedReceiver<ClientCommand>,
    events: mpsc::UnboundedSender<ClientEvent>,
    packets: PacketsByTrack,
) -> Result<(JoinHandle<()>, JoinResponse)> {
    install_crypto_provider();
    let address = format!("{}/rtc?access_token={token}&protocol=16&{query}", url.replacen("http", "ws", 1));
    let connected = timeout(LIMIT, connect_async(address)).await.context("no answer from the gateway")?;
    let (mut socket, _) = connected.map_err(|error| match error {
        tungstenite::Error::Http(answer) => {
            let text = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
            anyhow!("{}: {text}", answer.status().as_u16())
        }
        other => anyhow!(other),
    })?;
    let first = timeout(LIMIT, next(&mut socket)).await.context("no first message")??;
    let Response::Join(join) = first else { bail!("the first message is {first:?}") };

    let local = match socket.get_ref() {
        MaybeTlsStream::Plain(tcp) => tcp.local_addr()?.ip(),
        _ => bail!("the scripted client does not support TLS"),
    };
    let now = Instant::now();
    let codecs = || Rtc::builder().clear_codecs().enable_opus(true, false).enable_vp8(true).enable_h264(true);
    let mut connections = Connections {
        socket: Some(socket),
        publisher: Peer::open(codecs(), local, false, now).await?,
        subscriber: Peer::open(codecs(), local, false, now).await?,
        events,
        packets,
        queued: VecDeque::new(),
        offered: None,
        tracks: Vec::new(),
        channels: [None, None],
        labels: HashMap::new(),
        unsent_data: Vec::new(),
        mids: HashMap::new(),
        streams: HashMap::new(),
        ignore_offers: false,
        offers: 0,
        reported_connected: [false, false],
    };
    let task = tokio::spawn(async move {
        if let Err(error) = connections.run(&mut commands).await {
            eprintln!("a scripted client ended: {error:#}");
        }
    });
    Ok((task, join))
}

async fn next(socket: &mut Socket) -> Result<Response> {
    loop {
        let response = match socket.next().await.context("signalling ended")?? {
            Message::Binary(bytes) => SignalResponse::decode(bytes)?,
            Message::Text(text) => serde_json::from_str(&text)?,
            Message::Close(_) => bail!("signalling was closed"),
            _ => continue,
        };
        if let Some(message) = response.message {
            return Ok(message);
        }
    }
}

/// The next response; pending forever once the socket is closed.
async fn next_response(socket: &mut Option<Socket>) -> Result<Response> {
    match socket {
        Some(socket) => next(socket).await,
        None => std::future::pending().await,
    }
}

impl Connections {
    async fn run(&mut self, commands: &mut mpsc::UnboundedReceiver<ClientCommand>) -> Result<()> {
        let timer = tokio::time::sleep(std::time::Duration::ZERO);
        tokio::pin!(timer);
        loop {
            let sources = self.tracks.iter().filter_map(|track| track.source.as_ref());
            let due =
                sources.map(|source| source.next).chain([self.publisher.due, self.subscriber.due]).min();
            let due = due.unwrap_or_else(Instant::now);
            timer.as_mut().reset(due.into());
            tokio::select! {
                () = &mut timer => self.tick()?,
                command = commands.recv() => match command {
                    Some(command) => self.run_command(command).await?,
                    None => return Ok(()),
                },
                response = next_response(&mut self.socket) => match response {
                    Ok(response) => self.handle_response(response).await?,
                    Err(_) => {
                        self.socket = None;
                        let _ = self.events.send(ClientEvent::Closed);
                    }
                },
                readable = self.publisher.readable() => {
                    readable?;
                    self.publisher.receive()?;
                }
                readable = self.subscriber.readable() => {
                    readable?;
                    self.subscriber.receive()?;
                }
            }
            self.read_events(true)?;
            self.read_events(false)?;
            self.send_queued_data()?;
        }
    }

    async fn send(&mut self, request: Request) -> Result<()> {
        let bytes = SignalRequest { message: Some(request) }.encode_to_vec();
        match &mut self.socket {
            Some(socket) => Ok(socket.send(Message::Binary(bytes.into())).await?),
            None => Ok(()),
        }
    }

    async fn run_command(&mut self, command: ClientCommand) -> Result<()> {
        match command {
            ClientCommand::Send(request) => self.send(*request).await?,
            ClientCommand::SendText(text) => {
                if let Some(socket) = &mut self.socket {
                    socket.send(Message::Text(text.into())).await?;
                }
            }
            ClientCommand::IgnoreOffers(nothing) => self.ignore_offers = nothing,
            ClientCommand::CutSignalling => self.socket = None,
            ClientCommand::Data { reliable, packet } => self.data(reliable, *packet).await?,
            command @ (ClientCommand::Publish { .. } | ClientCommand::Stop(_)) if self.offered.is_some() => {
                self.queued.push_back(command);
            }
            ClientCommand::Publish { cid, codec, layers } => self.publish(cid, codec, layers).await?,
            ClientCommand::Stop(cid) => {
                let Some(at) = self.tracks.iter().position(|track| track.cid == cid) else {
                    bail!("there is no track {cid}")
                };
                let mid = self.tracks.remove(at).mid;
                let mut changes = self.publisher.rtc.sdp_api();
                changes.set_direction(mid, Direction::Inactive);
                let (offer, pending) = changes.apply().context("nothing to offer")?;
                self.offer(offer.to_sdp_string(), pending).await?;
            }
        }
        Ok(())
    }

    async fn offer(&mut self, sdp: String, pending: SdpPendingOffer) -> Result<()> {
        self.offered = Some(pending);
        self.publisher.drain()?;
        self.offers += 1;
        let id = self.offers;
        let offer = SessionDescription { r#type: "offer".into(), sdp, id, ..Default::default() };
        self.send(Request::Offer(offer)).await
    }

    async fn publish(&mut self, cid: String, codec: ScriptedCodec, rids: Vec<String>) -> Result<()> {
        let kind = if codec == ScriptedCodec::Opus { MediaKind::Audio } else { MediaKind::Video };
        let simulcast = (!rids.is_empty()).then(|| {
            let mut simulcast = Simulcast::new();
            rids.iter().for_each(|rid| simulcast.add_send_layer(SimulcastLayer::new(rid)));
            simulcast
        });
        let mut changes = self.publisher.rtc.sdp_api();
        let mid =
            changes.add_media(kind, Direction::SendOnly, Some("stream".into()), Some(cid.clone()), simulcast);
        let (offer, pending) = changes.apply().context("nothing to offer")?;
        self.tracks.push(Track { cid, codec, rids, mid, pt: None, source: None });
        self.offer(offer.to_sdp_string(), pending).await
    }

    /// The first data message opens the data channels.
    async fn data(&mut self, reliable: bool, packet: DataPacket) -> Result<()> {
        self.unsent_data.push((reliable, packet));
        if self.channels.iter().any(Option::is_some) || self.offered.is_some() {
            return Ok(());
        }
        let mut changes = self.publisher.rtc.sdp_api();
        let lossy = ChannelConfig {
            label: "_lossy".into(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 0 },
            ..Default::default()
        };
        let reliable = ChannelConfig { label: "_reliable".into(), ordered: true, ..Default::default() };
        self.channels = [lossy, reliable].map(|config| Some(changes.add_channel_with_config(config)));
        let (offer, pending) = changes.apply().context("nothing to offer")?;
        self.offer(offer.to_sdp_string(), pending).await
    }

    async fn handle_response(&mut self, response: Response) -> Result<()> {
        match &response {
            Response::Offer(_) if self.ignore_offers => {}
            Response::Offer(offer) => {
                self.mids = tracks_by_mid(&offer.sdp);
                self.streams.clear();
                let sdp = self.subscriber.answer(&offer.sdp).await?;
                let id = offer.id;
                let answer = SessionDescription { r#type: "answer".into(), sdp, id, ..Default::default() };
                self.send(Request::Answer(answer)).await?;
            }
            Response::Answer(answer) => {
                let pending = self.offered.take().context("an answer without an offer")?;
                self.publisher.accept_answer(pending, &answer.sdp).await?;
                self.set_payload_types();
                if let Some(command) = self.queued.pop_front() {
                    Box::pin(self.run_command(command)).await?;
                } else if !self.unsent_data.is_empty()
                    && self.channels.iter().all(Option::is_none)
                    && let Some((reliable, packet)) = self.unsent_data.pop()
                {
                    Box::pin(self.data(reliable, packet)).await?;
                }
            }
            _ => {}
        }
        let _ = self.events.send(ClientEvent::Response(Box::new(response)));
        Ok(())
    }

    /// Sets the payload type of each track from the answer.
    fn set_payload_types(&mut self) {
        for track in &mut self.tracks {
            let codec = match track.codec {
                ScriptedCodec::Opus => str0m::format::Codec::Opus,
                ScriptedCodec::Vp8 => str0m::format::Codec::Vp8,
                ScriptedCodec::H264 => str0m::format::Codec::H264,
            };
            let accepted = self.publisher.rtc.media(track.mid).map(|media| media.remote_pts().to_vec());
            let params = self.publisher.rtc.codec_config().params();
            let is_accepted = |pt: &Pt| accepted.as_ref().is_some_and(|all| all.contains(pt));
            track.pt = params
                .iter()
                .find(|one| one.spec().codec == codec && is_accepted(&one.pt()))
                .map(|one| one.pt());
        }
    }

    fn tick(&mut self) -> Result<()> {
        let now = Instant::now();
        for track in &mut self.tracks {
            let Some(pt) = track.pt.filter(|_| self.publisher.connected) else { continue };
            let source = track.source.get_or_insert_with(|| Source::new(track.codec, track.rids.len(), now));
            for packet in source.due(now) {
                let rid = track.rids.get(packet.layer).map(|rid| Rid::from(rid.as_str()));
                let mut api = self.publisher.rtc.direct_api();
                let Some(stream) = api.stream_tx_by_mid(track.mid, rid) else { continue };
                let audio = track.codec == ScriptedCodec::Opus;
                let extensions = ExtensionValues {
                    audio_level: audio.then_some(-20),
                    voice_activity: audio.then_some(true),
                    ..ExtensionValues::default()
                };
                let write = RtpWrite::new(pt, packet.seq.into(), packet.time, now, packet.payload);
                stream.write_rtp(write.marker(!audio).nackable(!audio).ext_vals(extensions));
            }
        }
        self.publisher.tick(now)?;
        if self.subscriber.due <= now {
            self.subscriber.tick(now)?;
        }
        Ok(())
    }

    /// Handles the events of one peer connection.
    fn read_events(&mut self, publisher: bool) -> Result<()> {
        let peer = if publisher { &mut self.publisher } else { &mut self.subscriber };
        if peer.connected && !std::mem::replace(&mut self.reported_connected[usize::from(publisher)], true) {
            let _ = self.events.send(ClientEvent::Connected(publisher));
        }
        for event in std::mem::take(&mut peer.events) {
            match event {
                Event::ChannelOpen(id, label) => {
                    self.labels.insert((publisher, id), label);
                }
                Event::ChannelData(data) => {
                    let label = self.labels.get(&(publisher, data.id)).cloned().unwrap_or_default();
                    let packet = DataPacket::decode(data.data.as_slice())?;
                    let _ = self.events.send(ClientEvent::Data(label, Box::new(packet)));
                }
                Event::KeyframeRequest(request) => self.key_frame(request.mid, request.rid),
                Event::RtpPacket(packet) if !publisher => self.packet(&packet),
                _ => {}
            }
        }
        Ok(())
    }

    fn key_frame(&mut self, mid: Mid, rid: Option<Rid>) {
        let Some(track) = self.tracks.iter_mut().find(|track| track.mid == mid) else { return };
        let is_requested = |name: &String| rid == Some(Rid::from(name.as_str()));
        let layer = track.rids.iter().position(is_requested).unwrap_or_default();
        if let Some(source) = &mut track.source {
            source.key_frame(layer);
        }
    }

    fn packet(&mut self, packet: &str0m::rtp::RtpPacket) {
        let ssrc = packet.header.ssrc;
        if !self.streams.contains_key(&ssrc) {
            let Some(stream) = self.stream(ssrc, packet.header.payload_type) else { return };
            self.streams.insert(ssrc, stream);
        }
        let Some((track, codec)) = self.streams.get(&ssrc) else { return };
        let arrived = ReceivedPacket {
            seq: *packet.seq_no,
            time: packet.header.timestamp,
            ssrc: *ssrc,
            frame: media::frame(*codec, &packet.payload),
        };
        let mut packets = self.packets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let packets = packets.entry(track.clone()).or_default();
        // More than any test needs; bounds the memory of a client whose packets are not read.
        if packets.len() < 10_000 {
            packets.push(arrived);
        }
    }

    fn stream(&mut self, ssrc: Ssrc, pt: Pt) -> Option<(String, ScriptedCodec)> {
        let mid = self.subscriber.rtc.direct_api().stream_rx(&ssrc)?.mid();
        let track = self.mids.get(mid.to_string().trim())?.clone();
        let params = self.subscriber.rtc.codec_config().params();
        let codec = match params.iter().find(|one| one.pt() == pt)?.spec().codec {
            str0m::format::Codec::Opus => ScriptedCodec::Opus,
            str0m::format::Codec::Vp8 => ScriptedCodec::Vp8,
            str0m::format::Codec::H264 => ScriptedCodec::H264,
            _ => return None,
        };
        Some((track, codec))
    }

    /// Sends the data messages whose channel is open.
    fn send_queued_data(&mut self) -> Result<()> {
        for (reliable, mut packet) in std::mem::take(&mut self.unsent_data) {
            #[allow(deprecated)] // Older clients read it.
            {
                packet.kind = i32::from(!reliable);
            }
            let channel = self.channels[usize::from(reliable)];
            let open = channel.filter(|id| self.labels.contains_key(&(true, *id)));
            let channel = open.and_then(|id| self.publisher.rtc.channel(id));
            match channel {
                Some(mut channel) => {
                    channel.write(true, &packet.encode_to_vec())?;
                }
                None => self.unsent_data.push((reliable, packet)),
            }
        }
        self.publisher.drain()
    }
}
