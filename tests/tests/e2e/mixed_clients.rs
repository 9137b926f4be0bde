//! Unchanged clients on both sides of a link: the meeting page in Chromium (livekit-client) and the
//! native SDK. Two are on a full home node and two on its sister; all exchange media and messages.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use systir_tests::browser::Browser;
use systir_tests::cluster::{Cluster, token};
use systir_tests::native::NativeClient;
use systir_tests::scenario::run_scenario_within;

const ROOM: &str = "seminar";
/// Four clients encode and decode on few cores.
const LIMIT: Duration = Duration::from_secs(300);

/// Anna and Chen use Chromium, Bo and Dina the native SDK.
struct Meeting {
    browser: Browser,
    bo: NativeClient,
    dina: NativeClient,
}

/// In the order in which they join.
const PARTICIPANTS: [&str; 4] = ["anna", "bo", "chen", "dina"];

fn all_but(one: &str) -> Vec<&'static str> {
    PARTICIPANTS.into_iter().filter(|other| *other != one).collect()
}

fn native(gateway: &str, identity: &str) -> Result<NativeClient> {
    let mut native = NativeClient::join(
        &gateway.replace("http", "ws"),
        &token(ROOM, identity)?,
        &["--publish", "--hold"],
    )?;
    native.wait_for("published").with_context(|| format!("{identity} joins"))?;
    Ok(native)
}

impl Meeting {
    /// All join, each through their gateway of `gateways`.
    fn start(gateways: [&str; 4]) -> Result<Self> {
        let mut browser = Browser::start()?;
        browser.join_with_token(gateways[0], ROOM, "anna", &token(ROOM, "anna")?)?;
        let bo = native(gateways[1], "bo")?;
        browser.join_with_token(gateways[2], ROOM, "chen", &token(ROOM, "chen")?)?;
        let dina = native(gateways[3], "dina")?;
        for participant in ["anna", "chen"] {
            let record = "window.messages = []; systirRoom().on('dataReceived', (bytes, sender, kind, topic) => {
                if (topic === 'test') messages.push(`${sender?.identity}: ${new TextDecoder().decode(bytes)}`);
            }); true";
            browser.eval(participant, record)?;
        }
        Ok(Self { browser, bo, dina })
    }

    fn all_receive_media_of_all(&mut self) -> Result<()> {
        for participant in ["anna", "chen"] {
            self.browser.wait_for_new_media(participant, &all_but(participant), 20)?;
        }
        self.bo.wait_for_media(&all_but("bo"), 20).context("bo")?;
        self.dina.wait_for_media(&all_but("dina"), 20).context("dina")
    }

    fn all_receive_messages_of_all(&mut self) -> Result<()> {
        for participant in ["anna", "chen"] {
            let send = format!(
                "systirRoom().localParticipant.publishData(new TextEncoder().encode('hello of {participant}'),
                    {{reliable: true, topic: 'test'}}).then(() => true)"
            );
            self.browser.eval(participant, &send)?;
        }
        self.bo.command(&json!({"do": "send", "text": "hello of bo"}))?;
        self.dina.command(&json!({"do": "send", "text": "hello of dina"}))?;
        for participant in ["anna", "chen"] {
            for other in all_but(participant) {
                let code = format!("messages.includes('{other}: hello of {other}')");
                self.browser.wait(participant, &code, 30)?;
            }
        }
        for (native, name) in [(&mut self.bo, "bo"), (&mut self.dina, "dina")] {
            for other in all_but(name) {
                let text = format!("hello of {other}");
                let already =
                    native.events.iter().any(|event| event["participant"] == other && event["text"] == *text);
                if !already {
                    native.wait_for_matching("data", |event| {
                        event["participant"] == other && event["text"] == *text
                    })?;
                }
            }
        }
        // A message to one participant on the other node reaches only that participant.
        self.bo.command(&json!({"do": "send", "text": "for chen", "to": ["chen"]}))?;
        self.browser.wait("chen", "messages.includes('bo: for chen')", 30)?;
        let received = self.browser.eval("anna", "messages.includes('bo: for chen')")?;
        anyhow::ensure!(received == false, "anna received chen's private message");
        anyhow::ensure!(
            self.dina.events.iter().all(|event| event["text"] != "for chen"),
            "dina received it too"
        );
        Ok(())
    }

    fn mute_is_seen_by_the_others(&mut self) -> Result<()> {
        let enabled =
            |identity: &str| format!("systirRoom().remoteParticipants.get('{identity}').isMicrophoneEnabled");
        // Chen is on the sister: participants on the home node and on the sister see it.
        self.browser.click("chen", "#mic")?;
        self.browser.wait("anna", &format!("!{}", enabled("chen")), 30)?;
        self.bo.wait_for_matching("muted", |event| event["participant"] == "chen")?;
        self.dina.wait_for_matching("muted", |event| event["participant"] == "chen")?;
        self.browser.click("chen", "#mic")?;
        self.browser.wait("anna", &enabled("chen"), 30)?;
        self.bo.wait_for_matching("unmuted", |event| event["participant"] == "chen")?;
        // Bo is on the home node: participants on the sister see it.
        self.bo.command(&json!({"do": "mute", "kind": "audio"}))?;
        self.browser.wait("chen", &format!("!{}", enabled("bo")), 30)?;
        self.dina.wait_for_matching("muted", |event| event["participant"] == "bo")?;
        self.bo.command(&json!({"do": "unmute", "kind": "audio"}))?;
        self.browser.wait("chen", &enabled("bo"), 30)?;
        self.dina.wait_for_matching("unmuted", |event| event["participant"] == "bo")?;
        Ok(())
    }

    fn leave_is_seen_by_the_others(mut self) -> Result<()> {
        anyhow::ensure!(self.dina.finish()?, "dina's client ends with status 0");
        for participant in ["anna", "chen"] {
            self.browser.wait(participant, "!systirRoom().remoteParticipants.has('dina')", 30)?;
        }
        self.bo.wait_for_matching("participant-disconnected", |event| event["participant"] == "dina")?;
        self.browser.click("chen", "#leave")?;
        self.browser.wait("anna", "!systirRoom().remoteParticipants.has('chen')", 30)?;
        self.bo.wait_for_matching("participant-disconnected", |event| event["participant"] == "chen")?;
        anyhow::ensure!(self.bo.finish()?, "bo's client ends with status 0");
        self.browser.wait("anna", "systirRoom().remoteParticipants.size === 0", 30)?;
        Ok(())
    }

    /// A participant's media node and gateway, from the attributes that every client can read.
    fn placement(&mut self, participant: &str) -> Result<(String, String)> {
        let code = format!(
            "(() => {{
                const room = systirRoom();
                const one = room.localParticipant.identity === '{participant}' ? room.localParticipant
                    : room.remoteParticipants.get('{participant}');
                return [one.attributes['systir.node'], one.attributes['systir.gateway']];
            }})()"
        );
        let answer = self.browser.eval("anna", &code)?;
        let text = |index: usize| answer[index].as_str().unwrap_or_default().to_owned();
        Ok((text(0), text(1)))
    }
}

