package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

const (
	framesASecond = 30
	// keyFrameEvery is in frames; an encoder makes one at least so often, and when it is asked for one.
	keyFrameEvery = 300
	loadPatience  = 45 * time.Second
	dataPatience  = 20 * time.Second
)

// loadOptions are the command line of `client load`.
type loadOptions struct {
	url                            string
	rooms, publishers, subscribers int
	kbps, messages, size, file     int
	audio                          bool
	rate                           float64
}

// tracks is the number of tracks that a subscriber receives.
func (o *loadOptions) tracks() int {
	each := 0
	if o.kbps > 0 {
		each++
	}
	if o.audio {
		each++
	}
	return o.publishers * each
}

// load runs many participants in this process. Publishers join at once; each line of standard input is a
// step: `subscribe` (all subscribers join), `count` (what they have received), `data` (messages and a file of
// the first publisher to all subscribers). It ends, with all participants, with standard input.
func load(arguments []string) error {
	var options loadOptions
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	flags.StringVar(&options.url, "url", "ws://127.0.0.1:7880", "server")
	flags.IntVar(&options.rooms, "rooms", 1, "rooms: load-0, load-1 and so on")
	flags.IntVar(&options.publishers, "publishers", 1, "participants of each room that publish")
	flags.IntVar(&options.subscribers, "subscribers", 10, "participants of each room that only receive")
	flags.IntVar(&options.kbps, "video", 0, "bit rate of each publisher's VP8 video, kbit/s")
	flags.BoolVar(&options.audio, "audio", false, "publish Opus")
	flags.Float64Var(&options.rate, "rate", 10, "joins of subscribers a second")
	flags.IntVar(&options.messages, "messages", 300, "reliable messages of the step data")
	flags.IntVar(&options.size, "size", 1000, "bytes of a message")
	flags.IntVar(&options.file, "file", 1_000_000, "bytes of the file of the step data")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	crowd := crowd{options: options}
	defer crowd.leave()
	if err := crowd.publish(); err != nil {
		return err
	}
	emit("published", nil)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var err error
		switch lines.Text() {
		case "subscribe":
			err = crowd.subscribe()
		case "count":
			emit("count", map[string]any{"packets": crowd.packets.Load(), "bytes": crowd.bytes.Load(), "missing": crowd.missing.Load()})
		case "data":
			err = crowd.data()
		default:
			err = fmt.Errorf("unknown step: %q", lines.Text())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// crowd is all participants of a load.
type crowd struct {
	options                 loadOptions
	publishers, subscribers []*lksdk.Room
	packets, bytes, missing atomic.Int64
	messages                atomic.Int64
}

// connect joins room number `number` of the load.
func (c *crowd) connect(number int, identity string, callback *lksdk.RoomCallback, options ...lksdk.ConnectOption) (*lksdk.Room, error) {
	who := lksdk.ConnectInfo{APIKey: "devkey", APISecret: "secret", RoomName: fmt.Sprintf("load-%d", number), ParticipantIdentity: identity}
	room, err := lksdk.ConnectToRoom(c.options.url, who, callback, options...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", identity, err)
	}
	return room, nil
}

func (c *crowd) leave() {
	for _, room := range slices.Concat(c.subscribers, c.publishers) {
		room.Disconnect()
	}
}

func (c *crowd) publish() error {
	for number := range c.options.rooms * c.options.publishers {
		room, err := c.connect(number%c.options.rooms, fmt.Sprintf("publisher-%d", number), lksdk.NewRoomCallback(), lksdk.WithAutoSubscribe(false))
		if err != nil {
			return err
		}
		c.publishers = append(c.publishers, room)
		if c.options.kbps > 0 {
			if err := publishLoop(room, webrtc.MimeTypeVP8, paddedVideo(c.options.kbps), time.Second/framesASecond); err != nil {
				return err
			}
		}
		if c.options.audio {
			list, err := frames("opus")
			if err != nil {
				return err
			}
			if err := publishLoop(room, webrtc.MimeTypeOpus, list, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// paddedVideo is real VP8 with zeros after each frame, up to the bit rate; no client of a load decodes.
func paddedVideo(kbps int) [][]byte {
	clip, err := frames("vp8-high")
	if err != nil || len(clip) < 2 {
		return nil
	}
	size := kbps * 1000 / 8 / framesASecond
	list := make([][]byte, keyFrameEvery)
	for number := range list {
		frame := clip[0]
		if number > 0 {
			frame = clip[1+(number-1)%(len(clip)-1)]
		}
		list[number] = append(slices.Clone(frame), make([]byte, max(0, size-len(frame)))...)
	}
	return list
}

// onRequest is a loop whose first frame is a key frame. It starts again when a receiver asks for one.
type onRequest struct {
	loop
	asked atomic.Bool
}

func (r *onRequest) NextSample(ctx context.Context) (media.Sample, error) {
	if r.asked.Swap(false) {
		r.next = 0
	}
	return r.loop.NextSample(ctx)
}

func (r *onRequest) received(packet rtcp.Packet) {
	switch packet.(type) {
	case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
		r.asked.Store(true)
	}
}

func publishLoop(room *lksdk.Room, mime string, list [][]byte, duration time.Duration) error {
	if len(list) == 0 {
		return errors.New("there are no frames to publish")
	}
	capability := webrtc.RTPCodecCapability{MimeType: mime, ClockRate: 90_000}
	options := &lksdk.TrackPublicationOptions{Name: mime, VideoWidth: 1280, VideoHeight: 720}
	if mime == webrtc.MimeTypeOpus {
		capability.ClockRate, capability.Channels = 48_000, 2
		options = &lksdk.TrackPublicationOptions{Name: mime}
	}
	source := &onRequest{loop: loop{frames: list, duration: duration}}
	track, err := lksdk.NewLocalTrack(capability, lksdk.WithRTCPHandler(source.received))
	if err != nil {
		return err
	}
	if err := track.StartWrite(source, nil); err != nil {
		return err
	}
	_, err = room.LocalParticipant.PublishTrack(track, options)
	return err
}

// subscribe joins all subscribers, and waits until each receives each track. It prints how long the
// joins took, and how long it took until the first packets of all tracks.
func (c *crowd) subscribe() error {
	type joined struct {
		room        *lksdk.Room
		join, media time.Duration
		err         error
	}
	subscribers := c.options.rooms * c.options.subscribers
	results := make(chan joined, subscribers)
	for number := range subscribers {
		// At fixed times, however long a join takes.
		time.AfterFunc(time.Duration(float64(number)/c.options.rate*float64(time.Second)), func() {
			since, started := time.Now(), make(chan struct{}, c.options.tracks())
			callback := lksdk.NewRoomCallback()
			callback.OnTrackSubscribed = func(track *webrtc.TrackRemote, _ *lksdk.RemoteTrackPublication, _ *lksdk.RemoteParticipant) {
				go c.receive(track, started)
			}
			callback.OnDataPacket = func(packet lksdk.DataPacket, _ lksdk.DataReceiveParams) {
				if message, is := packet.(*lksdk.UserDataPacket); is && message.Topic == burstTopic {
					c.messages.Add(1)
				}
			}
			room, err := c.connect(number%c.options.rooms, fmt.Sprintf("subscriber-%d", number), callback)
			result := joined{room: room, join: time.Since(since), err: err}
			limit := time.After(loadPatience)
			for track := 0; err == nil && track < c.options.tracks(); track++ {
				select {
				case <-started:
				case <-limit:
					err = fmt.Errorf("subscriber-%d received %d of %d tracks", number, track, c.options.tracks())
				}
			}
			result.media, result.err = time.Since(since), err
			results <- result
		})
	}
	joins, media := []float64{}, []float64{}
	milliseconds := func(length time.Duration) float64 { return float64(length.Microseconds()) / 1000 }
	var failed error
	for range subscribers {
		result := <-results
		if result.room != nil {
			c.subscribers = append(c.subscribers, result.room)
		}
		failed = errors.Join(failed, result.err)
		joins, media = append(joins, milliseconds(result.join)), append(media, milliseconds(result.media))
	}
	if failed != nil {
		return failed
	}
	emit("subscribed", map[string]any{"join_ms": joins, "media_ms": media})
	return nil
}

// receive counts the packets of a track.
func (c *crowd) receive(track *webrtc.TrackRemote, started chan<- struct{}) {
	buffer := make([]byte, 2048)
	var last uint16
	for first := true; ; first = false {
		length, _, err := track.Read(buffer)
		if err != nil || length < 12 {
			return
		}
		sequence := binary.BigEndian.Uint16(buffer[2:])
		if first {
			started <- struct{}{}
		} else {
			// A retransmission that arrives late takes its own gap back.
			c.missing.Add(int64(int16(sequence - last - 1)))
		}
		last = sequence
		c.packets.Add(1)
		c.bytes.Add(int64(length))
	}
}

// data sends the first publisher's messages, all at once, and then its file; it prints how many messages
// arrived, and how long the file took until the last subscriber had it.
func (c *crowd) data() error {
	files := make(chan bool, len(c.subscribers))
	for _, room := range c.subscribers {
		err := room.RegisterByteStreamHandler(streamTopic, func(reader *lksdk.ByteStreamReader, _ string) {
			files <- bytes.Equal(reader.ReadAll(), pattern(c.options.file))
		})
		if err != nil {
			return err
		}
	}
	sender := client{room: c.publishers[0]}
	wanted := int64(c.options.messages * len(c.subscribers))
	begun := time.Now()
	if err := sender.burst(strconv.Itoa(c.options.messages), strconv.Itoa(c.options.size)); err != nil {
		return err
	}
	for limit := begun.Add(dataPatience); c.messages.Load() < wanted && time.Now().Before(limit); {
		time.Sleep(time.Millisecond)
	}
	burst := time.Since(begun)
	begun = time.Now()
	if err := sender.stream(strconv.Itoa(c.options.file)); err != nil {
		return err
	}
	intact, limit := 0, time.After(dataPatience)
	for range c.subscribers {
		select {
		case same := <-files:
			if same {
				intact++
			}
		case <-limit:
			limit = time.After(0)
		}
	}
	emit("data", map[string]any{
		"wanted": wanted, "messages": c.messages.Load(), "messages_ms": burst.Milliseconds(),
		"files_wanted": len(c.subscribers), "files": intact, "file_ms": time.Since(begun).Milliseconds(),
	})
	return nil
}
