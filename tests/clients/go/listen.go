package main

import (
	"time"

	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
)

// callbacks says what happens in the room.
func callbacks() *lksdk.RoomCallback {
	told := lksdk.NewRoomCallback()
	told.OnParticipantConnected = func(who *lksdk.RemoteParticipant) { say("came", of(who.Identity())) }
	told.OnParticipantDisconnected = func(who *lksdk.RemoteParticipant) { say("went", of(who.Identity())) }
	told.OnDisconnectedWithReason = func(reason lksdk.DisconnectionReason) {
		say("disconnected", map[string]any{"reason": string(reason)})
	}
	told.OnReconnecting = func() { say("reconnecting", nil) }
	told.OnReconnected = func() { say("reconnected", nil) }
	told.OnActiveSpeakersChanged = func(speakers []lksdk.Participant) {
		names := []string{}
		for _, speaker := range speakers {
			names = append(names, speaker.Identity())
		}
		say("speakers", map[string]any{"who": names})
	}
	told.OnTrackMuted = func(track lksdk.TrackPublication, who lksdk.Participant) {
		say("muted", map[string]any{"of": who.Identity(), "name": track.Name()})
	}
	told.OnTrackUnmuted = func(track lksdk.TrackPublication, who lksdk.Participant) {
		say("unmuted", map[string]any{"of": who.Identity(), "name": track.Name()})
	}
	told.OnMetadataChanged = func(_ string, who lksdk.Participant) {
		say("metadata", map[string]any{"of": who.Identity(), "metadata": who.Metadata()})
	}
	told.OnAttributesChanged = func(changed map[string]string, who lksdk.Participant) {
		say("attributes", map[string]any{"of": who.Identity(), "changed": changed})
	}
	told.OnTrackPublished = func(track *lksdk.RemoteTrackPublication, who *lksdk.RemoteParticipant) {
		say("published", map[string]any{"of": who.Identity(), "name": track.Name(), "mime": track.MimeType()})
	}
	told.OnTrackUnpublished = func(track *lksdk.RemoteTrackPublication, who *lksdk.RemoteParticipant) {
		say("unpublished", map[string]any{"of": who.Identity(), "name": track.Name()})
	}
	told.OnTrackUnsubscribed = func(_ *webrtc.TrackRemote, track *lksdk.RemoteTrackPublication, who *lksdk.RemoteParticipant) {
		say("unsubscribed", map[string]any{"of": who.Identity(), "name": track.Name()})
	}
	told.OnTrackSubscriptionFailed = func(sid string, who *lksdk.RemoteParticipant) {
		say("subscription-failed", map[string]any{"of": who.Identity(), "sid": sid})
	}
	told.OnTrackSubscribed = func(track *webrtc.TrackRemote, publication *lksdk.RemoteTrackPublication, who *lksdk.RemoteParticipant) {
		say("subscribed", map[string]any{"of": who.Identity(), "name": publication.Name(), "codec": track.Codec().MimeType})
		go read(track, publication.Name(), who.Identity())
	}
	told.OnDataPacket = func(packet lksdk.DataPacket, params lksdk.DataReceiveParams) {
		if user, is := packet.(*lksdk.UserDataPacket); is {
			say("data", map[string]any{"of": params.SenderIdentity, "text": string(user.Payload), "topic": user.Topic})
		}
	}
	return told
}

func of(identity string) map[string]any { return map[string]any{"of": identity} }

// read counts whole frames by the marker, and the holes in their numbers; it says so ten times, at
// ever longer distances. A change of the picture's size shows in the key frame's header (VP8).
func read(track *webrtc.TrackRemote, name, identity string) {
	packets, frames, missing, next := 0, 0, 0, 10
	width := 0
	var last uint16
	since := time.Now()
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			say("ended", map[string]any{"of": identity, "name": name, "packets": packets})
			return
		}
		if packets > 0 && packet.SequenceNumber != last+1 {
			missing += int(int16(packet.SequenceNumber - last - 1))
		}
		last = packet.SequenceNumber
		packets++
		if packet.Marker {
			frames++
		}
		if seen := vp8Width(track, packet.Payload); seen != 0 && seen != width {
			width = seen
			say("size", map[string]any{"of": identity, "name": name, "width": width, "missing": missing})
		}
		if packets == next {
			next *= 2
			say("media", map[string]any{
				"of": identity, "name": name, "packets": packets, "frames": frames, "missing": missing,
				"codec": track.Codec().MimeType, "ms": time.Since(since).Milliseconds(),
			})
		}
	}
}

// vp8Width is the width that a VP8 key frame's first packet tells (RFC 7741, RFC 6386), else 0.
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
