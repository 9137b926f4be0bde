use super::*;

const PACKET: usize = 1200;

fn ms(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

/// Bytes of ten seconds in which each millisecond as much is sent as may be.
fn sent(mut may_send: impl FnMut(&mut SendControl, Instant) -> bool) -> u64 {
    let start = Instant::now();
    let mut control = SendControl::new(start, true);
    let mut bytes = 0;
    for now in (0..10_000).map(|at| ms(start, at)) {
        while may_send(&mut control, now) {
            bytes += PACKET as u64;
        }
    }
    bytes
}

#[test]
fn retransmissions_take_no_more_than_a_fifth_of_the_estimate() {
    let bytes = sent(|control, now| {
        let may = control.may_retransmit(now, false);
        if may {
            control.sent(now, PACKET, true);
        }
        may
    });
    let part = LIMITS.start / 8 * 10 / RETRANSMISSION_PART;
    assert!((part..part * 11 / 10).contains(&bytes), "{bytes} instead of {part}");
}

#[test]
fn data_messages_take_no_more_than_the_estimate_and_video_does_not_wait_for_them() {
    let bytes = sent(|control, now| {
        let may = control.may_send_data(now);
        if may {
            control.sent_data(now, PACKET);
        } else {
            assert!(control.next_wake(now, false).is_some_and(|wake| wake > now));
            assert!(!control.resumes_data(now));
        }
        assert!(control.may_send(now));
        may
    });
    let part = LIMITS.start / 8 * 10;
    assert!((part..part * 11 / 10).contains(&bytes), "{bytes} instead of {part}");
}

#[test]
fn on_a_path_that_carries_all_video_data_is_limited_by_its_own_congestion_control() {
    let bytes = sent(|control, now| {
        control.set_outcome(now, Outcome::default());
        let may = control.may_send_data(now);
        if may {
            control.sent_data(now, PACKET);
        }
        may
    });
    assert!(bytes > LIMITS.max / 8 * 9, "{bytes}");
}

#[test]
fn a_reader_gets_data_messages_however_low_the_estimate_is() {
    let start = Instant::now();
    let mut control = SendControl::new(start, false);
    control.remb(start, 1_000);
    let mut bytes = 0;
    for now in (0..10_000).map(|at| ms(start, at)) {
        while control.may_send_data(now) {
            control.sent_data(now, PACKET);
            bytes += PACKET as u64;
        }
    }
    assert!(bytes >= MIN_DATA_RATE / 8 * 10, "{bytes}");
}

#[test]
fn on_a_slow_path_nothing_of_a_layer_that_is_not_sent_any_more_is_sent_again() {
    let start = Instant::now();
    let mut control = SendControl::new(start, true);
    control.set_outcome(start, Outcome { wanted: 500_000, allocated: 500_000, trial: 0 });
    assert!(control.may_retransmit(start, true));
    control.set_outcome(start, Outcome { wanted: 500_000, allocated: 150_000, trial: 0 });
    assert!(!control.may_retransmit(start, true));
    assert!(control.may_retransmit(start, false));
}

#[test]
fn video_is_sent_at_the_pace_of_the_estimate() {
    let bytes = sent(|control, now| {
        let may = control.may_send(now);
        if may {
            control.sent(now, PACKET, false);
        } else {
            assert!(control.next_wake(now, true).is_some_and(|wake| wake > now));
            assert_eq!(control.next_wake(now, false), None);
        }
        may
    });
    let pace = LIMITS.start / 8 * 10;
    assert!((pace..pace * 3 / 2).contains(&bytes), "{bytes} instead of {pace}");
}

#[test]
fn a_probe_is_spread_and_ends() {
    let start = Instant::now();
    let mut control = SendControl::new(start, true);
    assert!(!control.begin_filler(start, false), "nothing is wanted");
    control.set_outcome(start, Outcome { wanted: 5_000_000, allocated: 500_000, trial: 0 });
    let mut times = Vec::new();
    for now in (0..400).map(|at| ms(start, at)) {
        control.handle_timeout(now);
        while control.begin_filler(now, false) {
            control.sent(now, PACKET, true);
            assert!(control.end_filler());
            times.push(now);
        }
    }
    times.dedup();
    assert!(times.len() >= 5, "{times:?}");
    // All were sent: the estimator waits for feedback.
    let end = ms(start, 401);
    assert!(!control.begin_filler(end, false));
    assert!(control.may_send(end), "media does not wait behind a probe");
}

#[test]
fn a_slow_probe_consists_of_padding() {
    let start = Instant::now();
    let mut control = SendControl::new(start, true);
    control.set_outcome(start, Outcome { wanted: 5_000_000, allocated: 500_000, trial: 0 });
    assert!(control.begin_filler(start, false));
    assert!(control.takes_long_filler());
    let mut control = SendControl::new(start, true);
    control.congestion = CongestionControl::new(start, BitrateLimits { start: 50_000, ..LIMITS });
    control.set_outcome(start, Outcome { wanted: 150_000, allocated: 0, trial: 0 });
    assert!(control.begin_filler(start, false));
    assert!(!control.takes_long_filler());
}

#[test]
fn a_trial_sends_what_a_higher_layer_would_add_while_no_video_waits() {
    let start = Instant::now();
    let mut control = SendControl::new(start, true);
    control.set_outcome(start, Outcome { wanted: 0, allocated: 0, trial: 500_000 });
    let mut bytes = 0;
    for now in (0..1000).map(|at| ms(start, at)) {
        assert!(!control.begin_filler(now, true), "video waits");
        while control.begin_filler(now, false) {
            control.sent(now, PACKET, true);
            assert!(control.end_filler());
            bytes += PACKET;
        }
        assert!(control.may_send(now), "media does not wait behind it");
    }
    assert!((58_000..65_000).contains(&bytes), "{bytes}");
    control.set_outcome(ms(start, 1000), Outcome::default());
    assert!(!control.begin_filler(ms(start, 1100), false));
}

#[test]
fn an_estimate_that_fell_is_divided_at_once() {
    let start = Instant::now();
    let mut control = SendControl::new(start, true);
    assert!(control.begin_division(start));
    assert!(!control.begin_division(ms(start, 100)));
    control.congestion = CongestionControl::new(start, BitrateLimits { start: 1_000_000, ..LIMITS });
    assert!(control.begin_division(ms(start, 100)));
    assert!(!control.begin_division(ms(start, 299)));
    assert!(control.begin_division(ms(start, 300)));
    control.divide_soon(ms(start, 310));
    assert!(control.begin_division(ms(start, 310)));
}

#[test]
fn a_probe_of_which_nothing_can_be_written_is_given_up() {
    let start = Instant::now();
    let mut control = SendControl::new(start, true);
    control.set_outcome(start, Outcome { wanted: 5_000_000, allocated: 500_000, trial: 0 });
    let mut tries = 0;
    while control.begin_filler(start, false) {
        assert!(!control.end_filler());
        tries += 1;
    }
    assert!((1..10).contains(&tries), "{tries}");
}

/// Bob's client reports that its path carries this much, and more is wanted than video and data get. Returns the control
/// with the sum of what was sent in eight seconds of which data was sent all the time, bits per second.
fn with_data(start: Instant, estimate: u64, video: u64) -> (SendControl, u64) {
    let mut control = SendControl::new(start, false);
    let mut bytes = 0;
    for at in 0..10_000 {
        let now = ms(start, at);
        if at % 100 == 0 {
            control.remb(now, estimate);
            control.handle_timeout(now);
        }
        if control.begin_division(now) {
            let allocated = video.min(control.budget());
            control.set_outcome(now, Outcome { wanted: 5_000_000, allocated, trial: 0 });
        }
        let mut sent = 0;
        while control.may_send_data(now) {
            control.sent_data(now, PACKET);
            sent += PACKET as u64;
        }
        // As much video as is allocated, and no faster than its pace.
        while control.may_send(now) {
            control.sent_unnumbered(now, PACKET, false);
            sent += PACKET as u64;
        }
        bytes += if at >= 2_000 { sent } else { 0 };
    }
    (control, bytes)
}

#[test]
fn data_and_video_together_take_no_more_than_the_estimate_and_a_pace() {
    let start = Instant::now();
    let (mut control, bits) = with_data(start, 1_000_000, 850_000);
    // Video leaves up to a fifth faster than what is allocated.
    assert!(bits <= 1_150_000, "{bits}");
    let budget = control.budget();
    assert!((500_000..560_000).contains(&budget), "half is left for video: {budget}");
    // The data has been sent.
    for at in (10_000..12_000).step_by(100) {
        control.handle_timeout(ms(start, at));
    }
    assert_eq!(control.budget(), 1_000_000);
}

#[test]
fn data_takes_what_video_cannot_use() {
    let (control, _) = with_data(Instant::now(), 1_000_000, 150_000);
    assert_eq!(control.budget(), 500_000);
    assert_eq!(control.allocated, 150_000);
}

#[test]
fn data_takes_nothing_from_video_on_a_path_that_was_never_too_slow() {
    let start = Instant::now();
    let mut control = SendControl::new(start, true);
    control.set_outcome(start, Outcome { wanted: 3_000_000, allocated: 1_500_000, trial: 0 });
    for at in 0..3_000 {
        let now = ms(start, at);
        if control.may_send_data(now) {
            control.sent_data(now, PACKET);
        }
        control.update_pace(now);
    }
    assert_eq!(control.budget(), LIMITS.start);
}

#[test]
fn audio_is_no_part_of_what_the_clients_own_estimate_leaves_for_video() {
    let start = Instant::now();
    let mut control = SendControl::new(start, false);
    control.remb(start, 500_000);
    for at in (0..2_000).step_by(20) {
        control.sent_audio(ms(start, at), 160);
        control.handle_timeout(ms(start, at));
    }
    assert_eq!(control.budget(), 500_000 - 64_000);
}

/// Bytes of video of ten seconds. `waits`: how long the next packet has waited whenever some still wait, milliseconds.
fn video_sent(waits: u64) -> u64 {
    sent(|control, now| {
        let may = control.may_send(now);
        if may {
            control.sent_unnumbered(now, PACKET, false);
        } else {
            control.set_waits(now, now.checked_sub(Duration::from_millis(waits)));
        }
        may
    })
}

#[test]
fn video_leaves_faster_when_its_next_packet_has_waited_for_long_and_not_when_some_packet_always_waits() {
    let (short, long) = (video_sent(100), video_sent(500));
    let part = LIMITS.start / 8 * 10 / 5 * 6;
    assert!((part..part * 11 / 10).contains(&short), "{short} instead of {part}");
    assert!(long > short / 10 * 25, "{long}, {short} before");
}
