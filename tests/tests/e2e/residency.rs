//! "Where is my data", as a person sees it: the page's (i) in Chromium, live through a spill, and
//! the same statement over HTTP, on the data topic and in everybody's attributes.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use systir_load::Config;
use systir_tests::browser::{Browser, clients};
use systir_tests::cluster::{Cluster, token};
use systir_tests::native::Native;
use systir_tests::process::{eventually, port_block};
use systir_tests::scenario::play;

const ROOM: &str = "seminar";
const PHONE: (u32, u32) = (390, 844);
const LAPTOP: (u32, u32) = (1280, 800);

/// The nodes of the panel as a person reads them: heading, facts by name, warning.
const CARDS: &str = "[...document.querySelectorAll('#where .node')].map((card) => ({
    name: card.querySelector('h3').firstChild.textContent,
    roles: [...card.querySelectorAll('.badge')].map((badge) => badge.textContent),
    facts: Object.fromEntries([...card.querySelectorAll('dt')].map((dt) => [dt.textContent, dt.nextSibling.textContent])),
    warning: card.querySelector('.warning')?.textContent ?? '',
}))";

/// Boxes and links of the picture.
const PICTURE: &str = "[document.querySelectorAll('#where svg rect').length,
    document.querySelectorAll('#where svg line.link-line').length]";

fn fact<'a>(card: &'a Value, name: &str) -> &'a str {
    card["facts"][name].as_str().unwrap_or_default()
}

/// What the statement must say of a node.
fn says(card: &Value, name: &str, place: &str, role: &str, rule: &str) {
    assert_eq!(card["name"], name, "{card:#}");
    assert_eq!(fact(card, "Where"), place, "{card:#}");
    assert!(
        fact(card, "Region").contains(&place.split(',').next().unwrap_or_default().to_lowercase()),
        "{card:#}"
    );
    assert_eq!(fact(card, "Run by"), "nordunet (controlled from Denmark)", "{card:#}");
    assert_eq!(fact(card, "Statement"), "declared by nordunet", "{card:#}");
    assert!(fact(card, "Allowed by").contains(rule), "{card:#}");
    assert!(!fact(card, "Since").is_empty() && !fact(card, "Since").contains("1970"), "{card:#}");
    assert!(card["roles"].as_array().is_some_and(|roles| roles.iter().any(|one| one == role)), "{card:#}");
}

fn listen_for_statements(browser: &mut Browser, person: &str) -> Result<()> {
    let listen = "window.told = []; window.neverReloaded = true; systirRoom().on('dataReceived', (bytes, who, kind, topic) => {
        if (topic === 'systir.where') told.push(JSON.parse(new TextDecoder().decode(bytes)));
    }); true";
    browser.eval(person, listen)?;
    Ok(())
}

