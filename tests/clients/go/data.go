package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"sync"
	"time"

	lksdk "github.com/livekit/server-sdk-go/v2"
)

const (
	burstTopic  = "burst"
	streamTopic = "stream"
	// burstHeader is the length of the number of a message and the count of its burst.
	burstHeader = 8
)

// bursts counts the messages of the burst that is being received.
var bursts burst

type burst struct {
	lock    sync.Mutex
	since   time.Time
	count   uint32
	ordered bool
}

// received counts a message. With the last one of a burst it prints how many arrived, and whether in order.
func (all *burst) received(payload []byte) {
	all.lock.Lock()
	defer all.lock.Unlock()
	if len(payload) < burstHeader {
		return
	}
	number, count := binary.BigEndian.Uint32(payload), binary.BigEndian.Uint32(payload[4:])
	if all.count == 0 {
		all.since, all.ordered = time.Now(), true
	}
	all.ordered = all.ordered && number == all.count && bytes.Equal(payload[burstHeader:], pattern(len(payload)-burstHeader))
	all.count++
	if number+1 == count {
		emit("burst", map[string]any{"received": all.count, "ordered": all.ordered, "ms": time.Since(all.since).Milliseconds()})
		all.count = 0
	}
}

// pattern is the content of messages and streams.
func pattern(size int) []byte {
	content := make([]byte, size)
	for at := range content {
		content[at] = byte(at ^ at>>8 ^ at>>16)
	}
	return content
}

// burst sends reliable messages without a pause.
func (me *client) burst(count, size string) error {
	messages, err := strconv.ParseUint(count, 10, 32)
	if err != nil {
		return err
	}
	length, err := strconv.Atoi(size)
	if err != nil || length < burstHeader {
		return errors.New("a message is too short")
	}
	content := append(make([]byte, burstHeader), pattern(length-burstHeader)...)
	binary.BigEndian.PutUint32(content[4:], uint32(messages))
	for number := range uint32(messages) {
		binary.BigEndian.PutUint32(content, number)
		data := lksdk.UserData(bytes.Clone(content))
		if err := me.room.LocalParticipant.PublishDataPacket(data, lksdk.WithDataPublishReliable(true), lksdk.WithDataPublishTopic(burstTopic)); err != nil {
			return err
		}
	}
	return nil
}

// stream sends a data stream of that many bytes, and waits until all are written.
func (me *client) stream(size string) error {
	length, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	since, written := time.Now(), make(chan struct{})
	writer := me.room.LocalParticipant.StreamBytes(lksdk.StreamBytesOptions{Topic: streamTopic, TotalSize: uint64(length)})
	done := func() { close(written) }
	writer.Write(pattern(length), &done)
	<-written
	writer.Close()
	emit("written", map[string]any{"ms": time.Since(since).Milliseconds()})
	return nil
}

// readStream reads a data stream and prints whether it arrived byte for byte.
func readStream(reader *lksdk.ByteStreamReader, identity string) {
	since := time.Now()
	content := reader.ReadAll()
	emit("stream", map[string]any{
		"participant": identity, "bytes": len(content), "intact": bytes.Equal(content, pattern(len(content))),
		"ms": time.Since(since).Milliseconds(),
	})
}