/// Runs a whole meeting; `expected` is the media node and the gateway of each participant.
fn run_meeting(gateways: [&str; 4], expected: [(&str, &str); 4]) -> Result<()> {
    let mut meeting = Meeting::start(gateways)?;
    meeting.all_receive_media_of_all()?;
    for (participant, (node, gateway)) in PARTICIPANTS.into_iter().zip(expected) {
        assert_eq!(meeting.placement(participant)?, (node.to_owned(), gateway.to_owned()), "{participant}");
    }
    meeting.all_receive_messages_of_all()?;
    meeting.mute_is_seen_by_the_others()?;
    meeting.all_receive_media_of_all()?;
    meeting.leave_is_seen_by_the_others()
}

async fn assert_unapproved_node_idle(cluster: &Cluster) -> Result<()> {
    for counter in ["systir_datagrams_in_total", "systir_link_in_total", "systir_links", "systir_rooms"] {
        assert_eq!(cluster.counter("aws-sto-1", counter).await?, 0, "{counter}");
    }
    assert!(cluster.counter("cph-1", "systir_link_out_total").await? > 100, "media crossed the link");
    Ok(())
}

#[test]
fn with_a_home_node_for_two_the_third_participant_meets_all_from_the_sister() -> Result<()> {
    run_scenario_within(LIMIT, async {
        let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", 2), ("sto-1", 2)]).await?;
        let gateway = cluster.url("cph-1");
        tokio::task::spawn_blocking(move || {
            let (home, sister) = (("cph-1", "cph-1"), ("sto-1", "cph-1"));
            run_meeting([gateway.as_str(); 4], [home, home, sister, sister])
        })
        .await??;
        assert_unapproved_node_idle(&cluster).await
    })
}

#[test]
fn participants_of_the_home_node_may_join_through_the_sisters_gateway() -> Result<()> {
    run_scenario_within(LIMIT, async {
        let cluster = Cluster::demo(&[("cph-1", 2), ("sto-1", 2)]).await?;
        let (home, sister) = (cluster.url("cph-1"), cluster.url("sto-1"));
        tokio::task::spawn_blocking(move || {
            // Each combination of gateway and media node once.
            let gateways = [sister.as_str(), &home, &home, &sister];
            run_meeting(
                gateways,
                [("cph-1", "sto-1"), ("cph-1", "cph-1"), ("sto-1", "cph-1"), ("sto-1", "sto-1")],
            )
        })
        .await??;
        assert_unapproved_node_idle(&cluster).await
    })
}