#[test]
fn the_page_shows_one_node_before_the_spill_and_two_after_it() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 3)]).await?;
        let door = cluster.url("cph-1");
        let where_url = format!("{door}/systir/v1/rooms/{ROOM}/where");
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || -> Result<()> {
            let over_http = || -> Result<Value> {
                runtime.block_on(async {
                    let token = token(ROOM, "looker")?;
                    Ok(reqwest::Client::new().get(&where_url).bearer_auth(token).send().await?.json().await?)
                })
            };
            let mut browser = Browser::start()?;
            browser.join_with(&door, ROOM, "anna", &token(ROOM, "anna")?)?;
            listen_for_statements(&mut browser, "anna")?;
            browser.wait("anna", "document.getElementById('where-short').textContent === 'Relayed in Denmark'", 30)?;
            // By keyboard: the button is reached and opened without a mouse.
            browser.eval("anna", "document.getElementById('info').focus()")?;
            browser.carry_out(&json!({"do": "press", "page": "anna", "keys": ["Enter"]}))?;
            browser.wait("anna", "!document.getElementById('where').hidden", 10)?;
            assert_eq!(browser.eval("anna", "document.activeElement.id")?, "where-title");
            let cards = browser.eval("anna", CARDS)?;
            assert_eq!(cards.as_array().map(Vec::len), Some(1), "{cards:#}");
            says(&cards[0], "cph-1", "Copenhagen, Denmark", "home", "ku-home-denmark");
            assert_eq!(fact(&cards[0], "Machine of"), "nordunet (controlled from Denmark)");
            assert_eq!(cards[0]["warning"], "");
            assert_eq!(browser.eval("anna", PICTURE)?, json!([1, 0]));
            browser.shot("anna", "before-the-spill-laptop", LAPTOP)?;
            browser.shot("anna", "before-the-spill-phone", PHONE)?;

            // Chen is the sister's first guest: the open panel changes by itself.
            browser.join_with(&door, ROOM, "chen", &token(ROOM, "chen")?)?;
            browser.wait("anna", "document.querySelectorAll('#where .node').length === 2", 30)?;
            browser.wait("anna", &format!("JSON.stringify({PICTURE}) === '[2,1]'"), 30)?;
            assert_eq!(browser.eval("anna", "window.neverReloaded")?, true);
            let cards = browser.eval("anna", CARDS)?;
            says(&cards[0], "cph-1", "Copenhagen, Denmark", "home", "ku-home-denmark");
            says(&cards[1], "sto-1", "Stockholm, Sweden", "sister (spill)", "ku-spill-nordic");
            assert_eq!(fact(&cards[1], "Machine of"), "nordunet (controlled from Denmark)");
            let summary = browser.eval("anna", "document.getElementById('where-short').textContent")?;
            assert_eq!(summary, "Relayed in Denmark and Sweden");
            let spoken = browser.eval("anna", "document.querySelector('#where svg').getAttribute('aria-label')")?;
            assert!(spoken.as_str().is_some_and(|words| words.contains("sto-1 in Stockholm, Sweden")), "{spoken}");
            browser.sees_and_hears("anna", 1)?;
            browser.shot("anna", "after-the-spill-laptop", LAPTOP)?;
            browser.shot("anna", "after-the-spill-phone", PHONE)?;

            // Somebody with a client that knows nothing of us, on the sister.
            let mut bo = Native::join(&door.replace("http", "ws"), &token(ROOM, "bo")?, &["--hold"])?;
            let connected = bo.until("connected")?;
            let told = bo.until_said("data", |said| said["topic"] == "systir.where")?;
            let told: Value = serde_json::from_str(told["text"].as_str().context("no text")?)?;

            let http = over_http()?;
            let nodes = http["nodes"].as_array().context("no nodes")?;
            let stable = |node: &Value| {
                // Roles of doors and what is open at this moment may change; who and where may not.
                json!([node["node"], node["country"], node["host"], node["rule"], node["since"], node["roles"]])
            };
            let all = |where_is: &Value| where_is["nodes"].as_array().map(|nodes| nodes.iter().map(stable).collect::<Vec<_>>());
            assert_eq!(all(&http), all(&told), "HTTP and the data topic of the sister agree");
            let page = browser.eval("anna", "told.at(-1)")?;
            assert_eq!(all(&http), all(&page), "HTTP and the data topic at home agree");
            for card in browser.eval("anna", CARDS)?.as_array().context("no cards")? {
                let node = nodes.iter().find(|node| node["node"] == card["name"]).context("an unknown card")?;
                assert!(fact(card, "Allowed by").contains(node["rule"].as_str().unwrap_or("?")), "{card:#}");
            }
            let attributes = "Object.fromEntries([systirRoom().localParticipant, ...systirRoom().remoteParticipants.values()].map((who) => [who.identity, who.attributes]))";
            let attributes = browser.eval("anna", attributes)?;
            for (who, at) in [("anna", "cph-1"), ("chen", "sto-1"), ("bo", "sto-1")] {
                let own = &attributes[who];
                assert_eq!(own["systir.node"], at, "{attributes:#}");
                let node = nodes.iter().find(|node| node["node"] == at).context("no such node")?;
                assert_eq!(own["systir.country"], node["country"], "{attributes:#}");
            }
            assert_eq!(connected["attributes"]["systir.node"], "sto-1", "{connected}");
            bo.end()?;
            Ok(())
        })
        .await?
    })
}

