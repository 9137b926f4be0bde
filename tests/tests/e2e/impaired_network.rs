//! A subscriber whose access link becomes slow, fast again, and lossy, as a real browser sees it. Only what
//! happens is asserted, not how fast: `make compare` measures that.

use std::time::Duration;

use anyhow::{Result, ensure};
use systir_tests::impaired_meeting::{ImpairedMeeting, PHASES, Received};
use systir_tests::impaired_path::ImpairedPath;
use systir_tests::process::built;
use systir_tests::scenario::run_scenario_within;
use systir_tests::server_process::ServerProcess;

const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn video_is_smaller_on_a_slow_link_and_large_again_on_a_free_one() -> Result<()> {
    run_scenario_within(LIMIT, async {
        let path = ImpairedPath::new()?;
        let _node = ServerProcess::systir(&path, &built("systir-relay")?, 10).await?;
        tokio::task::spawn_blocking(move || {
            let mut meeting = ImpairedMeeting::start(&path)?;
            let mut all = Vec::new();
            for phase in &PHASES {
                let received = meeting.run(&path, phase)?;
                eprintln!("{}: {received:?}", phase.name);
                // A picture that moves, in every phase: half of what is usual.
                ensure!(received.frames_per_second > 8.0, "{}: {received:?}", phase.name);
                ensure!(
                    received.frozen_seconds < f64::from(phase.seconds) / 2.0,
                    "{}: {received:?}",
                    phase.name
                );
                ensure!(received.concealed_percent < 15.0, "audio goes on, {}: {received:?}", phase.name);
                all.push(received);
            }
            let [free, slow, slower, free_again, lossy]: [Received; 5] =
                all.try_into().map_err(|_| anyhow::anyhow!("there are five phases"))?;
            ensure!(free.width == 1280, "{free:?}");
            ensure!(slow.last_width < free.width, "a smaller layer: {slow:?}");
            ensure!(slower.last_width == 320, "the smallest layer: {slower:?}");
            ensure!(free_again.last_width >= 640, "a larger layer returns: {free_again:?}");
            ensure!(lossy.nacks > 0, "lost packets are requested again: {lossy:?}");
            Ok(())
        })
        .await?
    })
}
