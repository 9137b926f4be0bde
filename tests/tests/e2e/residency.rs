//! Residency ("where is my data"): the page's (i) in Chromium, updated live during a spill, and the same
//! statement over HTTP, on the data topic and in the participants' attributes.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use systir_load::Config;
use systir_tests::browser::{Browser, clients};
use systir_tests::cluster::{Cluster, token};
use systir_tests::native::NativeClient;
use systir_tests::process::{eventually, port_block};
use systir_tests::scenario::run_scenario;

const ROOM: &str = "seminar";
const PHONE: (u32, u32) = (390, 844);
const LAPTOP: (u32, u32) = (1280, 800);

/// JavaScript: the nodes that the panel shows, each with heading, roles, facts by name, and warning.
const CARDS: &str = "[...document.querySelectorAll('#where .node')].map((card) => ({
    name: card.querySelector('h3').firstChild.textContent,
    roles: [...card.querySelectorAll('.badge')].map((badge) => badge.textContent),
    facts: Object.fromEntries([...card.querySelectorAll('dt')].map((dt) => [dt.textContent, dt.nextSibling.textContent])),
    warning: card.querySelector('.warning')?.textContent ?? '',
}))";

/// JavaScript: the numbers of boxes and of links in the diagram.
const DIAGRAM: &str = "[document.querySelectorAll('#where svg rect').length,
    document.querySelectorAll('#where svg line.link-line').length]";

/// JavaScript: what the panel says that its statement rests on, by name.
const BASIS: &str = "Object.fromEntries([...document.querySelectorAll('#where .basis dt')]
    .map((dt) => [dt.textContent, dt.nextSibling.textContent]))";

/// JavaScript: is the age of the grant, in words, that of the last statement?
const AGE_IS_RIGHT: &str = r"(() => {
    const issued = statements.at(-1).grant.issued_ms;
    const age = document.querySelector('#where .basis time.age');
    const [, count, unit] = /^(\d+) (s|min) ago$/.exec(age.textContent);
    const seconds = (Date.now() - issued) / 1000 - count * (unit === 'min' ? 60 : 1);
    return Date.parse(age.dateTime) === issued && seconds > -5 && seconds < (unit === 'min' ? 65 : 5);
})()";

fn fact<'a>(card: &'a Value, name: &str) -> &'a str {
    card["facts"][name].as_str().unwrap_or_default()
}

/// Checks the statement about a node.
fn assert_card(card: &Value, name: &str, location: &str, role: &str, rule: &str) {
    assert_eq!(card["name"], name, "{card:#}");
    assert_eq!(fact(card, "Where"), location, "{card:#}");
    assert!(
        fact(card, "Region").contains(&location.split(',').next().unwrap_or_default().to_lowercase()),
        "{card:#}"
    );
    assert_eq!(fact(card, "Run by"), "nordunet (controlled from Denmark)", "{card:#}");
    assert_eq!(fact(card, "Statement"), "declared by nordunet", "{card:#}");
    let key = fact(card, "Signed").strip_prefix("by nordunet, directory version 1, key SHA256:");
    assert!(key.is_some_and(|key| key.len() == 43), "{card:#}");
    assert!(fact(card, "Allowed by").contains(rule), "{card:#}");
    assert!(!fact(card, "Since").is_empty() && !fact(card, "Since").contains("1970"), "{card:#}");
    assert!(card["roles"].as_array().is_some_and(|roles| roles.iter().any(|one| one == role)), "{card:#}");
}

/// The fingerprint of the key that signed the document of this kind that a node uses.
fn fingerprint(documents: &Value, kind: &str) -> Result<String> {
    let mut all = documents["documents"].as_array().into_iter().flatten();
    let used = all.find(|document| document["kind"] == kind).context("no such document")?;
    Ok(used["signers"][0]["fingerprint"].as_str().context("no fingerprint")?.to_owned())
}

