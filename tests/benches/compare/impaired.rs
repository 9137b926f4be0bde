//! The meeting over an impaired link, as a real browser sees it.

use anyhow::Result;
use systir_tests::impaired_meeting::{ImpairedMeeting, PHASES, Received};
use systir_tests::impaired_path::{Condition, ImpairedPath};

use crate::servers::{Programs, Server};
use crate::table::{Figure, Goal};

/// Shown instead of a time in which something did not happen.
const NEVER: f64 = f64::INFINITY;

/// Runs all phases once against one server.
pub(crate) async fn measure(path: &ImpairedPath, programs: &Programs, server: Server) -> Result<Vec<Figure>> {
    path.set(Condition::Free)?;
    let _running = server.start(path, programs).await?;
    tokio::task::block_in_place(|| {
        let mut meeting = ImpairedMeeting::start(path)?;
        let mut figures = Vec::new();
        for layer in meeting.sent()? {
            let [rate, frames] = match layer.width {
                0..=320 => ["sent, 320x180", "frames sent, 320x180"],
                321..=640 => ["sent, 640x360", "frames sent, 640x360"],
                _ => ["sent, 1280x720", "frames sent, 1280x720"],
            };
            figures.push(figure(PHASES[0].name, rate, "kbit/s", Goal::None, layer.kbps));
            figures.push(figure(PHASES[0].name, frames, "1/s", Goal::None, layer.frames_per_second));
        }
        for phase in &PHASES {
            let received = meeting.run(path, phase)?;
            figures.extend(of_phase(phase.name, &received));
        }
        Ok(figures)
    })
}

fn figure(group: &str, name: &'static str, unit: &'static str, goal: Goal, value: f64) -> Figure {
    Figure { group: group.to_owned(), name, unit, goal, value }
}

/// The goals of a phase: frames a second, seconds frozen, the last width, and the shares of concealed audio.
fn goals(phase: &str) -> [Goal; 4] {
    match phase {
        "1 Mbit/s" => [Goal::AtLeast(17.0), Goal::AtMost(0.3), Goal::AtLeast(640.0), Goal::AtMost(1.0)],
        "400 kbit/s" => [Goal::AtLeast(15.0), Goal::AtMost(1.0), Goal::AtLeast(320.0), Goal::AtMost(1.0)],
        "5 % loss" => [Goal::AtLeast(25.0), Goal::AtMost(0.0), Goal::None, Goal::None],
        _ => [Goal::None; 4],
    }
}

fn of_phase(phase: &str, received: &Received) -> Vec<Figure> {
    let [rate, frozen, width, concealed] = goals(phase);
    let mut figures = vec![
        figure(phase, "video frames", "1/s", rate, received.frames_per_second),
        figure(phase, "video frozen", "s", frozen, received.frozen_seconds),
        figure(phase, "width at the end", "px", width, f64::from(received.last_width)),
        figure(phase, "audio concealed", "%", concealed, received.concealed_percent),
        figure(phase, "video received", "kbit/s", Goal::None, received.video_kbps),
        figure(phase, "video in the jitter buffer", "ms", Goal::None, received.video_delay_ms),
        figure(phase, "audio in the jitter buffer", "ms", Goal::None, received.audio_delay_ms),
        figure(phase, "video packets lost", "", Goal::None, received.video_packets_lost as f64),
        figure(phase, "audio packets lost", "", Goal::None, received.audio_packets_lost as f64),
        figure(phase, "NACKs", "", Goal::None, f64::from(received.nacks)),
        figure(phase, "PLIs", "", Goal::None, f64::from(received.plis)),
    ];
    if phase == "free again" {
        for (name, seconds, limit) in [
            ("until 640 px", received.seconds_to_640, 4.0),
            ("until 1280 px", received.seconds_to_1280, 10.0),
        ] {
            figures.push(figure(phase, name, "s", Goal::AtMost(limit), seconds.unwrap_or(NEVER)));
        }
    }
    figures
}
