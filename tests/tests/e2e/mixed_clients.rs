//! Unchanged clients on both sides of a link: the meeting page in Chromium (livekit-client) and the
//! native SDK, two of them on a full home and two on its sister, see, hear and write to each other.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use systir_tests::browser::Browser;
use systir_tests::cluster::{Cluster, token};
use systir_tests::native::Native;
use systir_tests::scenario::play_within;

const ROOM: &str = "seminar";
/// Four people with four browsers' worth of work on few cores.
const LIMIT: Duration = Duration::from_secs(300);

/// Anna and Chen have Chromium, Bo and Dina the native SDK; in the order in which they come.
struct Meeting {
    browser: Browser,
    bo: Native,
    dina: Native,
}

const EVERYBODY: [&str; 4] = ["anna", "bo", "chen", "dina"];

fn but(one: &str) -> Vec<&'static str> {
    EVERYBODY.into_iter().filter(|who| *who != one).collect()
}

fn native(door: &str, identity: &str) -> Result<Native> {
    let mut native =
        Native::join(&door.replace("http", "ws"), &token(ROOM, identity)?, &["--publish", "--hold"])?;
    native.until("published").with_context(|| format!("{identity} joins"))?;
    Ok(native)
}

impl Meeting {
    /// Everybody comes, each through the front door named for them.
    fn begin(doors: [&str; 4]) -> Result<Self> {
        let mut browser = Browser::start()?;
        browser.join_with(doors[0], ROOM, "anna", &token(ROOM, "anna")?)?;
        let bo = native(doors[1], "bo")?;
        browser.join_with(doors[2], ROOM, "chen", &token(ROOM, "chen")?)?;
        let dina = native(doors[3], "dina")?;
        for person in ["anna", "chen"] {
            let heard = "window.heard = []; systirRoom().on('dataReceived', (bytes, who, kind, topic) => {
                if (topic === 'test') heard.push(`${who?.identity}: ${new TextDecoder().decode(bytes)}`);
            }); true";
            browser.eval(person, heard)?;
        }
        Ok(Self { browser, bo, dina })
    }

    fn everybody_sees_and_hears_everybody(&mut self) -> Result<()> {
        for person in ["anna", "chen"] {
            self.browser.watches(person, &but(person), 20)?;
        }
        self.bo.sees_and_hears(&but("bo"), 20).context("bo")?;
        self.dina.sees_and_hears(&but("dina"), 20).context("dina")
    }

    fn everybody_writes_to_everybody(&mut self) -> Result<()> {
        for person in ["anna", "chen"] {
            let send = format!(
                "systirRoom().localParticipant.publishData(new TextEncoder().encode('hello of {person}'),
                    {{reliable: true, topic: 'test'}}).then(() => true)"
            );
            self.browser.eval(person, &send)?;
        }
        self.bo.carry_out(&json!({"do": "send", "text": "hello of bo"}))?;
        self.dina.carry_out(&json!({"do": "send", "text": "hello of dina"}))?;
        for person in ["anna", "chen"] {
            for other in but(person) {
                let code = format!("heard.includes('{other}: hello of {other}')");
                self.browser.wait(person, &code, 30)?;
            }
        }
        for (native, name) in [(&mut self.bo, "bo"), (&mut self.dina, "dina")] {
            for other in but(name) {
                let text = format!("hello of {other}");
                let already = native.said.iter().any(|said| said["of"] == other && said["text"] == *text);
                if !already {
                    native.until_said("data", |said| said["of"] == other && said["text"] == *text)?;
                }
            }
        }
        // A private word to the other node reaches one person.
        self.bo.carry_out(&json!({"do": "send", "text": "for chen", "to": ["chen"]}))?;
        self.browser.wait("chen", "heard.includes('bo: for chen')", 30)?;
        let overheard = self.browser.eval("anna", "heard.includes('bo: for chen')")?;
        anyhow::ensure!(overheard == false, "anna got chen's private message");
        anyhow::ensure!(self.dina.said.iter().all(|said| said["text"] != "for chen"), "dina got it too");
        Ok(())
    }

    fn mute_shows_at_the_others(&mut self) -> Result<()> {
        let enabled = |who: &str| format!("systirRoom().remoteParticipants.get('{who}').isMicrophoneEnabled");
        // Chen is on the sister: it shows at home, and next door.
        self.browser.click("chen", "#mic")?;
        self.browser.wait("anna", &format!("!{}", enabled("chen")), 30)?;
        self.bo.until_said("muted", |said| said["of"] == "chen")?;
        self.dina.until_said("muted", |said| said["of"] == "chen")?;
        self.browser.click("chen", "#mic")?;
        self.browser.wait("anna", &enabled("chen"), 30)?;
        self.bo.until_said("unmuted", |said| said["of"] == "chen")?;
        // Bo is at home: it shows at the sister.
        self.bo.carry_out(&json!({"do": "mute", "kind": "audio"}))?;
        self.browser.wait("chen", &format!("!{}", enabled("bo")), 30)?;
        self.dina.until_said("muted", |said| said["of"] == "bo")?;
        self.bo.carry_out(&json!({"do": "unmute", "kind": "audio"}))?;
        self.browser.wait("chen", &enabled("bo"), 30)?;
        self.dina.until_said("unmuted", |said| said["of"] == "bo")?;
        Ok(())
    }

    fn leave_shows_at_the_others(mut self) -> Result<()> {
        anyhow::ensure!(self.dina.end()?, "dina leaves in good order");
        for person in ["anna", "chen"] {
            self.browser.wait(person, "!systirRoom().remoteParticipants.has('dina')", 30)?;
        }
        self.bo.until_said("left", |said| said["of"] == "dina")?;
        self.browser.click("chen", "#leave")?;
        self.browser.wait("anna", "!systirRoom().remoteParticipants.has('chen')", 30)?;
        self.bo.until_said("left", |said| said["of"] == "chen")?;
        anyhow::ensure!(self.bo.end()?, "bo leaves in good order");
        self.browser.wait("anna", "systirRoom().remoteParticipants.size === 0", 30)?;
        Ok(())
    }

    /// Where each one's media and signalling are, by the attributes that every client can read.
    fn placed(&mut self, person: &str) -> Result<(String, String)> {
        let code = format!(
            "(() => {{
                const room = systirRoom();
                const who = room.localParticipant.identity === '{person}' ? room.localParticipant
                    : room.remoteParticipants.get('{person}');
                return [who.attributes['systir.node'], who.attributes['systir.gateway']];
            }})()"
        );
        let answer = self.browser.eval("anna", &code)?;
        let text = |index: usize| answer[index].as_str().unwrap_or_default().to_owned();
        Ok((text(0), text(1)))
    }
}