/// Who declared where the nodes are, which policy decided, who signed both, and how old the grant is.
fn assert_basis(browser: &mut Browser, documents: &Value, residency: &Value) -> Result<()> {
    for card in browser.eval("anna", CARDS)?.as_array().context("no cards")? {
        let key = fingerprint(documents, "directory")?;
        assert_eq!(fact(card, "Signed"), format!("by nordunet, directory version 1, key {key}"));
    }
    let basis = browser.eval("anna", BASIS)?;
    assert_eq!(basis["Policy"], "ku.dk, version 1", "{basis:#}");
    assert_eq!(basis["Signed"], format!("by ku.dk, key {}", fingerprint(documents, "bundle")?), "{basis:#}");
    assert_eq!(basis["Room class"], "standard", "{basis:#}");
    // "Proved" is said of the policy's text only, on the page to which this leads.
    assert_eq!(basis["In words"], "what it permits, and what is proved of its text", "{basis:#}");
    let leads_to = browser.eval("anna", "document.querySelector('#where .basis a').getAttribute('href')")?;
    assert_eq!(leads_to, "/systir/v1/policy/ku.dk");
    let claims = r"[...document.querySelectorAll('#where .node')].some((card) => /\bproved\b/i.test(card.textContent))";
    assert_eq!(browser.eval("anna", claims)?, false, "no card of a node says that it is proved");
    let (grant, told) = (basis["Grant"].as_str().context("no grant")?, &residency["grant"]);
    let signed = if told["serial"] == 1 { "signed" } else { "renewed" };
    let begin = format!("epoch {}, {signed} by cph-1 ", told["epoch"]);
    let number = format!(" ago (number {}, ", told["serial"]);
    assert!(grant.starts_with(&begin) && grant.contains(&number), "{basis:#}");
    browser.wait("anna", AGE_IS_RIGHT, 30)?;
    let age = "document.querySelector('#where .basis time.age').textContent";
    let before = browser.eval("anna", age)?;
    browser.wait("anna", &format!("{age} !== {before}"), 90)?;
    browser.eval("anna", "document.querySelector('#where .basis').scrollIntoView(); true")?;
    browser.screenshot("anna", "what-it-rests-on-laptop", LAPTOP)?;
    browser.screenshot("anna", "what-it-rests-on-phone", PHONE).map(drop)
}

fn record_statements(browser: &mut Browser, participant: &str) -> Result<()> {
    let record = "window.statements = []; window.neverReloaded = true; systirRoom().on('dataReceived', (bytes, sender, kind, topic) => {
        if (topic === 'systir.where') statements.push(JSON.parse(new TextDecoder().decode(bytes)));
    }); true";
    browser.eval(participant, record)?;
    Ok(())
}

