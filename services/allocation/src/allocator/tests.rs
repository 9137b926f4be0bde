use proptest::prelude::*;
use systir_rtp::packet::{Layer, LayerSet};

use super::*;
use crate::LayerRates;

const ALL: LayerSet = LayerSet(0b111);
/// The pause between two calls.
const PASS: Duration = Duration::from_millis(200);

/// Layers with three temporal layers each: a half, three quarters and all of the rate.
fn temporal(rates: [u32; 3]) -> LayerRates {
    LayerRates(rates.map(|rate| [rate / 2, rate * 3 / 4, rate, rate]))
}

fn camera() -> VideoDemand {
    VideoDemand {
        source: VideoSource::Camera,
        wanted: Some(Layer(2)),
        shown_pixels: 640 * 360,
        importance: Importance::Ordinary,
        rates: LayerRates([[150_000; 4], [500_000; 4], [1_700_000; 4]]),
        declared: ALL,
        live: ALL,
        current: None,
    }
}

fn screen() -> VideoDemand {
    let rates = temporal([200_000, 600_000, 2_000_000]);
    VideoDemand { source: VideoSource::ScreenShare, rates, ..camera() }
}

/// The calls for one connection, 200 ms apart.
#[derive(Clone)]
struct Connection {
    allocator: Allocator<u32>,
    now: Instant,
    out: Vec<(u32, Option<Rung>)>,
    outcome: Outcome,
}

