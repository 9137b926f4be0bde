use super::*;

fn credentials(name: &str) -> IceCredentials {
    IceCredentials { ufrag: name.into(), pwd: format!("{name}-password-of-22-chars") }
}

fn check(ours: &IceCredentials, theirs: &str, priority: u32, nominates: bool) -> Vec<u8> {
    let username = format!("{}:{theirs}", ours.ufrag);
    let message = StunMessage::binding_request(&username, TransId::new(), true, 7, priority, nominates);
    let mut bytes = vec![0; 512];
    let len = message.to_bytes(Some(ours.pwd.as_bytes()), &mut bytes, hmac_sha1).unwrap();
    bytes.truncate(len);
    bytes
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 9], port))
}

/// Our preferred candidate.
fn first() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 7882))
}

/// Our second candidate.
fn second() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 1], 7882))
}

/// What the peer answers to our check; none when the datagram is none.
fn answer(theirs: &IceCredentials, Transmit { to, datagram, .. }: &Transmit) -> Option<Vec<u8>> {
    let message = StunMessage::parse(datagram).unwrap();
    if !message.is_binding_request() {
        return None;
    }
    let mut bytes = vec![0; 512];
    let reply = StunMessage::binding_reply(message.trans_id(), *to);
    let len = reply.to_bytes(Some(theirs.pwd.as_bytes()), &mut bytes, hmac_sha1).unwrap();
    bytes.truncate(len);
    Some(bytes)
}

/// A check arrives from a peer that is at the address, so it answers ours. Returns what is sent.
fn honest(
    lite: &mut IceLite,
    now: Instant,
    (from, to): (SocketAddr, SocketAddr),
    check: &[u8],
) -> Vec<Transmit> {
    let mut out = TransmitQueue::new();
    assert!(lite.handle(now, from, to, check, &mut out));
    let theirs = lite.remote.clone().unwrap();
    for sent in &out {
        if let Some(answer) = answer(&theirs, sent) {
            assert!(lite.handle(now, sent.to, sent.from.unwrap(), &answer, &mut TransmitQueue::new()));
        }
    }
    out.into()
}

#[test]
fn nominated_pair_selects_our_address_too() {
    let (mut lite, ours) = agent();
    let now = Instant::now();
    let mut check_arrives = |to: SocketAddr, nominates: bool| {
        honest(&mut lite, now, (addr(1), to), &check(&ours, "them", 5, nominates));
        lite.pair()
    };
    assert_eq!(check_arrives(second(), true), Some((addr(1), second())));
    assert_eq!(check_arrives(first(), false), Some((addr(1), second())), "a check without nomination");
    assert_eq!(
        check_arrives(first(), true),
        Some((addr(1), first())),
        "the preferred of two nominated pairs"
    );
    assert_eq!(check_arrives(second(), true), Some((addr(1), first())), "the preferred one stays selected");
}

fn agent() -> (IceLite, IceCredentials) {
    let ours = credentials("ours");
    let mut lite = IceLite::new(ours.clone(), vec![first(), second()]);
    lite.set_remote(credentials("them"));
    (lite, ours)
}

#[test]
fn unknown_address_that_authenticates_becomes_the_remote_address() {
    let (mut lite, ours) = agent();
    let (mut out, now) = (TransmitQueue::new(), Instant::now());
    assert!(lite.handle(now, addr(1), first(), &check(&ours, "them", 5, false), &mut out));
    assert_eq!(lite.remote_addr(), None, "it has not answered");
    let answer = answer(&credentials("them"), &out[1]).unwrap();
    assert!(lite.handle(now, addr(1), first(), &answer, &mut TransmitQueue::new()));
    assert_eq!(lite.remote_addr(), Some(addr(1)));
    let Transmit { to, from, datagram } = out.pop_front().unwrap();
    assert_eq!((to, from), (addr(1), Some(first())));
    let reply = StunMessage::parse(&datagram).unwrap();
    assert!(reply.is_successful_binding_response());
    assert_eq!(reply.mapped_address(), Some(addr(1)));
    assert!(reply.verify(ours.pwd.as_bytes(), hmac_sha1));
}