#[test]
fn the_page_shows_one_node_before_the_spill_and_two_after_it() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 3)]).await?;
        let gateway = cluster.url("cph-1");
        let where_url = format!("{gateway}/systir/v1/rooms/{ROOM}/where");
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || -> Result<()> {
            let over_http = || -> Result<Value> {
                runtime.block_on(async {
                    let token = token(ROOM, "observer")?;
                    Ok(reqwest::Client::new().get(&where_url).bearer_auth(token).send().await?.json().await?)
                })
            };
            let mut browser = Browser::start()?;
            browser.join_with_token(&gateway, ROOM, "anna", &token(ROOM, "anna")?)?;
            record_statements(&mut browser, "anna")?;
            browser.wait("anna", "document.getElementById('where-short').textContent === 'Relayed in Denmark'", 30)?;
            // The panel opens by keyboard.
            browser.eval("anna", "document.getElementById('info').focus()")?;
            browser.command(&json!({"do": "press", "page": "anna", "keys": ["Enter"]}))?;
            browser.wait("anna", "!document.getElementById('where').hidden", 10)?;
            assert_eq!(browser.eval("anna", "document.activeElement.id")?, "where-title");
            let cards = browser.eval("anna", CARDS)?;
            assert_eq!(cards.as_array().map(Vec::len), Some(1), "{cards:#}");
            assert_card(&cards[0], "cph-1", "Copenhagen, Denmark", "home", "ku-home-denmark");
            assert_eq!(fact(&cards[0], "Machine of"), "nordunet (controlled from Denmark)");
            assert_eq!(cards[0]["warning"], "");
            assert_eq!(browser.eval("anna", DIAGRAM)?, json!([1, 0]));
            browser.screenshot("anna", "before-the-spill-laptop", LAPTOP)?;
            browser.screenshot("anna", "before-the-spill-phone", PHONE)?;

            // Chen is placed on the sister: the open panel updates without a reload.
            browser.join_with_token(&gateway, ROOM, "chen", &token(ROOM, "chen")?)?;
            browser.wait("anna", "document.querySelectorAll('#where .node').length === 2", 30)?;
            browser.wait("anna", &format!("JSON.stringify({DIAGRAM}) === '[2,1]'"), 30)?;
            assert_eq!(browser.eval("anna", "window.neverReloaded")?, true);
            let cards = browser.eval("anna", CARDS)?;
            assert_card(&cards[0], "cph-1", "Copenhagen, Denmark", "home", "ku-home-denmark");
            assert_card(&cards[1], "sto-1", "Stockholm, Sweden", "sister (spill)", "ku-spill-nordic");
            assert_eq!(fact(&cards[1], "Machine of"), "nordunet (controlled from Denmark)");
            let summary = browser.eval("anna", "document.getElementById('where-short').textContent")?;
            assert_eq!(summary, "Relayed in Denmark and Sweden");
            let label = browser.eval("anna", "document.querySelector('#where svg').getAttribute('aria-label')")?;
            assert!(label.as_str().is_some_and(|text| text.contains("sto-1 in Stockholm, Sweden")), "{label}");
            browser.wait_for_media("anna", 1)?;
            browser.screenshot("anna", "after-the-spill-laptop", LAPTOP)?;
            browser.screenshot("anna", "after-the-spill-phone", PHONE)?;

            // A participant on the sister whose client knows nothing of Systir.
            let mut bo = NativeClient::join(&gateway.replace("http", "ws"), &token(ROOM, "bo")?, &["--hold"])?;
            let connected = bo.wait_for("connected")?;
            let statement = bo.wait_for_matching("data", |event| event["topic"] == "systir.where")?;
            let statement: Value = serde_json::from_str(statement["text"].as_str().context("no text")?)?;

            let http = over_http()?;
            let nodes = http["nodes"].as_array().context("no nodes")?;
            let stable = |node: &Value| {
                // Compares what does not change from moment to moment.
                json!([node["node"], node["country"], node["host"], node["rule"], node["since"], node["roles"]])
            };
            let all = |residency: &Value| residency["nodes"].as_array().map(|nodes| nodes.iter().map(stable).collect::<Vec<_>>());
            assert_eq!(all(&http), all(&statement), "HTTP and the data topic of the sister agree");
            let page = browser.eval("anna", "statements.at(-1)")?;
            assert_eq!(all(&http), all(&page), "HTTP and the data topic of the home node agree");
            let documents = runtime.block_on(cluster.admin("cph-1", "documents"))?;
            assert_basis(&mut browser, &documents, &http)?;
            for card in browser.eval("anna", CARDS)?.as_array().context("no cards")? {
                let node = nodes.iter().find(|node| node["node"] == card["name"]).context("an unknown card")?;
                assert!(fact(card, "Allowed by").contains(node["rule"].as_str().unwrap_or("?")), "{card:#}");
            }
            let attributes = "Object.fromEntries([systirRoom().localParticipant, ...systirRoom().remoteParticipants.values()].map((one) => [one.identity, one.attributes]))";
            let attributes = browser.eval("anna", attributes)?;
            for (identity, name) in [("anna", "cph-1"), ("chen", "sto-1"), ("bo", "sto-1")] {
                let own = &attributes[identity];
                assert_eq!(own["systir.node"], name, "{attributes:#}");
                let node = nodes.iter().find(|node| node["node"] == name).context("no such node")?;
                assert_eq!(own["systir.country"], node["country"], "{attributes:#}");
            }
            assert_eq!(connected["attributes"]["systir.node"], "sto-1", "{connected}");
            bo.finish()?;
            Ok(())
        })
        .await?
    })
}