#[test]
fn a_machine_that_is_not_the_operators_own_is_named_plainly() -> Result<()> {
    play(async {
        // An institution that does allow the leased machine.
        let base = port_block()?;
        let etcd = systir_tests::etcd::Etcd::start(base + 20).await?;
        let mut cluster = Cluster::prepared(&etcd.url(), base, &[("cph-1", 1), ("aws-sto-1", 3)]).await?;
        let rules = cluster.folder().join("ku.dk.cedar");
        let text = std::fs::read_to_string(&rules)?;
        let text = text.replace(
            "unless { resource.host_controlled_from in Zone::\"EEA\" };",
            "when { resource.host_controlled_from == Country::\"CN\" };",
        );
        let text = text.replacen(
            "resource.operator == Operator::\"nordunet\" && resource.own_machine &&\n  resource.country in Zone::\"Nordic\"",
            "resource.country == Country::\"SE\" && !resource.own_machine",
            1,
        );
        std::fs::write(
            &rules,
            text.replace("{operator}'s own machine in the Nordic countries", "a machine in Sweden"),
        )?;
        for node in ["cph-1", "sto-1", "aws-sto-1"] {
            cluster.start(node)?;
        }
        cluster.ready(&["cph-1", "sto-1", "aws-sto-1"]).await?;
        let door = cluster.url("cph-1");
        tokio::task::spawn_blocking(move || -> Result<()> {
            let mut browser = Browser::start()?;
            browser.join_with(&door, ROOM, "anna", &token(ROOM, "anna")?)?;
            browser.join_with(&door, ROOM, "chen", &token(ROOM, "chen")?)?;
            browser.click("anna", "#info")?;
            browser.wait("anna", "document.querySelectorAll('#where .node').length === 2", 30)?;
            let cards = browser.eval("anna", CARDS)?;
            says(&cards[1], "aws-sto-1", "Stockholm, Sweden", "sister (spill)", "ku-spill-nordic");
            assert_eq!(fact(&cards[1], "Machine of"), "amazon (controlled from United States)");
            let warning = cards[1]["warning"].as_str().unwrap_or_default();
            assert_eq!(warning, "This machine is not nordunet's own. It belongs to amazon, which is controlled from United States.");
            // It is in the sentence and in the picture too, not only further down.
            let sentence = browser.eval("anna", "document.querySelector('#where .sentence').textContent")?;
            assert!(sentence.as_str().is_some_and(|words| words.contains("aws-sto-1 is not a machine of nordunet's own")), "{sentence}");
            assert_eq!(browser.eval("anna", "document.querySelectorAll('#where svg rect.foreign').length")?, 1);
            browser.shot("anna", "leased-machine-laptop", LAPTOP)?;
            browser.shot("anna", "leased-machine-phone", PHONE)?;
            Ok(())
        })
        .await?
    })
}