#[test]
fn each_check_triggers_one_of_ours_until_the_peer_nominates() {
    let (mut lite, ours) = agent();
    let now = Instant::now();
    let mut sent = |theirs: &str, nominates: bool| {
        let sent = honest(&mut lite, now, (addr(1), first()), &check(&ours, theirs, 5, nominates));
        if nominates && theirs == "them" {
            lite.set_remote(credentials("restarted"));
        }
        sent
    };
    let datagrams = sent("them", false);
    assert_eq!(datagrams.len(), 2, "the response and our check");
    assert!(StunMessage::parse(&datagrams[0].datagram).unwrap().is_successful_binding_response());
    let triggered = StunMessage::parse(&datagrams[1].datagram).unwrap();
    assert_eq!((datagrams[1].to, datagrams[1].from), (addr(1), Some(first())));
    assert!(triggered.is_binding_request());
    assert_eq!(triggered.split_username(), Some(("them", "ours")));
    assert!(triggered.verify(credentials("them").pwd.as_bytes(), hmac_sha1));
    assert!(triggered.ice_controlled().is_some() && !triggered.use_candidate());
    assert_eq!(sent("them", false).len(), 2, "the peer checks again");
    assert_eq!(sent("them", true).len(), 1, "the peer nominates");
    assert_eq!(sent("restarted", false).len(), 2, "the peer restarted");
    assert_eq!(sent("restarted", true).len(), 1);
    assert_eq!(sent("restarted", false).len(), 1, "a keepalive");
}

#[test]
fn check_with_wrong_password_or_ufrag_is_not_answered() {
    let (mut lite, ours) = agent();
    let (mut out, now) = (TransmitQueue::new(), Instant::now());
    let forged = IceCredentials { pwd: "another-password-of-22".into(), ..ours.clone() };
    assert!(!lite.handle(now, addr(1), first(), &check(&forged, "them", 5, true), &mut out));
    assert!(!lite.handle(now, addr(1), first(), &check(&ours, "unknown", 5, true), &mut out));
    assert!(!lite.handle(now, addr(1), first(), &check(&credentials("other"), "them", 5, true), &mut out));
    assert!(out.is_empty());
    assert!(!lite.is_authenticated(addr(1)));
}

#[test]
fn aggressive_nomination_selects_the_highest_priority() {
    let (mut lite, ours) = agent();
    let now = Instant::now();
    for (port, priority) in [(1, 10), (2, 30), (3, 20)] {
        honest(&mut lite, now, (addr(port), first()), &check(&ours, "them", priority, true));
    }
    assert_eq!(lite.remote_addr(), Some(addr(2)));
}

/// The answers come a round trip later, in any order.
#[test]
fn aggressive_nomination_selects_the_highest_priority_whose_answers_are_late() {
    for answers in [[0, 1, 2], [1, 2, 0], [2, 0, 1]] {
        let (mut lite, ours) = agent();
        let (mut out, now) = (TransmitQueue::new(), Instant::now());
        for (port, priority) in [(1, 10), (2, 30), (3, 20)] {
            lite.handle(now, addr(port), first(), &check(&ours, "them", priority, true), &mut out);
        }
        let checks: Vec<_> =
            out.iter().filter_map(|sent| Some((sent.to, answer(&credentials("them"), sent)?))).collect();
        for (nth, at) in answers.into_iter().enumerate() {
            let (from, answer) = &checks[at];
            let later = now + Duration::from_millis(1_500 * (nth as u64 + 1));
            assert!(lite.handle(later, *from, first(), answer, &mut TransmitQueue::new()));
        }
        assert_eq!(lite.remote_addr(), Some(addr(2)), "{answers:?}");
    }
}

#[test]
fn peer_that_moves_to_a_lower_priority_is_followed() {
    let (mut lite, ours) = agent();
    let now = Instant::now();
    let arrives = |lite: &mut IceLite, now, port, priority, nominates| {
        honest(lite, now, (addr(port), first()), &check(&ours, "them", priority, nominates));
    };
    arrives(&mut lite, now, 1, 30, true);
    arrives(&mut lite, now, 1, 30, false);
    arrives(&mut lite, now, 2, 10, true);
    assert_eq!(lite.remote_addr(), Some(addr(2)));
    // The same when the checks on the preferred path stop.
    arrives(&mut lite, now, 1, 30, true);
    let later = now + Duration::from_secs(2);
    arrives(&mut lite, later, 2, 10, true);
    assert_eq!(lite.remote_addr(), Some(addr(2)));
}

