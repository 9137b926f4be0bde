package main

import (
	"context"
	"embed"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

//go:embed media/*.bin
var files embed.FS

// frames reads a file that `frames.mjs` wrote.
func frames(name string) ([][]byte, error) {
	bytes, err := files.ReadFile("media/" + name + ".bin")
	if err != nil {
		return nil, err
	}
	var list [][]byte
	for len(bytes) >= 4 {
		length := int(binary.BigEndian.Uint32(bytes))
		if len(bytes) < 4+length {
			return nil, fmt.Errorf("%s is truncated", name)
		}
		list = append(list, bytes[4:4+length])
		bytes = bytes[4+length:]
	}
	return list, nil
}

// loop repeats frames without end.
type loop struct {
	lksdk.BaseSampleProvider
	frames   [][]byte
	duration time.Duration
	next     int
}

func (l *loop) NextSample(context.Context) (media.Sample, error) {
	frame := l.frames[l.next%len(l.frames)]
	l.next++
	return media.Sample{Data: frame, Duration: l.duration}, nil
}

// CurrentAudioLevel is the level in the audio level extension (RFC 6464): -20 dBov.
func (l *loop) CurrentAudioLevel() uint8 { return 20 }

func start(mime, file string, duration time.Duration, options ...lksdk.LocalTrackOptions) (*lksdk.LocalTrack, error) {
	list, err := frames(file)
	if err != nil {
		return nil, err
	}
	clock := uint32(90_000)
	capability := webrtc.RTPCodecCapability{MimeType: mime, ClockRate: clock}
	if mime == webrtc.MimeTypeOpus {
		capability.ClockRate, capability.Channels = 48_000, 2
	}
	track, err := lksdk.NewLocalTrack(capability, options...)
	if err != nil {
		return nil, err
	}
	return track, track.StartWrite(&loop{frames: list, duration: duration}, nil)
}

// publish publishes a track: vp8, h264, opus or simulcast.
func (me *client) publish(name, kind string) (*lksdk.LocalTrackPublication, error) {
	videoFrame, audioFrame := time.Second/15, 20*time.Millisecond
	options := &lksdk.TrackPublicationOptions{Name: name}
	participant := me.room.LocalParticipant
	switch kind {
	case "opus":
		track, err := start(webrtc.MimeTypeOpus, "opus", audioFrame)
		if err != nil {
			return nil, err
		}
		return participant.PublishTrack(track, options)
	case "vp8", "h264":
		mime := map[string]string{"vp8": webrtc.MimeTypeVP8, "h264": webrtc.MimeTypeH264}[kind]
		track, err := start(mime, kind+"-high", videoFrame)
		if err != nil {
			return nil, err
		}
		options.VideoWidth, options.VideoHeight = 320, 192
		return participant.PublishTrack(track, options)
	case "simulcast":
		var layers []*lksdk.LocalTrack
		for _, layer := range []struct {
			file          string
			quality       livekit.VideoQuality
			width, height uint32
		}{
			{"vp8-low", livekit.VideoQuality_LOW, 80, 48},
			{"vp8-medium", livekit.VideoQuality_MEDIUM, 160, 96},
			{"vp8-high", livekit.VideoQuality_HIGH, 320, 192},
		} {
			info := &livekit.VideoLayer{Quality: layer.quality, Width: layer.width, Height: layer.height}
			track, err := start(webrtc.MimeTypeVP8, layer.file, videoFrame, lksdk.WithSimulcast("simulcast-"+name, info))
			if err != nil {
				return nil, err
			}
			layers = append(layers, track)
		}
		return participant.PublishSimulcastTrack(layers, options)
	default:
		return nil, fmt.Errorf("unknown kind of track: %q", kind)
	}
}