#[test]
fn a_node_on_a_machine_of_another_host_is_marked() -> Result<()> {
    run_scenario(async {
        // A policy that allows the node on the leased machine.
        let base = port_block()?;
        let etcd = systir_tests::etcd::Etcd::start(base + 20).await?;
        let mut cluster = Cluster::prepare(&etcd.url(), base, &[("cph-1", 1), ("aws-sto-1", 3)]).await?;
        cluster.publish_rules(1, |rules| {
            let rules = rules.replace(
                "unless { resource.host_controlled_from in Zone::\"EEA\" };",
                "when { resource.host_controlled_from == Country::\"CN\" };",
            );
            let spill = "resource.operator == Operator::\"nordunet\" && resource.own_machine &&\n  resource.country in Zone::\"Nordic\"";
            let rules =
                rules.replacen(spill, "resource.country == Country::\"SE\" && !resource.own_machine", 1);
            rules.replace("{operator}'s own machine in the Nordic countries", "a machine in Sweden")
        })?;
        for node in ["cph-1", "sto-1", "aws-sto-1"] {
            cluster.start(node)?;
        }
        cluster.wait_ready(&["cph-1", "sto-1", "aws-sto-1"]).await?;
        let gateway = cluster.url("cph-1");
        tokio::task::spawn_blocking(move || -> Result<()> {
            let mut browser = Browser::start()?;
            browser.join_with_token(&gateway, ROOM, "anna", &token(ROOM, "anna")?)?;
            browser.join_with_token(&gateway, ROOM, "chen", &token(ROOM, "chen")?)?;
            browser.click("anna", "#info")?;
            browser.wait("anna", "document.querySelectorAll('#where .node').length === 2", 30)?;
            let cards = browser.eval("anna", CARDS)?;
            assert_card(&cards[1], "aws-sto-1", "Stockholm, Sweden", "sister (spill)", "ku-spill-nordic");
            assert_eq!(fact(&cards[1], "Machine of"), "amazon (controlled from United States)");
            let warning = cards[1]["warning"].as_str().unwrap_or_default();
            assert_eq!(warning, "This machine is not nordunet's own. It belongs to amazon, which is controlled from United States.");
            // The summary sentence and the diagram mark it too.
            let sentence = browser.eval("anna", "document.querySelector('#where .sentence').textContent")?;
            assert!(sentence.as_str().is_some_and(|text| text.contains("aws-sto-1 is not a machine of nordunet's own")), "{sentence}");
            assert_eq!(browser.eval("anna", "document.querySelectorAll('#where svg rect.foreign').length")?, 1);
            browser.screenshot("anna", "leased-machine-laptop", LAPTOP)?;
            browser.screenshot("anna", "leased-machine-phone", PHONE)?;
            Ok(())
        })
        .await?
    })
}

