//! Layers that nobody wants are turned off at their publisher, and return when they are wanted. The tests turn them
//! off and on as a client does that is told.

use super::*;

/// Voice packets of two seconds: a layer that stopped before has ended.
const A_WHILE: usize = 100;

/// The layers of the camera that the publisher's node wants now.
fn wanted(harness: &mut Harness) -> LayerSet {
    let told = harness.events().iter().rev().find_map(|event| match event {
        WorkerEvent::Wanted { track: CAMERA, layers } => Some(*layers),
        _ => None,
    });
    told.unwrap_or_default()
}

fn of_layer(client: &Client, layer: u8) -> usize {
    client.packets(6000).iter().filter(|packet| layer_of(&packet.payload) == Some(layer)).count()
}

/// The camera of alice, whose client does as it is told, and bob who receives it.
struct Meeting {
    alice: Client,
    bob: Client,
    camera: Camera,
}

impl Meeting {
    /// Alice sends until `done`.
    fn run(&mut self, what: &str, mut done: impl FnMut(&Client, &Client, &mut Camera) -> bool) {
        let Self { alice, bob, camera } = self;
        let mut next = Instant::now();
        run_until(&mut [alice, bob], what, |clients| {
            if Instant::now() >= next {
                next = Instant::now() + Duration::from_millis(20);
                camera.step(clients[0]);
            }
            done(clients[0], clients[1], camera)
        });
    }

    fn run_a_while(&mut self, mut meanwhile: impl FnMut()) {
        let before = self.bob.packets(5000).len();
        self.run("voice for a while", |_, bob, _| {
            meanwhile();
            bob.packets(5000).len() >= before + A_WHILE
        });
    }

    /// Bob receives the highest layer again, which was off, and the lowest one until it starts.
    fn highest_returns(&mut self, mut meanwhile: impl FnMut()) {
        let requests = self.alice.key_frame_requests(Some("f"));
        let (lowest, highest) = (of_layer(&self.bob, 0), of_layer(&self.bob, 2));
        let mut requested = false;
        self.run("the highest layer", |alice, bob, camera| {
            meanwhile();
            camera.off = 0;
            requested |= alice.key_frame_requests(Some("f")) > requests;
            assert!(requested || of_layer(bob, 2) == highest, "a layer starts with a key frame");
            of_layer(bob, 2) >= highest + 10
        });
        assert!(requested, "its encoder went on without a key frame");
        assert!(of_layer(&self.bob, 0) > lowest, "the lowest layer was sent meanwhile");
        for pair in self.bob.packets(6000).windows(2) {
            assert_eq!(*pair[1].seq_no, *pair[0].seq_no + 1, "nothing is missing");
        }
    }
}

#[test]
fn a_layer_that_nobody_wants_is_turned_off_at_its_publisher_and_returns() {
    let (mut harness, alice, bob) = meet();
    let mut meeting = Meeting { alice, bob, camera: Camera::default() };
    meeting.run("the highest layer", |_, bob, _| of_layer(bob, 2) >= 10);
    assert!(wanted(&mut harness).contains(Layer(2)));
    demand(&harness, Some(Layer(0)));
    meeting.run("only the lowest layer to be wanted", |_, _, _| wanted(&mut harness) == LayerSet(0b001));
    meeting.camera.off = 0b110;
    meeting.run_a_while(|| ());
    demand(&harness, Some(Layer(2)));
    meeting.run("the highest layer to be wanted", |_, _, _| wanted(&mut harness).contains(Layer(2)));
    meeting.highest_returns(|| ());
    demand(&harness, None);
    meeting.run("no layer to be wanted", |_, _, _| wanted(&mut harness).is_empty());
}

#[test]
fn a_layer_that_nobody_wants_behind_a_link_is_turned_off_at_its_publisher_and_returns() {
    let (mut a, mut b) = linked();
    let (mut alice, _) = a.join(ALICE);
    let (_, mut bob) = b.join(BOB);
    a.publish(ALICE, &mut alice);
    add_link_tracks(&b);
    b.subscribe(BOB, &mut bob);
    connect(&mut a, &mut [&mut alice, &mut bob], &[(ALICE, Side::Publisher)]);
    run_until(&mut [&mut alice, &mut bob], "bob", |_| connected(&mut b, BOB, Side::Subscriber));
    let mut meeting = Meeting { alice, bob, camera: Camera::default() };
    meeting.run("the highest layer", |_, bob, _| {
        relay_control(&a, &mut b);
        of_layer(bob, 2) >= 10
    });
    assert!(wanted(&mut a).contains(Layer(2)));
    demand(&b, Some(Layer(0)));
    meeting.run("only the lowest layer to be wanted", |_, _, _| {
        relay_control(&a, &mut b);
        wanted(&mut a) == LayerSet(0b001)
    });
    meeting.camera.off = 0b110;
    meeting.run_a_while(|| relay_control(&a, &mut b));
    demand(&b, Some(Layer(2)));
    meeting.run("the highest layer to be wanted", |_, _, _| {
        relay_control(&a, &mut b);
        wanted(&mut a).contains(Layer(2))
    });
    meeting.highest_returns(|| relay_control(&a, &mut b));
}

#[test]
fn a_subscriber_asks_for_no_layer_before_its_connection_is_up() {
    let mut harness = Harness::new();
    let (mut alice, _) = harness.join(ALICE);
    harness.publish(ALICE, &mut alice);
    let [_, (side, mut bob)] = harness.add_participant(BOB);
    harness.subscribe(BOB, &mut bob);
    connect(&mut harness, &mut [&mut alice], &[(ALICE, Side::Publisher)]);
    assert!(wanted(&mut harness).is_empty());
    let remote = bob.remote();
    harness.command(WorkerCommand::Remote { participant: ParticipantKey(BOB), side, remote });
    run_until(&mut [&mut alice, &mut bob], "a wanted layer", |_| wanted(&mut harness).contains(Layer(2)));
}