#[test]
fn a_front_door_that_carries_nobody_is_named_with_since_when_and_stays_named() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 3)]).await?;
        // Signalling ends at the sister, media goes to the home: the sister does not carry the room.
        let door = cluster.url("sto-1");
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || -> Result<()> {
            let mut browser = Browser::start()?;
            browser.open("anna", &format!("{door}/?room={ROOM}&name=anna"))?;
            // Her front door's answer comes when the media node has long spoken.
            let slow = "const real = window.fetch; window.asked = []; window.fetch = async (...what) => {
                const answer = await real(...what);
                if (String(what[0]).endsWith('/where')) {
                    asked.push(await answer.clone().json());
                    await new Promise((go) => { window.letGo = go; });
                    const text = await answer.text();
                    answer.text = async () => { window.read = true; return text; };
                }
                return answer;
            }; true";
            browser.eval("anna", slow)?;
            browser.click("anna", "#join-button")?;
            browser.wait("anna", "document.querySelectorAll('#where .node').length === 2", 30)?;
            browser.wait("anna", "window.letGo !== undefined", 30)?;
            let partial = browser.eval("anna", "asked[0]")?;
            assert_eq!(
                (&partial["complete"], &partial["told_by"]),
                (&json!(false), &json!("sto-1")),
                "{partial:#}"
            );
            browser.eval("anna", "letGo()")?;
            browser.wait("anna", "window.read", 30)?;
            browser.click("anna", "#info")?;
            let cards = browser.eval("anna", CARDS)?;
            assert_eq!(cards.as_array().map(Vec::len), Some(2), "the fuller statement stays: {cards:#}");
            says(&cards[0], "cph-1", "Copenhagen, Denmark", "home", "ku-home-denmark");
            says(&cards[1], "sto-1", "Stockholm, Sweden", "gateway", "ku-front-door");
            let foot = browser.eval("anna", "document.querySelector('#where .foot').textContent")?;
            assert!(
                foot.as_str().is_some_and(|words| words.contains("Your signalling ends at sto-1.")),
                "{foot}"
            );
            browser.shot("anna", "gateway-laptop", LAPTOP)?;
            browser.shot("anna", "gateway-phone", PHONE)?;

            // Whoever comes and goes does not change since when it is a door.
            let since = |browser: &mut Browser| -> Result<Value> {
                let cards = browser.eval("anna", CARDS)?;
                Ok(cards[1]["facts"]["Since"].clone())
            };
            let before = since(&mut browser)?;
            browser.join_with(&door, ROOM, "chen", &token(ROOM, "chen")?)?;
            browser.wait("anna", "systirRoom().remoteParticipants.size === 1", 30)?;
            browser.close("chen")?;
            browser.wait("anna", "systirRoom().remoteParticipants.size === 0", 30)?;
            assert_eq!(since(&mut browser)?, before);
            // Asked of the home without a page: all of it, and since when the door is one.
            let told = runtime.block_on(cluster.whereabouts("cph-1", ROOM))?;
            assert_eq!((&told["complete"], &told["told_by"]), (&json!(true), &json!("cph-1")), "{told:#}");
            let door =
                told["nodes"].as_array().and_then(|nodes| nodes.iter().find(|node| node["node"] == "sto-1"));
            let door = door.with_context(|| format!("the door is not told: {told:#}"))?;
            assert_eq!((&door["roles"], &door["region"]), (&json!(["gateway"]), &json!("se-stockholm")));
            let home = told["nodes"][0]["since"].as_u64().context("no since")?;
            assert!(door["since"].as_u64().is_some_and(|since| since >= home), "{told:#}");
            Ok(())
        })
        .await?
    })
}

#[test]
fn every_link_between_three_nodes_is_told_by_every_one_of_them() -> Result<()> {
    play(async {
        // An institution that lets the leased machine carry its rooms, too.
        let base = port_block()?;
        let etcd = systir_tests::etcd::Etcd::start(base + 20).await?;
        let mut cluster =
            Cluster::prepared(&etcd.url(), base, &[("cph-1", 1), ("sto-1", 1), ("aws-sto-1", 1)]).await?;
        allow_any_nordic_machine(&cluster)?;
        for node in ["cph-1", "sto-1", "aws-sto-1"] {
            cluster.start(node)?;
        }
        cluster.ready(&["cph-1", "sto-1", "aws-sto-1"]).await?;
        let people = Config {
            url: cluster.url("cph-1"),
            room: ROOM.to_owned(),
            participants: 3,
            audio: true,
            stay: true,
            ..Config::default()
        };
        let _running = tokio::spawn(systir_load::run(people));
        let all = json!([
            ["aws-sto-1", "cph-1", "up", ["aws-sto-1", "cph-1"]],
            ["aws-sto-1", "sto-1", "up", ["aws-sto-1", "sto-1"]],
            ["cph-1", "sto-1", "up", ["cph-1", "sto-1"]],
        ]);
        for node in ["cph-1", "sto-1", "aws-sto-1"] {
            eventually(&format!("{node} tells of three links"), Duration::from_secs(45), || async {
                let statement = cluster.whereabouts(node, ROOM).await.ok()?;
                let link = |link: &Value| json!([link["a"], link["b"], link["state"], link["seen_by"]]);
                let links: Vec<Value> = statement["links"].as_array()?.iter().map(link).collect();
                (json!(links) == all).then_some(())
            })
            .await?;
        }
        Ok(())
    })
}

/// Writes rules by which any machine in the Nordic countries may carry rooms and be their door.
fn allow_any_nordic_machine(cluster: &Cluster) -> Result<()> {
    let rules = cluster.folder().join("ku.dk.cedar");
    let text = std::fs::read_to_string(&rules)?;
    let text = text.replace(
        "unless { resource.host_controlled_from in Zone::\"EEA\" };",
        "when { resource.host_controlled_from == Country::\"CN\" };",
    );
    std::fs::write(&rules, text.replace("resource.own_machine &&", ""))?;
    Ok(())
}