#[test]
fn a_gateway_without_media_is_shown_with_its_start_time_and_stays_shown() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 3)]).await?;
        // The sister is only the gateway; media goes to the home node.
        let gateway = cluster.url("sto-1");
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || -> Result<()> {
            let mut browser = Browser::start()?;
            browser.open("anna", &format!("{gateway}/?room={ROOM}&name=anna"))?;
            // Delays the gateway's answer until after the media node's statement.
            let delay =
                "const real = window.fetch; window.answers = []; window.fetch = async (...request) => {
                const answer = await real(...request);
                if (String(request[0]).endsWith('/where')) {
                    answers.push(await answer.clone().json());
                    await new Promise((resolve) => { window.release = resolve; });
                    const text = await answer.text();
                    answer.text = async () => { window.read = true; return text; };
                }
                return answer;
            }; true";
            browser.eval("anna", delay)?;
            browser.click("anna", "#join-button")?;
            browser.wait("anna", "document.querySelectorAll('#where .node').length === 2", 30)?;
            browser.wait("anna", "window.release !== undefined", 30)?;
            let partial = browser.eval("anna", "answers[0]")?;
            assert_eq!(
                (&partial["complete"], &partial["reported_by"]),
                (&json!(false), &json!("sto-1")),
                "{partial:#}"
            );
            browser.eval("anna", "release()")?;
            browser.wait("anna", "window.read", 30)?;
            browser.click("anna", "#info")?;
            let cards = browser.eval("anna", CARDS)?;
            assert_eq!(cards.as_array().map(Vec::len), Some(2), "the complete statement stays: {cards:#}");
            assert_card(&cards[0], "cph-1", "Copenhagen, Denmark", "home", "ku-home-denmark");
            assert_card(&cards[1], "sto-1", "Stockholm, Sweden", "gateway", "ku-gateway");
            let foot = browser.eval("anna", "document.querySelector('#where .foot').textContent")?;
            assert!(
                foot.as_str().is_some_and(|text| text.contains("Your signalling ends at sto-1.")),
                "{foot}"
            );
            browser.screenshot("anna", "gateway-laptop", LAPTOP)?;
            browser.screenshot("anna", "gateway-phone", PHONE)?;

            // Joins and leaves do not change the gateway's start time.
            let since = |browser: &mut Browser| -> Result<Value> {
                let cards = browser.eval("anna", CARDS)?;
                Ok(cards[1]["facts"]["Since"].clone())
            };
            let before = since(&mut browser)?;
            browser.join_with_token(&gateway, ROOM, "chen", &token(ROOM, "chen")?)?;
            browser.wait("anna", "systirRoom().remoteParticipants.size === 1", 30)?;
            browser.close("chen")?;
            browser.wait("anna", "systirRoom().remoteParticipants.size === 0", 30)?;
            assert_eq!(since(&mut browser)?, before);
            // The home node's statement over HTTP is complete and has the gateway's start time.
            let statement = runtime.block_on(cluster.residency("cph-1", ROOM))?;
            assert_eq!(
                (&statement["complete"], &statement["reported_by"]),
                (&json!(true), &json!("cph-1")),
                "{statement:#}"
            );
            let gateway = statement["nodes"]
                .as_array()
                .and_then(|nodes| nodes.iter().find(|node| node["node"] == "sto-1"));
            let gateway = gateway.with_context(|| format!("the gateway is missing: {statement:#}"))?;
            assert_eq!(
                (&gateway["roles"], &gateway["region"]),
                (&json!(["gateway"]), &json!("se-stockholm"))
            );
            let home = statement["nodes"][0]["since"].as_u64().context("no since")?;
            assert!(gateway["since"].as_u64().is_some_and(|since| since >= home), "{statement:#}");
            Ok(())
        })
        .await?
    })
}

#[test]
fn each_link_between_three_nodes_is_reported_by_all_of_them() -> Result<()> {
    run_scenario(async {
        // A policy that allows the node on the leased machine to carry rooms.
        let base = port_block()?;
        let etcd = systir_tests::etcd::Etcd::start(base + 20).await?;
        let mut cluster =
            Cluster::prepare(&etcd.url(), base, &[("cph-1", 1), ("sto-1", 1), ("aws-sto-1", 1)]).await?;
        allow_any_nordic_node(&cluster)?;
        for node in ["cph-1", "sto-1", "aws-sto-1"] {
            cluster.start(node)?;
        }
        cluster.wait_ready(&["cph-1", "sto-1", "aws-sto-1"]).await?;
        let load = Config {
            url: cluster.url("cph-1"),
            room: ROOM.to_owned(),
            participants: 3,
            audio: true,
            stay: true,
            ..Config::default()
        };
        let _running = tokio::spawn(systir_load::run(load));
        let all = json!([
            ["aws-sto-1", "cph-1", "up", ["aws-sto-1", "cph-1"]],
            ["aws-sto-1", "sto-1", "up", ["aws-sto-1", "sto-1"]],
            ["cph-1", "sto-1", "up", ["cph-1", "sto-1"]],
        ]);
        for node in ["cph-1", "sto-1", "aws-sto-1"] {
            eventually(&format!("{node} reports three links"), Duration::from_secs(45), || async {
                let statement = cluster.residency(node, ROOM).await.ok()?;
                let link = |link: &Value| json!([link["a"], link["b"], link["state"], link["seen_by"]]);
                let links: Vec<Value> = statement["links"].as_array()?.iter().map(link).collect();
                (json!(links) == all).then_some(())
            })
            .await?;
        }
        Ok(())
    })
}

/// Changes the policy so that any node in the Nordic countries may carry rooms and be their gateway.
fn allow_any_nordic_node(cluster: &Cluster) -> Result<()> {
    cluster.publish_rules(1, |rules| {
        let rules = rules.replace(
            "unless { resource.host_controlled_from in Zone::\"EEA\" };",
            "when { resource.host_controlled_from == Country::\"CN\" };",
        );
        rules.replace("resource.own_machine &&", "")
    })?;
    cluster.approve_keys()
}

