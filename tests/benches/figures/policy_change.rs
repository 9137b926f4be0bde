//! How long a new bundle takes to be enforced in many rooms: from the moment at which it is published until the
//! participants whom it denies are told.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use livekit_protocol::signal_response::Message;
use systir_tests::cluster::{Cluster, token};
use systir_tests::raw_signalling::RawSignalling;

use crate::figure::Figure;

/// Rooms, each with a participant on the home node and one on the spill node.
pub(crate) const ROOMS: usize = 200;

/// The home node has one seat for each room.
pub(crate) async fn measure(cluster: &Cluster) -> Result<Vec<Figure>> {
    let gateway = cluster.url("cph-1");
    let mut at_home = Vec::new();
    let mut spilled = Vec::new();
    for (sockets, identity, node) in [(&mut at_home, "anna", "cph-1"), (&mut spilled, "bo", "sto-1")] {
        for number in 0..ROOMS {
            let room = format!("room-{number}");
            let (socket, join) = RawSignalling::join(&gateway, &token(&room, identity)?).await?;
            let participant = join.participant.context("a participant")?;
            let placed = participant.attributes.get("systir.node").map(String::as_str);
            ensure!(placed == Some(node), "{identity} of {room} is on {placed:?}, not on {node}");
            sockets.push(socket);
        }
    }
    let denmark_only = |rules: &str| {
        rules.replace("resource.country in Zone::\"Nordic\"", "resource.country == Country::\"DK\"")
    };
    let note = cluster.documents()?.bundle(2, |bundle| bundle.policy = denmark_only(&bundle.policy))?;
    let published = Instant::now();
    let (status, text) = cluster.publish_over_http("cph-1", &note).await?;
    ensure!(status == 200, "the bundle is not taken: {status} {text}");
    let told = spilled.iter_mut().map(|socket| async move {
        let leave = |message| matches!(message, Message::Leave(_)).then_some(());
        socket.wait_for("the leave", leave).await?;
        anyhow::Ok(published.elapsed())
    });
    let mut times: Vec<Duration> = try_join_all(told).await?;
    times.sort_unstable();
    drop(at_home);
    let at =
        |permille: usize| times.get(times.len() * permille / 1000).copied().unwrap_or_default().as_secs_f64();
    let how = format!(
        "{ROOMS} rooms on three nodes: from the publication at the home until the participants on the spill node are told"
    );
    Ok(vec![
        Figure::without_goal("new bundle enforced p50", at(500), "s", how.clone()),
        Figure::new("new bundle enforced p99", at(990), "s", 2.0, how),
    ])
}
