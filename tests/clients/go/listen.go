package main

import (
	"sync/atomic"
	"time"

	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
)

// callbacks prints the events of the room.
func callbacks() *lksdk.RoomCallback {
	callback := lksdk.NewRoomCallback()
	callback.OnParticipantConnected = func(participant *lksdk.RemoteParticipant) { emit("participant-connected", of(participant)) }
	callback.OnParticipantDisconnected = func(participant *lksdk.RemoteParticipant) {
		emit("participant-disconnected", of(participant))
	}
	callback.OnDisconnectedWithReason = func(reason lksdk.DisconnectionReason) {
		emit("disconnected", map[string]any{"reason": string(reason)})
	}
	var interrupted atomic.Int64
	callback.OnReconnecting = func() {
		interrupted.Store(time.Now().UnixMilli())
		emit("reconnecting", nil)
	}
	callback.OnReconnected = func() {
		emit("reconnected", map[string]any{"ms": time.Now().UnixMilli() - interrupted.Load()})
	}
	callback.OnActiveSpeakersChanged = func(speakers []lksdk.Participant) {
		identities := []string{}
		for _, speaker := range speakers {
			identities = append(identities, speaker.Identity())
		}
		emit("speakers", map[string]any{"participants": identities})
	}
	callback.OnTrackMuted = func(track lksdk.TrackPublication, participant lksdk.Participant) {
		emit("muted", map[string]any{"participant": participant.Identity(), "name": track.Name()})
	}
	callback.OnTrackUnmuted = func(track lksdk.TrackPublication, participant lksdk.Participant) {
		emit("unmuted", map[string]any{"participant": participant.Identity(), "name": track.Name()})
	}
	callback.OnMetadataChanged = func(_ string, participant lksdk.Participant) {
		emit("metadata", map[string]any{"participant": participant.Identity(), "metadata": participant.Metadata()})
	}
	callback.OnAttributesChanged = func(changed map[string]string, participant lksdk.Participant) {
		emit("attributes", map[string]any{"participant": participant.Identity(), "changed": changed})
	}
	callback.OnTrackPublished = func(track *lksdk.RemoteTrackPublication, participant *lksdk.RemoteParticipant) {
		emit("published", map[string]any{"participant": participant.Identity(), "name": track.Name(), "mime": track.MimeType()})
	}
	callback.OnTrackUnpublished = func(track *lksdk.RemoteTrackPublication, participant *lksdk.RemoteParticipant) {
		emit("unpublished", map[string]any{"participant": participant.Identity(), "name": track.Name()})
	}
	callback.OnTrackUnsubscribed = func(_ *webrtc.TrackRemote, track *lksdk.RemoteTrackPublication, participant *lksdk.RemoteParticipant) {
		emit("unsubscribed", map[string]any{"participant": participant.Identity(), "name": track.Name()})
	}
	callback.OnTrackSubscriptionFailed = func(sid string, participant *lksdk.RemoteParticipant) {
		emit("subscription-failed", map[string]any{"participant": participant.Identity(), "sid": sid})
	}
	callback.OnTrackSubscribed = func(track *webrtc.TrackRemote, publication *lksdk.RemoteTrackPublication, participant *lksdk.RemoteParticipant) {
		emit("subscribed", map[string]any{"participant": participant.Identity(), "name": publication.Name(), "codec": track.Codec().MimeType})
		go read(track, publication.Name(), participant.Identity())
	}
	callback.OnDataPacket = func(packet lksdk.DataPacket, params lksdk.DataReceiveParams) {
		if user, is := packet.(*lksdk.UserDataPacket); is {
			if user.Topic == burstTopic {
				bursts.received(user.Payload)
				return
			}
			emit("data", map[string]any{"participant": params.SenderIdentity, "text": string(user.Payload), "topic": user.Topic})
		}
	}
	return callback
}

func of(participant *lksdk.RemoteParticipant) map[string]any {
	return map[string]any{"participant": participant.Identity()}
}

// read receives a track. It counts whole frames by the marker bit and missing sequence numbers, and prints
// the counts after 10, 20, 40 ... packets. It prints the size of VP8 video when a key frame changes it.
// Packets that a server repeats, to probe the path or because they seemed lost, count once.
func read(track *webrtc.TrackRemote, name, identity string) {
	packets, frames, next := 0, 0, 10
	width := 0
	var highest uint16
	missing := map[uint16]bool{}
	since := time.Now()
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			emit("ended", map[string]any{"participant": identity, "name": name, "packets": packets})
			return
		}
		seq := packet.SequenceNumber
		switch {
		case packets == 0:
			highest = seq
		case int16(seq-highest) > 0:
			for highest++; highest != seq; highest++ {
				missing[highest] = true
			}
		case missing[seq]:
			delete(missing, seq)
		default:
			continue
		}
		packets++
		if packet.Marker {
			frames++
		}
		if found := vp8Width(track, packet.Payload); found != 0 && found != width {
			width = found
			emit("size", map[string]any{"participant": identity, "name": name, "width": width, "missing": len(missing)})
		}
		if packets == next {
			next *= 2
			emit("media", map[string]any{
				"participant": identity, "name": name, "packets": packets, "frames": frames, "missing": len(missing),
				"codec": track.Codec().MimeType, "ms": time.Since(since).Milliseconds(),
			})
		}
	}
}

// vp8Width returns the width in the first packet of a VP8 key frame (RFC 7741, RFC 6386), else 0.
func vp8Width(track *webrtc.TrackRemote, payload []byte) int {
	if track.Codec().MimeType != webrtc.MimeTypeVP8 || len(payload) < 1 {
		return 0
	}
	at := 1
	if payload[0]&0x80 != 0 && len(payload) > 1 {
		at = 2
		flags := payload[1]
		if flags&0x80 != 0 && len(payload) > at {
			at++
			if payload[2]&0x80 != 0 {
				at++
			}
		}
		if flags&0x40 != 0 {
			at++
		}
		if flags&0x30 != 0 {
			at++
		}
	}
	starts := payload[0]&0x17 == 0x10
	if !starts || len(payload) < at+10 || payload[at]&1 != 0 {
		return 0
	}
	return int(payload[at+6]) | int(payload[at+7]&0x3f)<<8
}