#[test]
fn number_of_paths_is_bounded() {
    let (mut lite, ours) = agent();
    let (mut out, now) = (TransmitQueue::new(), Instant::now());
    honest(&mut lite, now, (addr(1), first()), &check(&ours, "them", 30, true));
    for port in 2..500 {
        lite.handle(now, addr(port), first(), &check(&ours, "them", 30, false), &mut out);
    }
    assert_eq!(lite.paths.len(), MAX_PATHS);
    assert_eq!(lite.remote_addr(), Some(addr(1)));
}

#[test]
fn ice_restart_keeps_the_old_path_until_the_next_nomination() {
    let (mut lite, ours) = agent();
    let (mut out, now) = (TransmitQueue::new(), Instant::now());
    honest(&mut lite, now, (addr(1), first()), &check(&ours, "them", 30, true));
    lite.set_remote(credentials("restarted"));
    assert_eq!(lite.remote_addr(), Some(addr(1)));
    assert!(!lite.handle(now, addr(1), first(), &check(&ours, "them", 30, true), &mut out));
    honest(&mut lite, now, (addr(2), first()), &check(&ours, "restarted", 10, true));
    assert_eq!(lite.remote_addr(), Some(addr(2)));
}

#[test]
fn nominated_address_that_does_not_answer_is_not_selected() {
    let (mut lite, ours) = agent();
    let (mut out, now) = (TransmitQueue::new(), Instant::now());
    let nominates = check(&ours, "them", 40, true);
    lite.handle(now, addr(9), first(), &nominates, &mut out);
    assert_eq!(lite.remote_addr(), None, "the first nomination");
    honest(&mut lite, now, (addr(1), first()), &check(&ours, "them", 30, true));
    out.clear();
    lite.handle(now, addr(9), first(), &nominates, &mut out);
    assert_eq!(lite.remote_addr(), Some(addr(1)));
    let theirs = credentials("them");
    let good = out.iter().find_map(|sent| answer(&theirs, sent)).unwrap();
    let forged = out.iter().find_map(|sent| answer(&credentials("other"), sent)).unwrap();
    let mut none = TransmitQueue::new();
    assert!(!lite.handle(now, addr(9), first(), &forged, &mut none), "another password");
    assert!(!lite.handle(now, addr(8), first(), &good, &mut none), "from another address");
    assert!(!lite.handle(now, addr(9), second(), &good, &mut none), "at another of our addresses");
    assert_eq!(lite.remote_addr(), Some(addr(1)));
    assert!(lite.handle(now, addr(9), first(), &good, &mut none));
    assert_eq!(lite.remote_addr(), Some(addr(9)));
    assert!(!lite.handle(now, addr(9), first(), &good, &mut none), "an answer counts once");
    assert!(none.is_empty());
}

/// Firefox checks a pair that has succeeded only seconds later.
#[test]
fn a_lost_check_is_sent_once_more_also_when_the_peer_begins_dtls() {
    let (mut lite, ours) = agent();
    let (mut out, start) = (TransmitQueue::new(), Instant::now());
    lite.handle(start, addr(1), first(), &check(&ours, "them", 5, true), &mut out);
    out.clear();
    let due = lite.poll_timeout().unwrap();
    lite.handle_timeout(due - Duration::from_millis(1), &mut out);
    assert!(out.is_empty());
    lite.handle_timeout(due, &mut out);
    assert_eq!((out.drain(..).count(), lite.poll_timeout()), (1, None), "once");
    lite.dtls_received(due + Duration::from_millis(50), addr(1), &mut out);
    lite.dtls_received(due + Duration::from_millis(200), addr(7), &mut out);
    assert!(out.is_empty(), "too soon, and an address without a check");
    lite.dtls_received(due + Duration::from_millis(200), addr(1), &mut out);
    let answer = answer(&credentials("them"), &out.pop_front().unwrap()).unwrap();
    assert!(lite.handle(due + Duration::from_millis(250), addr(1), first(), &answer, &mut out));
    assert_eq!(lite.remote_addr(), Some(addr(1)));
    lite.dtls_received(due + Duration::from_secs(1), addr(1), &mut out);
    assert!(out.is_empty());
}