impl Connection {
    fn new() -> Self {
        Self {
            allocator: Allocator::new(),
            now: Instant::now(),
            out: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    fn pass(&mut self, budget: u64, tracks: &[VideoDemand]) {
        let tracks: Vec<(u32, VideoDemand)> = (0..).zip(tracks.iter().copied()).collect();
        self.outcome = self.allocator.allocate(self.now, budget, &tracks, &mut self.out);
        self.now += PASS;
    }

    fn passes(&mut self, count: usize, budget: u64, tracks: &[VideoDemand]) {
        for _ in 0..count {
            self.pass(budget, tracks);
        }
    }

    fn rungs(&self) -> Vec<Option<Rung>> {
        self.out.iter().map(|(_, rung)| *rung).collect()
    }

    fn layers(&self) -> Vec<Option<u8>> {
        self.out.iter().map(|(_, rung)| rung.map(|rung| rung.layer.0)).collect()
    }
}

/// A connection after ten seconds.
fn settled(budget: u64, tracks: &[VideoDemand]) -> Connection {
    let mut connection = Connection::new();
    connection.passes(50, budget, tracks);
    connection
}

#[test]
fn every_track_gets_its_lowest_layer_before_one_is_raised() {
    let mut connection = Connection::new();
    connection.pass(10_000_000, &[camera(), camera(), camera()]);
    assert_eq!(connection.layers(), [Some(1), Some(0), Some(0)]);
    let connection = settled(800_000, &[camera(), camera(), camera()]);
    assert_eq!(connection.layers(), [Some(0); 3]);
}

#[test]
fn of_pinned_tracks_the_one_with_the_higher_number_gets_bandwidth_first() {
    let pinned = |rank| VideoDemand { importance: Importance::Pinned(rank), ..camera() };
    let connection = settled(2_500_000, &[camera(), pinned(1), pinned(2)]);
    assert_eq!(connection.layers(), [Some(0), Some(0), Some(2)]);
    let connection = settled(200_000, &[camera(), pinned(1), pinned(2)]);
    assert_eq!(connection.layers(), [None, None, Some(0)]);
}

#[test]
fn tracks_are_raised_one_after_another_up_to_what_was_asked_for() {
    let tracks = [camera(), VideoDemand { wanted: Some(Layer(1)), ..camera() }, camera()];
    let mut connection = Connection::new();
    let mut raised = 0;
    let mut before = vec![None; 3];
    for pass in 0..20 {
        connection.pass(10_000_000, &tracks);
        let now = connection.layers();
        let changed = before.iter().zip(&now).filter(|(before, now)| now > before).count();
        assert!(pass == 0 || changed <= 1, "{before:?} {now:?}");
        raised += changed;
        before = now;
    }
    assert!(raised > 3);
    assert_eq!(connection.layers(), [Some(2), Some(1), Some(2)]);
    assert_eq!(connection.outcome.allocated, connection.outcome.wanted);
}

#[test]
fn with_room_for_audio_only_all_video_is_paused_and_returns() {
    let tracks = [screen(), camera(), camera()];
    let mut connection = settled(5_000_000, &tracks);
    connection.pass(64_000, &tracks);
    assert_eq!(connection.rungs(), [None; 3]);
    assert_eq!(connection.outcome.allocated, 0);
    connection.passes(300, 5_000_000, &tracks);
    assert!(connection.rungs().iter().all(Option::is_some));
}

#[test]
fn a_screen_share_keeps_its_layer_and_loses_frames_first() {
    let mut connection = settled(4_000_000, &[screen()]);
    assert_eq!(connection.rungs(), [Some(Rung::all_of(Layer(2)))]);
    connection.pass(1_600_000, &[screen()]);
    assert_eq!(connection.rungs(), [Some(Rung { layer: Layer(2), temporal: 1 })]);
    connection.pass(1_100_000, &[screen()]);
    assert_eq!(connection.rungs(), [Some(Rung { layer: Layer(2), temporal: 0 })]);
    connection.pass(700_000, &[screen()]);
    assert_eq!(connection.rungs(), [Some(Rung::all_of(Layer(1)))]);
}

#[test]
fn a_camera_keeps_its_frames_and_its_layer_changes() {
    let tracks = [VideoDemand { rates: temporal([150_000, 500_000, 1_700_000]), ..camera() }];
    let mut connection = settled(4_000_000, &tracks);
    connection.pass(1_500_000, &tracks);
    assert_eq!(connection.rungs(), [Some(Rung::all_of(Layer(1)))], "not some of the frames");
    connection.pass(120_000, &tracks);
    assert_eq!(connection.rungs(), [Some(Rung { layer: Layer(0), temporal: 1 })], "no layer is lower");
}

#[test]
fn until_the_key_frame_of_a_lower_layer_fewer_frames_of_the_present_one_are_sent() {
    let (high, low) = (Rung::all_of(Layer(2)), Rung::all_of(Layer(1)));
    assert_eq!(low.until_key_frame(high), Rung { layer: Layer(2), temporal: 0 });
    assert_eq!(high.until_key_frame(low), low);
    let thin = Rung { temporal: 1, ..high };
    assert_eq!(thin.until_key_frame(high), thin, "needs no key frame");
}

#[test]
fn a_screen_share_comes_before_cameras_and_a_speaker_before_others() {
    let speaker = VideoDemand { importance: Importance::Speaking, ..camera() };
    let large = VideoDemand { shown_pixels: 1920 * 1080, ..camera() };
    let connection = settled(3_500_000, &[camera(), large, speaker, screen()]);
    assert_eq!(connection.layers(), [Some(0), Some(0), Some(1), Some(2)]);
    let connection = settled(700_000, &[camera(), large, speaker, screen()]);
    assert_eq!(connection.layers(), [Some(0), Some(0), Some(0), Some(0)]);
    let connection = settled(550_000, &[camera(), large, speaker, screen()]);
    assert_eq!(connection.layers(), [None, Some(0), Some(0), Some(0)]);
}

#[test]
fn who_begins_to_speak_gets_the_layer_of_who_spoke_before() {
    let speaks = |who: usize| {
        let mut tracks = [camera(); 3];
        tracks[who].importance = Importance::Speaking;
        tracks
    };
    let mut connection = settled(2_500_000, &speaks(0));
    assert_eq!(connection.layers(), [Some(2), Some(0), Some(0)]);
    connection.passes(30, 2_500_000, &speaks(1));
    assert_eq!(connection.layers(), [Some(0), Some(2), Some(0)]);
}

#[test]
fn equal_tracks_are_raised_evenly() {
    let connection = settled(2_500_000, &[camera(); 4]);
    assert_eq!(connection.layers(), [Some(1); 4]);
}

#[test]
fn a_layer_without_measured_rate_is_taken_to_need_a_usual_one() {
    let unknown = VideoDemand { rates: LayerRates::default(), ..camera() };
    let connection = settled(1_000_000, &[unknown]);
    assert_eq!(connection.layers(), [Some(1)]);
    assert_eq!(connection.outcome, Outcome { wanted: 1_700_000, allocated: 500_000, trial: 0 });
}

#[test]
fn a_still_screen_share_keeps_its_room_for_a_while() {
    let still = VideoDemand { rates: temporal([2_000, 5_000, 20_000]), ..screen() };
    let mut connection = settled(3_000_000, &[screen(), camera()]);
    assert_eq!(connection.layers(), [Some(2), Some(1)]);
    connection.passes(40, 3_000_000, &[still, camera()]);
    assert_eq!(connection.outcome.allocated, 2_500_000, "it counts as before");
    connection.passes(40, 3_000_000, &[still, camera()]);
    assert_eq!(connection.layers(), [Some(2), Some(2)], "others get the room in the end");
}

#[test]
fn an_encoder_that_saves_after_a_key_frame_raises_nothing() {
    let mut connection = lowered();
    let saving = VideoDemand { rates: LayerRates([[150_000; 4], [250_000; 4], [900_000; 4]]), ..camera() };
    connection.passes(10, 400_000, &[saving]);
    assert_eq!((connection.layers(), connection.outcome.trial), (vec![Some(0)], 0));
    connection.passes(20, 400_000, &[saving]);
    assert_eq!(connection.layers(), [Some(1)], "it stays so");
}

#[test]
fn a_lower_layer_that_does_not_arrive_is_chosen_and_given_up_if_it_does_not_come() {
    let only_high = VideoDemand { live: LayerSet(0b100), ..camera() };
    let mut connection = settled(4_000_000, &[only_high]);
    connection.pass(400_000, &[only_high]);
    assert_eq!(connection.layers(), [Some(0)], "it arrives once it is asked for");
    connection.passes(20, 400_000, &[only_high]);
    assert_eq!(connection.layers(), [None], "it does not");
    connection.passes(100, 400_000, &[camera()]);
    assert_eq!(connection.layers(), [Some(0)]);
}

#[test]
fn a_track_of_which_nothing_arrives_yet_starts_with_its_lowest_layer() {
    let connection = settled(5_000_000, &[VideoDemand { live: LayerSet::NONE, ..camera() }]);
    assert_eq!(connection.layers(), [Some(0)]);
}

#[test]
fn a_wrong_raise_is_tried_again_later_and_later() {
    let mut connection = Connection::new();
    let tracks = [camera()];
    let mut raises = Vec::new();
    let mut high = false;
    for _ in 0..1500 {
        // The estimate sinks as soon as the middle layer is sent.
        let budget = if high { 300_000 } else { 800_000 };
        let before = connection.now;
        connection.pass(budget, &tracks);
        let now_high = connection.layers() == [Some(1)];
        if now_high && !high {
            raises.push(before);
        }
        high = now_high;
    }
    let waits: Vec<u64> = raises.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    // The pause, then the time in which the path is tried.
    assert_eq!(waits[..5], [4, 7, 13, 25, 49]);
}

#[test]
fn after_a_wrong_raise_a_path_that_carries_far_more_is_used_at_once() {
    let mut connection = Connection::new();
    let tracks = [camera()];
    connection.passes(5, 800_000, &tracks);
    assert_eq!(connection.layers(), [Some(1)]);
    connection.pass(300_000, &tracks);
    connection.pass(900_000, &tracks);
    assert_eq!(connection.layers(), [Some(0)], "it waits");
    connection.pass(3_000_000, &tracks);
    assert!(connection.outcome.trial > 0, "it is tried at once");
    connection.passes(5, 3_000_000, &tracks);
    assert_eq!(connection.layers(), [Some(2)]);
}

/// A connection whose budget was too small for what was sent.
fn lowered() -> Connection {
    let mut connection = settled(3_000_000, &[camera()]);
    assert!(!connection.allocator.has_lowered());
    connection.pass(400_000, &[camera()]);
    assert_eq!(connection.layers(), [Some(0)]);
    assert!(connection.allocator.has_lowered());
    connection.passes(20, 400_000, &[camera()]);
    assert_eq!(connection.outcome.trial, 0);
    connection
}

#[test]
fn at_the_beginning_the_budget_is_believed() {
    let mut connection = Connection::new();
    connection.pass(3_000_000, &[camera()]);
    assert_eq!((connection.layers(), connection.outcome.trial), (vec![Some(2)], 0));
}

#[test]
fn padding_shows_first_that_the_path_carries_a_higher_layer() {
    let mut connection = lowered();
    for _ in 0..4 {
        connection.pass(800_000, &[camera()]);
        assert_eq!(connection.layers(), [Some(0)]);
        assert_eq!(connection.outcome.trial, 350_000, "what the middle layer adds");
    }
    connection.pass(800_000, &[camera()]);
    assert_eq!((connection.layers(), connection.outcome.trial), (vec![Some(1)], 0));
}

#[test]
fn a_path_that_does_not_carry_the_padding_is_tried_again_later() {
    let mut connection = lowered();
    connection.passes(3, 800_000, &[camera()]);
    assert_eq!(connection.outcome.trial, 350_000);
    connection.pass(450_000, &[camera()]);
    assert_eq!((connection.layers(), connection.outcome.trial), (vec![Some(0)], 0), "nothing was raised");
    connection.passes(13, 800_000, &[camera()]);
    assert_eq!(connection.outcome.trial, 0);
    connection.passes(3, 800_000, &[camera()]);
    assert_eq!(connection.outcome.trial, 350_000);
}

#[test]
fn what_the_path_has_carried_is_raised_without_a_trial() {
    let mut connection = lowered();
    connection.passes(30, 800_000, &[camera()]);
    assert_eq!(connection.layers(), [Some(1)]);
    let small = VideoDemand { wanted: Some(Layer(0)), ..camera() };
    connection.pass(800_000, &[small]);
    assert_eq!(connection.layers(), [Some(0)]);
    connection.pass(800_000, &[camera()]);
    assert_eq!((connection.layers(), connection.outcome.trial), (vec![Some(1)], 0));
}

#[test]
fn a_disabled_track_gets_nothing_and_costs_nothing() {
    let connection = settled(5_000_000, &[VideoDemand { wanted: None, ..camera() }, camera()]);
    assert_eq!(connection.layers(), [None, Some(2)]);
    assert_eq!(connection.outcome, Outcome { wanted: 1_700_000, allocated: 1_700_000, trial: 0 });
}

fn demands() -> impl Strategy<Value = VideoDemand> {
    let rates = prop_oneof![
        Just(LayerRates::default()),
        (50_000..300_000_u32, 300_000..900_000_u32, 900_000..3_000_000_u32)
            .prop_map(|(low, middle, high)| LayerRates([[low; 4], [middle; 4], [high; 4]])),
        (50_000..300_000_u32, 300_000..900_000_u32, 900_000..3_000_000_u32)
            .prop_map(|(low, middle, high)| temporal([low, middle, high])),
    ];
    let wanted = prop_oneof![1 => Just(None), 8 => (0..3_u8).prop_map(|layer| Some(Layer(layer)))];
    let importance = prop_oneof![
        Just(Importance::Ordinary),
        Just(Importance::Speaking),
        (0..3_u32).prop_map(Importance::Pinned)
    ];
    let pixels = prop_oneof![Just(0), Just(320 * 180), Just(1280 * 720)];
    (any::<bool>(), wanted, pixels, importance, rates, 1..8_u8).prop_map(
        |(is_screen, wanted, shown_pixels, importance, rates, live)| VideoDemand {
            source: if is_screen { VideoSource::ScreenShare } else { VideoSource::Camera },
            wanted,
            shown_pixels,
            importance,
            rates,
            declared: ALL,
            live: LayerSet(live),
            current: None,
        },
    )
}

fn meetings() -> impl Strategy<Value = Vec<VideoDemand>> {
    prop::collection::vec(demands(), 1..12)
}

/// Most important first, as the rules say.
fn order(tracks: &[VideoDemand]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tracks.len()).collect();
    order.sort_by_key(|index| {
        let track = tracks[*index];
        Reverse((track.source == VideoSource::ScreenShare, track.importance, track.shown_pixels))
    });
    order
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_more_than_the_budget_and_its_margin_is_allocated(
        tracks in meetings(),
        budgets in prop::collection::vec(0..12_000_000_u64, 1..40),
    ) {
        let mut connection = Connection::new();
        for budget in budgets {
            connection.pass(budget, &tracks);
            prop_assert!(connection.outcome.allocated * 100 <= budget * KEEP_PERCENT);
            prop_assert!(connection.outcome.allocated <= connection.outcome.wanted);
        }
        // Nothing was sent before: there is nothing to keep.
        let mut fresh = Connection::new();
        fresh.pass(3_000_000, &tracks);
        prop_assert!(fresh.outcome.allocated * 100 <= 3_000_000 * ROOM_PERCENT);
    }

    #[test]
    fn none_that_is_less_important_than_a_paused_track_is_above_its_lowest_rung(
        tracks in meetings(),
        budgets in prop::collection::vec(0..8_000_000_u64, 1..40),
    ) {
        let mut connection = Connection::new();
        let mut lowest: Vec<Option<Rung>> = vec![None; tracks.len()];
        for budget in budgets {
            connection.pass(budget, &tracks);
            let rungs = connection.rungs();
            for entry in &connection.allocator.entries {
                lowest[entry.index] = entry.ladder.get(0);
            }
            let order = order(&tracks);
            let paused = order.iter().position(|track| rungs[*track].is_none() && lowest[*track].is_some());
            for track in order.iter().skip(paused.unwrap_or(order.len())) {
                prop_assert!(rungs[*track].is_none() || rungs[*track] == lowest[*track]);
            }
        }
    }

    #[test]
    fn more_budget_gives_no_track_less(
        tracks in meetings(),
        budgets in prop::collection::vec(0..8_000_000_u64, 0..20),
        budget in 0..8_000_000_u64,
        more in 0..8_000_000_u64,
    ) {
        let mut less = Connection::new();
        for budget in budgets {
            less.pass(budget, &tracks);
        }
        let mut richer = less.clone();
        less.pass(budget, &tracks);
        richer.pass(budget + more, &tracks);
        let (less, richer) = (less.rungs(), richer.rungs());
        let paused = |rungs: &[Option<Rung>]| -> Vec<bool> { rungs.iter().map(Option::is_none).collect() };
        if paused(&less) == paused(&richer) {
            for (less, richer) in less.iter().zip(&richer) {
                prop_assert!(less <= richer, "{less:?} {richer:?}");
            }
        } else {
            // A track that needs much even at its lowest rung displaces less important ones.
            let order = order(&tracks);
            let first = order.iter().find(|track| less[**track].is_none() != richer[**track].is_none());
            prop_assert!(first.is_none_or(|track| less[*track].is_none()));
        }
    }

    #[test]
    fn a_wobble_by_a_tenth_flips_no_track(
        tracks in meetings(),
        budget in 100_000..10_000_000_u64,
        seed in any::<u64>(),
    ) {
        let tracks: Vec<VideoDemand> =
            tracks.into_iter().map(|track| VideoDemand { live: ALL, ..track }).collect();
        let mut state = seed | 1;
        // From 0.9 to 1.1 times.
        let mut noisy = |value: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            value * (900 + (state >> 33) % 201) / 1000
        };
        let mut connection = Connection::new();
        let mut pass = |connection: &mut Connection| {
            let mut now = tracks.clone();
            for track in &mut now {
                for rates in &mut track.rates.0 {
                    let factor = noisy(1000);
                    *rates = rates.map(|rate| (u64::from(rate) * factor / 1000) as u32);
                }
            }
            connection.pass(noisy(budget), &now);
        };
        // Two minutes to settle, then four.
        for _ in 0..600 {
            pass(&mut connection);
        }
        let mut lowered = vec![0; tracks.len()];
        for _ in 0..1200 {
            let before = connection.rungs();
            pass(&mut connection);
            for ((count, before), now) in lowered.iter_mut().zip(before).zip(connection.rungs()) {
                *count += usize::from(now < before);
            }
        }
        prop_assert!(lowered.iter().all(|count| *count <= 1), "{lowered:?}");
    }
}
