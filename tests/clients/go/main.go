// LiveKit's unchanged Go SDK (pion) in a meeting. It reads a command from each line of standard input and
// prints each event as a JSON object per line.
//
//	client URL TOKEN [--no-auto-subscribe]
//	client load [-help] (many participants in one process, to measure a server)
//
//	publish NAME vp8|h264|opus|simulcast   mute NAME · unmute NAME · unpublish NAME
//	data reliable|lossy TEXT [IDENTITY]    name TEXT · metadata TEXT · attribute KEY VALUE
//	burst COUNT SIZE (reliable messages, all at once)   stream SIZE (bytes, as a data stream)
//	subscribe|unsubscribe IDENTITY NAME    quality IDENTITY NAME low|medium|high|off
//	sdp (the descriptions of both connections)                        leave
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/livekit/protocol/logger"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
)

var output sync.Mutex

// emit prints an event.
func emit(event string, fields map[string]any) {
	if fields == nil {
		fields = map[string]any{}
	}
	fields["event"] = event
	line, err := json.Marshal(fields)
	if err != nil {
		return
	}
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(line))
}

// client is a participant.
type client struct {
	room      *lksdk.Room
	published map[string]*lksdk.LocalTrackPublication
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: client URL TOKEN [--no-auto-subscribe]")
		os.Exit(64)
	}
	lksdk.SetLogger(logger.GetDiscardLogger())
	if os.Args[1] == "load" {
		if err := load(os.Args[2:]); err != nil {
			emit("failed", map[string]any{"reason": err.Error()})
			os.Exit(1)
		}
		return
	}
	auto := len(os.Args) < 4 || os.Args[3] != "--no-auto-subscribe"
	room, err := lksdk.ConnectToRoomWithToken(os.Args[1], os.Args[2], callbacks(), lksdk.WithAutoSubscribe(auto))
	if err != nil {
		emit("refused", map[string]any{"reason": err.Error()})
		os.Exit(2)
	}
	emit("connected", map[string]any{"attributes": room.LocalParticipant.Attributes(), "sid": room.LocalParticipant.SID()})
	me := client{room: room, published: map[string]*lksdk.LocalTrackPublication{}}
	if err := room.RegisterByteStreamHandler(streamTopic, readStream); err != nil {
		emit("failed", map[string]any{"reason": err.Error()})
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		if words[0] == "leave" {
			break
		}
		if err := me.run(words[0], words[1:]); err != nil {
			emit("failed", map[string]any{"command": lines.Text(), "reason": err.Error()})
		} else {
			emit("done", map[string]any{"command": lines.Text()})
		}
	}
	room.Disconnect()
	// The leave request is sent in the background.
	time.Sleep(200 * time.Millisecond)
	emit("left", nil)
}

// run runs a command.
func (me *client) run(verb string, words []string) error {
	word := func(at int) string {
		if at < len(words) {
			return words[at]
		}
		return ""
	}
	switch verb {
	case "publish":
		publication, err := me.publish(word(0), word(1))
		if err != nil {
			return err
		}
		me.published[word(0)] = publication
		return nil
	case "mute", "unmute", "unpublish":
		publication, there := me.published[word(0)]
		if !there {
			return errors.New("no track of that name is published")
		}
		if verb == "unpublish" {
			delete(me.published, word(0))
			return me.room.LocalParticipant.UnpublishTrack(publication.SID())
		}
		publication.SetMuted(verb == "mute")
		return nil
	case "data":
		options := []lksdk.DataPublishOption{lksdk.WithDataPublishReliable(word(0) == "reliable"), lksdk.WithDataPublishTopic("test")}
		if word(2) != "" {
			options = append(options, lksdk.WithDataPublishDestination([]string{word(2)}))
		}
		return me.room.LocalParticipant.PublishDataPacket(lksdk.UserData([]byte(word(1))), options...)
	case "burst":
		return me.burst(word(0), word(1))
	case "stream":
		return me.stream(word(0))
	case "name":
		me.room.LocalParticipant.SetName(word(0))
		return nil
	case "metadata":
		me.room.LocalParticipant.SetMetadata(word(0))
		return nil
	case "attribute":
		me.room.LocalParticipant.SetAttributes(map[string]string{word(0): word(1)})
		return nil
	case "subscribe", "unsubscribe", "quality":
		publication, err := me.remote(word(0), word(1))
		if err != nil {
			return err
		}
		if verb != "quality" {
			return publication.SetSubscribed(verb == "subscribe")
		}
		if word(2) == "off" {
			publication.SetEnabled(false)
			return nil
		}
		qualities := map[string]livekit.VideoQuality{"low": livekit.VideoQuality_LOW, "medium": livekit.VideoQuality_MEDIUM, "high": livekit.VideoQuality_HIGH}
		if !publication.IsEnabled() {
			publication.SetEnabled(true)
		}
		return publication.SetVideoQuality(qualities[word(2)])
	case "sdp":
		local := func(pc *webrtc.PeerConnection) string {
			if pc == nil || pc.LocalDescription() == nil {
				return ""
			}
			return pc.LocalDescription().SDP
		}
		emit("sdp", map[string]any{
			"publisher":  local(me.room.LocalParticipant.GetPublisherPeerConnection()),
			"subscriber": local(me.room.LocalParticipant.GetSubscriberPeerConnection()),
		})
		return nil
	default:
		return errors.New("there is no such command")
	}
}

// remote finds the publication of another participant.
func (me *client) remote(identity, name string) (*lksdk.RemoteTrackPublication, error) {
	participant := me.room.GetParticipantByIdentity(identity)
	if participant == nil {
		return nil, errors.New("there is no such participant")
	}
	for _, publication := range participant.TrackPublications() {
		if remote, is := publication.(*lksdk.RemoteTrackPublication); is && publication.Name() == name {
			return remote, nil
		}
	}
	return nil, errors.New("the participant publishes no track of that name")
}
