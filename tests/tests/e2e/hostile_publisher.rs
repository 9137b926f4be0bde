//! A hostile publisher: writes documents into the nodes' folder, and publishes them through gateways. While all approved
//! nodes are full, none of them sends a packet to a node that `ku.dk` did not approve with its key.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use systir_documents::{Note, SigningKey};
use systir_tests::cluster::token;
use systir_tests::meeting::{Member, wait_until_all_hear};
use systir_tests::process::eventually;
use systir_tests::scripted::{ScriptedClient, ScriptedCodec};

use crate::hostile_node::{Attacked, run_attack};
use crate::policy_changes::wait_for_version;
use crate::unapproved_node::UNAPPROVED;

const LIMIT: Duration = Duration::from_secs(30);
const APPROVED: [&str; 2] = ["cph-1", "sto-1"];

/// The rules, so that machines of any host in the EEA are approved.
fn looser(rules: &str) -> String {
    rules
        .replace("resource.own_machine &&", "")
        .replace("resource.host_controlled_from in Zone", "resource.country in Zone")
}

/// The same text, signed by this key alone.
fn signed_by(note: &str, key: &SigningKey) -> Result<String> {
    Ok(Note::sign(Note::parse(note)?.text(), key)?.to_string())
}

/// What no node may take, and the file of the document that it would replace.
fn forged(attacked: &Attacked) -> Result<Vec<(&'static str, &'static str, String)>> {
    let documents = attacked.cluster.documents()?;
    let loose = |version| {
        documents.bundle(version, |bundle| bundle.policy = looser(&bundle.policy)).context("a looser bundle")
    };
    let own_machine = documents.directory(2, |directory| {
        for node in directory.nodes.iter_mut().filter(|node| node.id == UNAPPROVED) {
            (node.host, node.host_controlled_from) = ("nordunet".to_owned(), "DK".to_owned());
        }
    })?;
    let seed = rand::random;
    let (bundle, directory) = ("ku.dk.note", "directory.note");
    Ok(vec![
        (
            "a key that nobody pins",
            bundle,
            signed_by(&loose(2)?, &SigningKey::from_seed("ku.dk/demo-2", seed())?)?,
        ),
        (
            "a key with the name of a pinned one",
            bundle,
            signed_by(&loose(2)?, &SigningKey::from_seed("ku.dk/demo", seed())?)?,
        ),
        ("the operator signs for the institution", bundle, signed_by(&loose(2)?, documents.operator_key())?),
        (
            "the institution signs for the operator",
            directory,
            signed_by(&own_machine, documents.institution_key())?,
        ),
        (
            "a node signs for its operator",
            directory,
            signed_by(&own_machine, &attacked.node_key(UNAPPROVED)?)?,
        ),
        (
            "the text was changed after it was signed",
            directory,
            documents.directory(2, |_| {})?.replace("amazon", "nordunet"),
        ),
        (
            "another operator's directory names our node",
            directory,
            own_machine.replace("operator = \"nordunet\"", "operator = \"sunet\""),
        ),
        ("two texts of one version", bundle, loose(1)?),
    ])
}

async fn refused_documents(attacked: &Attacked, node: &str) -> Result<u64> {
    attacked.cluster.counter(node, "systir_documents_refused_total").await
}

/// Both nodes refuse the note, and nobody gets a seat by it.
async fn is_refused(attacked: &Attacked, what: &str, file: &str, note: &str) -> Result<()> {
    for node in APPROVED {
        let (status, answer) = attacked.cluster.publish_over_http(node, note).await?;
        ensure!([403, 409, 422].contains(&status), "{node} takes it: {status} {answer}");
    }
    let before = [refused_documents(attacked, "cph-1").await?, refused_documents(attacked, "sto-1").await?];
    attacked.cluster.publish(file, note)?;
    for (node, before) in APPROVED.into_iter().zip(before) {
        eventually(&format!("{node} refuses the file: {what}"), LIMIT, || async {
            (refused_documents(attacked, node).await.ok()? > before).then_some(())
        })
        .await?;
        let eve = token("lecture", "eve")?;
        let refused = ScriptedClient::join(&attacked.cluster.url(node), &eve, "").await.err();
        let refused = format!("{:#}", refused.context("nobody has a seat")?);
        ensure!(refused.contains("approved-full"), "{refused}");
    }
    attacked.assert_unapproved_idle().await
}

async fn no_document_leads_a_room_to_an_unapproved_node() -> Result<()> {
    let attacked = Attacked::start(&[("cph-1", 2), ("sto-1", 2), (UNAPPROVED, 50)]).await?;
    let mut members = Vec::new();
    for identity in ["anna", "bo", "carl", "dina"] {
        let codecs = [ScriptedCodec::Opus];
        members.push(Member::join(&attacked.cluster, "cph-1", "lecture", identity, &codecs).await?);
    }
    wait_until_all_hear(&members).await?;
    for (what, file, note) in forged(&attacked)? {
        is_refused(&attacked, what, file, &note).await.context(what)?;
    }
    // A rollback: the institution once approved the node, and does not any more.
    let documents = attacked.cluster.documents()?;
    attacked.cluster.publish("directory.note", &documents.directory(1, |_| {})?)?;
    attacked.cluster.publish("ku.dk.note", &documents.bundle(3, |_| {})?)?;
    for node in APPROVED {
        wait_for_version(&attacked.cluster, node, "bundle", 3).await?;
    }
    let older = documents.bundle(2, |bundle| bundle.policy = looser(&bundle.policy))?;
    is_refused(&attacked, "a rollback", "ku.dk.note", &older).await?;
    for member in &mut members {
        assert!(!member.was_interrupted(), "{} was interrupted", member.identity);
    }

    // With the key of ku.dk the same rules open the node: the counters count, and the rules would have done it.
    attacked
        .cluster
        .publish("ku.dk.note", &documents.bundle(4, |bundle| bundle.policy = looser(&bundle.policy))?)?;
    for node in APPROVED {
        wait_for_version(&attacked.cluster, node, "bundle", 4).await?;
    }
    let eve = eventually("a join at the node that ku.dk approves now", LIMIT, || async {
        ScriptedClient::join(&attacked.cluster.url("cph-1"), &token("lecture", "eve").ok()?, "").await.ok()
    })
    .await?;
    assert_eq!(eve.node, UNAPPROVED);
    ensure!(attacked.packets.packets("aws_sto_1_address")? > 0, "its packets are counted");
    Ok(())
}

#[test]
fn a_hostile_publisher_leads_no_room_to_an_unapproved_node() -> Result<()> {
    run_attack(
        "hostile_publisher::a_hostile_publisher_leads_no_room_to_an_unapproved_node",
        no_document_leads_a_room_to_an_unapproved_node(),
    )
}
