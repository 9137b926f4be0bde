//! A hostile home: the only node that policy approves as home. It leads nothing to another node.

use systir_proto::cluster::v1::HeartbeatRequest;
use systir_tests::cluster::token;
use systir_tests::process::eventually;
use systir_tests::scripted::ScriptedClient;

use super::*;
use crate::policy_changes::wait_for_version;

async fn nothing_is_led_to_the_unapproved_node() -> Result<()> {
    let mut attacked = Attacked::start(&[("cph-1", 10), ("sto-1", 2), (UNAPPROVED, 50)]).await?;
    let url = attacked.cluster.url("sto-1");
    // The true home creates the room. Then the attacker takes its place.
    drop(Member::join(&attacked.cluster, "sto-1", "lecture", "anna", &[]).await?);
    let held = attacked.grant_in_etcd().await?;
    let grant = attacked.read(&held)?;
    let room = grant.room.clone();
    let mut cph = attacked.seize("cph-1").await?;
    let to = attacked.target("sto-1")?;

    let sign = |change: &dyn Fn(&mut Grant)| {
        attacked.sign("cph-1", &grant, |forged| {
            forged.serial += 1;
            change(forged);
        })
    };
    let lies = [
        sign(&|_| {})?,
        sign(&|forged| (forged.terms.class, forged.terms.e2ee) = ("confidential".to_owned(), true))?,
        sign(&|forged| (forged.epoch, forged.serial) = (grant.epoch + 1, 1))?,
        sign(&|forged| (forged.epoch, forged.serial) = (1 << 47, u64::MAX))?,
        sign(&|forged| (forged.epoch, forged.serial) = (u64::MAX, 1))?,
    ];
    // They stay, so that the sister is full from the third on.
    let (mut placed, mut refused) = (Vec::new(), 0);
    for (count, lie) in lies.iter().enumerate() {
        cph.script.lie(lie);
        attacked.write_lease(&cph.lease, |_| {}).await?;
        link(&mut cph.node, &to).await?;
        cph.node.send(open_room(&room, attacked.read(lie)?.epoch, lie)).await?;
        // Open or refused, as its grant and policy say: in both cases it tells more.
        until(&mut cph.node, "the answer", |body| {
            matches!(body, Body::RoomOpened(_) | Body::RoomRefused(_)).then_some(())
        })
        .await?;
        cph.node.send(in_room(&room, RoomBody::Assignment(told(lie)))).await?;
        for purpose in [GrantPurpose::Held, GrantPurpose::TakeOver] {
            ask_grant(&cph.node, &to, &room, purpose, lie).await?;
        }
        // The home says that it is full. Each of these participants is at the sister or refused.
        for name in ["lecture".to_owned(), format!("new-{count}")] {
            let before = cph.script.asked();
            match ScriptedClient::join(&url, &token(&name, &format!("eve-{count}"))?, "").await {
                Ok(client) => {
                    assert_eq!(client.node, "sto-1", "{name}");
                    placed.push(client);
                }
                Err(error) => {
                    refused += 1;
                    ensure!(format!("{error:#}").contains('['), "no reason: {error:#}");
                }
            }
            ensure!(cph.script.asked() > before, "the gateway did not ask the hostile home");
        }
        attacked.assert_unapproved_idle().await?;
    }
    ensure!(placed.len() == 2 && refused == 2 * lies.len() - 2, "{} placed, {refused} refused", placed.len());

    // The operator removes it from the directory.
    let without = attacked.cluster.documents()?.directory(2, |directory| {
        directory.nodes.retain(|node| node.id != "cph-1");
        for node in &mut directory.nodes {
            let address = Cluster::link_address(&node.id);
            node.prefixes = format!("{address}/32").parse().into_iter().collect();
        }
    })?;
    let mut client = cph.node.client(&to).await?;
    client.heartbeat(HeartbeatRequest {}).await?;
    attacked.cluster.publish("directory.note", &without)?;
    wait_for_version(&attacked.cluster, "sto-1", "directory", 2).await?;
    eventually("the revoked home is not heard any more", LIMIT, || async {
        cph.node.client(&to).await.is_err().then_some(())
    })
    .await?;
    ensure!(client.heartbeat(HeartbeatRequest {}).await.is_err(), "its connection stays");
    // With two participants less the sister has seats; the approved node has no other to ask.
    drop(placed);
    eventually("a join at the sister", LIMIT, || async {
        let late = ScriptedClient::join(&url, &token("lecture", "late").ok()?, "").await.ok()?;
        assert_eq!(late.node, "sto-1");
        Some(())
    })
    .await?;
    attacked.assert_unapproved_idle().await
}

#[test]
fn a_hostile_home_leads_nothing_to_an_unapproved_node() -> Result<()> {
    run_attack(
        "hostile_node::home::a_hostile_home_leads_nothing_to_an_unapproved_node",
        nothing_is_led_to_the_unapproved_node(),
    )
}
