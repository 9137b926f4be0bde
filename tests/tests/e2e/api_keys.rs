//! API keys are replaced while the nodes run.

use std::time::Duration;

use anyhow::Result;
use systir_load::Config;
use systir_tests::cluster::{Cluster, token, token_with};
use systir_tests::participants::Participants;
use systir_tests::process::eventually;
use systir_tests::scenario::run_scenario;

const ROOM: &str = "board";
const LIMIT: Duration = Duration::from_secs(45);
const NEW: [&str; 2] = ["newkey", "7f3a90c25b1e4d68a0f2c4e6b8d01357"];
const OTHER: [&str; 2] = ["otherkey", "b8d013577f3a90c25b1e4d68a0f2c4e6"];

const ROOM_KEY: &str = r#"
[room_keys.tests]
institution = "ku.dk"
key = "dpLDrTVAu4A8Ags67mbNiIcSMjTqDG5xQ8Ct1z/0Me0="
"#;

/// Waits until the gateway gives a token this status.
async fn until_status(cluster: &Cluster, node: &str, token: &str, wanted: u16) -> Result<()> {
    eventually(&format!("status {wanted} at {node}"), LIMIT, || async {
        let (status, _) = cluster.validate_token(node, token).await.ok()?;
        (status == wanted).then_some(())
    })
    .await
}

fn key([name, _]: [&str; 2]) -> String {
    format!("\n[keys.{name}]\ninstitution = \"ku.dk\"\nsecret_file = \"{name}.secret\"\n")
}

#[test]
fn a_new_key_is_taken_and_a_removed_one_signs_no_further_join() -> Result<()> {
    run_scenario(async {
        let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", 4)]).await?;
        let load = Config {
            url: cluster.url("cph-1"),
            room: ROOM.to_owned(),
            participants: 2,
            audio: true,
            no_rejoin: true,
            ..Config::default()
        };
        let meeting = Participants::join(load).await?;
        let (old, new, other) =
            (token(ROOM, "anna")?, token_with(NEW, ROOM, "bo")?, token_with(OTHER, ROOM, "chen")?);
        until_status(&cluster, "cph-1", &old, 200).await?;
        until_status(&cluster, "cph-1", &new, 401).await?;
        for [name, secret] in [NEW, OTHER] {
            std::fs::write(cluster.folder().join(format!("{name}.secret")), secret)?;
        }
        cluster.configure("cph-1", |text| text.to_owned() + &key(NEW))?;
        until_status(&cluster, "cph-1", &new, 200).await?;
        until_status(&cluster, "cph-1", &old, 200).await?;

        // The old key is removed. Participants who are in the room stay.
        cluster.configure("cph-1", |text| {
            let text = text.replace("guest_key = \"devkey\"", "");
            let begin = text.find("[keys.devkey]").unwrap_or(text.len());
            let end = text.find("[room_keys.").unwrap_or(text.len());
            format!("{}{}", &text[..begin], &text[end..])
        })?;
        until_status(&cluster, "cph-1", &old, 401).await?;
        until_status(&cluster, "cph-1", &new, 200).await?;

        // A secret file is replaced; a secret that can be guessed is not used, nor is the one that it replaced.
        std::fs::write(cluster.folder().join("newkey.secret"), "hunter2")?;
        until_status(&cluster, "cph-1", &new, 401).await?;
        until_status(&cluster, "cph-1", &token_with([NEW[0], "hunter2"], ROOM, "bo")?, 401).await?;
        std::fs::write(cluster.folder().join("newkey.secret"), NEW[1])?;
        until_status(&cluster, "cph-1", &new, 200).await?;
        // A file that cannot be read leaves everything as it was.
        cluster.configure("cph-1", |text| text.to_owned() + "\n[keys.otherkey\n")?;
        eventually("the error", LIMIT, || async {
            let log = cluster.log("cph-1").ok()?;
            log.contains("the changed API keys cannot be read").then_some(())
        })
        .await?;
        until_status(&cluster, "cph-1", &new, 200).await?;

        // A node that ku.dk does not approve takes no key of it, and no room key.
        cluster.configure("aws-sto-1", |text| text.to_owned() + &key(OTHER) + ROOM_KEY)?;
        for refused in ["a changed API key is not used", "a room key is not used"] {
            eventually(refused, LIMIT, || async {
                let log = cluster.log("aws-sto-1").ok()?;
                log.lines().any(|line| line.contains(refused) && line.contains("must not hold")).then_some(())
            })
            .await?;
        }
        assert_eq!(cluster.validate_token("aws-sto-1", &other).await?.0, 403);
        let report = meeting.leave().await?;
        assert_eq!(report.joined, 2, "{report:?}");
        assert!(report.ended.is_empty(), "participants who were in the room stayed: {report:?}");
        Ok(())
    })
}