/// The accessibility faults that axe finds on a page.
fn faults(browser: &mut Browser, page: &str) -> Result<Value> {
    let axe = clients().join("node_modules/axe-core/axe.min.js");
    browser.command(&json!({"do": "script", "page": page, "file": axe}))?;
    let run = "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then((found) =>
        found.violations.map((fault) => `${fault.id}: ${fault.help}: ${fault.nodes.map((node) => node.html).join(' ')}`))";
    browser.eval(page, run)
}

/// The ids of the elements that get the focus with each press of Tab.
fn focus_order(browser: &mut Browser, page: &str, presses: usize) -> Result<Vec<String>> {
    (0..presses)
        .map(|_| {
            browser.command(&json!({"do": "press", "page": page, "keys": ["Tab"]}))?;
            let id = browser.eval(page, "document.activeElement.id")?;
            Ok(id.as_str().unwrap_or_default().to_owned())
        })
        .collect()
}

#[test]
fn the_page_is_usable_by_keyboard_and_screen_reader_in_both_sizes_and_colours() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[]).await?;
        let gateway = cluster.url("cph-1");
        tokio::task::spawn_blocking(move || -> Result<()> {
            let mut browser = Browser::start()?;
            browser.open("anna", &format!("{gateway}/?room={ROOM}&name=anna"))?;
            let order = focus_order(&mut browser, "anna", 5)?;
            assert_eq!(order, ["room", "name", "with-mic", "with-cam", "join-button"]);
            let sizes = [("laptop", LAPTOP), ("phone", PHONE)];
            let schemes = ["light", "dark"];
            let check = |browser: &mut Browser, what: &str| -> Result<()> {
                for (size, (width, height)) in sizes {
                    for scheme in schemes {
                        let media = json!([{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]);
                        browser.command(&json!({"do": "media", "page": "anna", "features": media}))?;
                        browser.screenshot("anna", &format!("{what}-{size}-{scheme}"), (width, height))?;
                        let faults = faults(browser, "anna")?;
                        assert_eq!(faults, json!([]), "{what}, {size}, {scheme}");
                        let wider = "document.documentElement.scrollWidth > innerWidth";
                        assert_eq!(browser.eval("anna", wider)?, false, "{what}, {size}: no horizontal overflow");
                    }
                }
                Ok(())
            };
            check(&mut browser, "prejoin")?;
            browser.command(&json!({"do": "press", "page": "anna", "keys": ["Enter"]}))?;
            browser.wait("anna", "!document.getElementById('meeting').hidden", 30)?;
            assert_eq!(browser.eval("anna", "document.activeElement.id")?, "title", "the focus moved to the meeting");
            browser.wait("anna", "systirRoom().localParticipant.isCameraEnabled && document.getElementById('live').textContent === ''", 30)?;
            check(&mut browser, "meeting")?;
            browser.eval("anna", "document.getElementById('title').focus()")?;
            assert_eq!(focus_order(&mut browser, "anna", 5)?, ["info", "mic", "cam", "screen", "leave"]);
            browser.click("anna", "#info")?;
            browser.wait("anna", "document.querySelectorAll('#where .node').length === 1", 30)?;
            check(&mut browser, "where")?;
            assert_eq!(browser.eval("anna", "document.getElementById('info').getAttribute('aria-expanded')")?, "true");
            browser.command(&json!({"do": "press", "page": "anna", "keys": ["Escape"]}))?;
            assert_eq!(browser.eval("anna", "document.activeElement.id")?, "info", "the focus goes back");
            assert_eq!(browser.eval("anna", "document.getElementById('where').hidden")?, true);
            let motion = "[...document.querySelectorAll('*')].filter((one) => getComputedStyle(one).transitionDuration !== '0s').length";
            assert_eq!(browser.eval("anna", motion)?, 0, "no transitions with reduced motion");
            // A live region announces joins. `try_join` does not wait: the text disappears after seconds.
            browser.try_join(&gateway, ROOM, "bo")?;
            browser.wait("anna", "document.querySelector('[role=status]').textContent.includes('bo joined')", 30)?;
            browser.click("anna", "#leave")?;
            browser.wait("anna", "document.activeElement.id === 'join-button'", 30)?;
            Ok(())
        })
        .await?
    })
}