/// The whole meeting; `expected` is media node and front door of each.
fn hold(doors: [&str; 4], expected: [(&str, &str); 4]) -> Result<()> {
    let mut meeting = Meeting::begin(doors)?;
    meeting.everybody_sees_and_hears_everybody()?;
    for (person, (node, door)) in EVERYBODY.into_iter().zip(expected) {
        assert_eq!(meeting.placed(person)?, (node.to_owned(), door.to_owned()), "{person}");
    }
    meeting.everybody_writes_to_everybody()?;
    meeting.mute_shows_at_the_others()?;
    meeting.everybody_sees_and_hears_everybody()?;
    meeting.leave_shows_at_the_others()
}

async fn nothing_reached_the_cloud(cluster: &Cluster) -> Result<()> {
    for counter in ["systir_datagrams_in_total", "systir_link_in_total", "systir_links", "systir_rooms"] {
        assert_eq!(cluster.counter("aws-sto-1", counter).await?, 0, "{counter}");
    }
    assert!(cluster.counter("cph-1", "systir_link_out_total").await? > 100, "media crossed the link");
    Ok(())
}

#[test]
fn the_third_of_a_home_for_two_meets_everybody_from_the_sister() -> Result<()> {
    play_within(LIMIT, async {
        let (_etcd, cluster) = Cluster::three(&[("cph-1", 2), ("sto-1", 2)]).await?;
        let door = cluster.url("cph-1");
        tokio::task::spawn_blocking(move || {
            let (home, sister) = (("cph-1", "cph-1"), ("sto-1", "cph-1"));
            hold([door.as_str(); 4], [home, home, sister, sister])
        })
        .await??;
        nothing_reached_the_cloud(&cluster).await
    })
}

#[test]
fn in_the_demonstration_people_at_home_may_come_through_the_sisters_door() -> Result<()> {
    play_within(LIMIT, async {
        let cluster = Cluster::demo(&[("cph-1", 2), ("sto-1", 2)]).await?;
        let (home, sister) = (cluster.url("cph-1"), cluster.url("sto-1"));
        tokio::task::spawn_blocking(move || {
            // Each combination of door and media node is there once.
            let doors = [sister.as_str(), &home, &home, &sister];
            hold(doors, [("cph-1", "sto-1"), ("cph-1", "cph-1"), ("sto-1", "cph-1"), ("sto-1", "sto-1")])
        })
        .await??;
        nothing_reached_the_cloud(&cluster).await
    })
}