#[test]
fn a_nomination_waits_for_its_answer_although_a_plain_check_follows() {
    let (mut lite, ours) = agent();
    let now = Instant::now();
    honest(&mut lite, now, (addr(1), first()), &check(&ours, "them", 30, true));
    lite.set_remote(credentials("restarted"));
    let mut out = TransmitQueue::new();
    lite.handle(now, addr(2), first(), &check(&ours, "restarted", 10, true), &mut out);
    lite.handle(now, addr(2), first(), &check(&ours, "restarted", 10, false), &mut out);
    assert_eq!(lite.remote_addr(), Some(addr(1)));
    let answer = out.iter().find_map(|sent| answer(&credentials("restarted"), sent)).unwrap();
    assert!(lite.handle(now, addr(2), first(), &answer, &mut TransmitQueue::new()));
    assert_eq!(lite.remote_addr(), Some(addr(2)));
}

#[test]
fn checks_to_an_address_that_does_not_answer_are_bounded() {
    let (mut lite, ours) = agent();
    let now = Instant::now();
    honest(&mut lite, now, (addr(1), first()), &check(&ours, "them", 30, true));
    let (mut out, mut checks) = (TransmitQueue::new(), 0);
    for step in 0..1_000 {
        let nominates = check(&ours, "them", 40, true);
        lite.handle(now + Duration::from_millis(step * 10), addr(9), first(), &nominates, &mut out);
        checks += out.drain(..).filter(|sent| answer(&credentials("them"), sent).is_some()).count();
    }
    assert!((9..=18).contains(&checks), "{checks} in 10 s");
}

#[test]
fn checks_to_many_addresses_that_do_not_answer_are_bounded_together() {
    let (mut lite, ours) = agent();
    let now = Instant::now();
    let (mut out, mut checks) = (TransmitQueue::new(), 0);
    for step in 0..10_000_u64 {
        let at = now + Duration::from_millis(step);
        let from = addr(1_000 + (step % 5_000) as u16);
        lite.handle(at, from, first(), &check(&ours, "them", 40, true), &mut out);
        lite.handle_timeout(at, &mut out);
        checks += out.drain(..).filter(|sent| answer(&credentials("them"), sent).is_some()).count();
    }
    assert!((100..=165).contains(&checks), "{checks} in 10 s");
}

#[test]
fn media_ends_where_the_peer_answers_no_more() {
    let (mut lite, ours) = agent();
    let start = Instant::now();
    honest(&mut lite, start, (addr(1), first()), &check(&ours, "them", 30, true));
    let theirs = credentials("them");
    let mut out = TransmitQueue::new();
    for second in (5..100).step_by(5) {
        let now = start + Duration::from_secs(second);
        lite.renew_consent(now, &mut out);
        let sent = out.pop_front().expect("a check every 5 s");
        let answer = answer(&theirs, &sent).unwrap();
        assert!(lite.handle(now, addr(1), first(), &answer, &mut out));
        assert!(out.is_empty());
    }
    // Its checks go on: whoever forges them is not asked in vain for ever.
    for second in (100..=125).step_by(5) {
        let now = start + Duration::from_secs(second);
        lite.handle(now, addr(1), first(), &check(&ours, "them", 30, true), &mut out);
        lite.renew_consent(now, &mut out);
        assert_eq!(lite.remote_addr().is_some(), second < 125, "{second}");
    }
    let now = start + Duration::from_secs(130);
    honest(&mut lite, now, (addr(1), first()), &check(&ours, "them", 30, true));
    assert_eq!(lite.remote_addr(), Some(addr(1)), "it answers again");
}

#[test]
fn controlled_peer_gets_a_role_conflict_error() {
    let (mut lite, ours) = agent();
    let (mut out, now) = (TransmitQueue::new(), Instant::now());
    let message = StunMessage::binding_request("ours:them", TransId::new(), false, 7, 1, false);
    let mut bytes = vec![0; 512];
    let len = message.to_bytes(Some(ours.pwd.as_bytes()), &mut bytes, hmac_sha1).unwrap();
    assert!(lite.handle(now, addr(1), first(), &bytes[..len], &mut out));
    let reply = out.pop_front().unwrap().datagram;
    assert_eq!(StunMessage::parse(&reply).unwrap().error_code().map(|(code, _)| code), Some(487));
    assert_eq!(lite.remote_addr(), None);
}