/// What an accessibility engine finds wrong on a page as it is now.
fn faults(browser: &mut Browser, page: &str) -> Result<Value> {
    let axe = clients().join("node_modules/axe-core/axe.min.js");
    browser.carry_out(&json!({"do": "script", "page": page, "file": axe}))?;
    let run = "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then((found) =>
        found.violations.map((fault) => `${fault.id}: ${fault.help}: ${fault.nodes.map((node) => node.html).join(' ')}`))";
    browser.eval(page, run)
}

/// Where the focus goes with each press of Tab.
fn focus_order(browser: &mut Browser, page: &str, presses: usize) -> Result<Vec<String>> {
    (0..presses)
        .map(|_| {
            browser.carry_out(&json!({"do": "press", "page": page, "keys": ["Tab"]}))?;
            let id = browser.eval(page, "document.activeElement.id")?;
            Ok(id.as_str().unwrap_or_default().to_owned())
        })
        .collect()
}

#[test]
fn the_page_is_usable_by_keyboard_and_screen_reader_in_both_sizes_and_colours() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[]).await?;
        let door = cluster.url("cph-1");
        tokio::task::spawn_blocking(move || -> Result<()> {
            let mut browser = Browser::start()?;
            browser.open("anna", &format!("{door}/?room={ROOM}&name=anna"))?;
            let order = focus_order(&mut browser, "anna", 5)?;
            assert_eq!(order, ["room", "name", "with-mic", "with-cam", "join-button"]);
            let sizes = [("laptop", LAPTOP), ("phone", PHONE)];
            let schemes = ["light", "dark"];
            let look = |browser: &mut Browser, what: &str| -> Result<()> {
                for (size, (width, height)) in sizes {
                    for scheme in schemes {
                        let media = json!([{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]);
                        browser.carry_out(&json!({"do": "media", "page": "anna", "features": media}))?;
                        browser.shot("anna", &format!("{what}-{size}-{scheme}"), (width, height))?;
                        let faults = faults(browser, "anna")?;
                        assert_eq!(faults, json!([]), "{what}, {size}, {scheme}");
                        let wider = "document.documentElement.scrollWidth > innerWidth";
                        assert_eq!(browser.eval("anna", wider)?, false, "{what}, {size}: nothing sticks out");
                    }
                }
                Ok(())
            };
            look(&mut browser, "door")?;
            browser.carry_out(&json!({"do": "press", "page": "anna", "keys": ["Enter"]}))?;
            browser.wait("anna", "!document.getElementById('meeting').hidden", 30)?;
            assert_eq!(browser.eval("anna", "document.activeElement.id")?, "title", "the focus came along");
            browser.wait("anna", "systirRoom().localParticipant.isCameraEnabled && document.getElementById('live').textContent === ''", 30)?;
            look(&mut browser, "meeting")?;
            browser.eval("anna", "document.getElementById('title').focus()")?;
            assert_eq!(focus_order(&mut browser, "anna", 5)?, ["info", "mic", "cam", "screen", "leave"]);
            browser.click("anna", "#info")?;
            browser.wait("anna", "document.querySelectorAll('#where .node').length === 1", 30)?;
            look(&mut browser, "where")?;
            assert_eq!(browser.eval("anna", "document.getElementById('info').getAttribute('aria-expanded')")?, "true");
            browser.carry_out(&json!({"do": "press", "page": "anna", "keys": ["Escape"]}))?;
            assert_eq!(browser.eval("anna", "document.activeElement.id")?, "info", "the focus goes back");
            assert_eq!(browser.eval("anna", "document.getElementById('where').hidden")?, true);
            let motion = "[...document.querySelectorAll('*')].filter((one) => getComputedStyle(one).transitionDuration !== '0s').length";
            assert_eq!(browser.eval("anna", motion)?, 0, "nothing moves for who asked for that");
            // What happens is said: a live region, not only pixels.
            // Only asked to: the words last for seconds.
            browser.try_join(&door, ROOM, "bo")?;
            browser.wait("anna", "document.querySelector('[role=status]').textContent.includes('bo joined')", 30)?;
            browser.click("anna", "#leave")?;
            browser.wait("anna", "document.activeElement.id === 'join-button'", 30)?;
            Ok(())
        })
        .await?
    })
}
