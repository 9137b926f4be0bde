//! `systirctl etcd roles`. That etcd takes the commands is tested end to end.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

#[allow(dead_code, reason = "each test file uses a part")]
mod common;

use common::Folder;
use serde_json::json;

/// A node's folder of signed documents, and its configuration.
fn node_folder() -> Folder {
    let folder = Folder::new();
    let key = |name: &str| folder.key(name)["public_key"].as_str().unwrap().to_owned();
    let (operator, institution) = (key("nordunet/2026"), key("ku.dk/2026"));
    std::fs::create_dir(folder.at("documents")).unwrap();
    folder.build_bundle(7, "documents/ku.dk.note");
    folder.build_floor("documents/floor.note");
    folder.build_directory("documents/directory.note");
    folder.run("policy sign documents/ku.dk.note --key keys/ku.dk-2026.key");
    folder.run("policy sign documents/floor.note --key keys/nordunet-2026.key");
    folder.run("directory sign documents/directory.note --key keys/nordunet-2026.key");
    let config = format!(
        "[node]\nname = \"cph-1\"\ncluster = \"main\"\n[policy]\noperator = \"nordunet\"\ndocuments = \"documents\"\nstate = \
         \"state\"\n[policy.operators.nordunet]\ntrust_domain = \"nordu.net\"\nkeys = [\"{operator}\"]\n\
         [policy.institutions.\"ku.dk\"]\nkeys = [\"{institution}\"]\n[policy.institutions.\"au.dk\"]\nkeys = \
         [\"{institution}\"]\n"
    );
    folder.write("node.toml", &config);
    folder
}

#[test]
fn each_node_gets_what_the_policies_approve() {
    let folder = node_folder();
    let script = folder.run("etcd roles --config node.toml");
    for expected in [
        "#   a3UuZGs is ku.dk\n",
        "# au.dk has no bundle, so it approves no node.\n",
        "#   bundle of ku.dk, version 7\n",
        "# cph-1: approved by ku.dk\n",
        "# aws-sto-1: approved by no institution\n",
        "etcdctl role grant-permission --prefix=true systir/main/sto-1 read /systir/v1/main/nodes/\n",
        "etcdctl role grant-permission systir/main/sto-1 readwrite /systir/v1/main/nodes/sto-1\n",
        "etcdctl role grant-permission --prefix=true systir/main/sto-1 readwrite /systir/v1/main/rooms/a3UuZGs/\n",
        "etcdctl user add sto-1 --no-password\netcdctl user grant-role sto-1 systir/main/sto-1\n",
    ] {
        assert!(script.contains(expected), "{expected}: {script}");
    }
    assert!(!script.contains("systir/main/aws-sto-1 readwrite /systir/v1/main/rooms/"), "{script}");

    // The newest version counts: the node keeps the one that it fetched from others.
    std::fs::create_dir(folder.at("state")).unwrap();
    folder.build_bundle(8, "state/bundle-ku.dk.note");
    folder.run("policy sign state/bundle-ku.dk.note --key keys/ku.dk-2026.key");
    folder.write("state/floor-nordunet.note", "signed by keys that were pinned before\n");
    let newer = folder.run("etcd roles --config node.toml");
    assert!(newer.contains("#   bundle of ku.dk, version 8\n"), "{newer}");

    let fields = folder.json("etcd roles --config node.toml --cluster other");
    assert_eq!((&fields["cluster"], &fields["without_bundle"]), (&json!("other"), &json!(["au.dk"])));
    assert_eq!(
        fields["nodes"][0],
        json!({
            "node": "aws-sto-1",
            "role": "systir/other/aws-sto-1",
            "institutions": [],
            "permissions": [
                {"access": "read", "key": "/systir/v1/other/nodes/", "prefix": true},
                {"access": "readwrite", "key": "/systir/v1/other/nodes/aws-sto-1", "prefix": false},
            ],
        })
    );
}

#[test]
fn documents_that_no_pinned_key_signed_and_unsafe_names_are_refused() {
    let folder = node_folder();
    let error = folder.fail(1, "etcd roles --config node.toml --cluster a;b");
    assert!(error.contains("use letters, digits"), "{error}");
    let error = folder.fail(1, "etcd roles --config missing.toml");
    assert!(error.contains("missing.toml cannot be read"), "{error}");
    folder.change("documents/ku.dk.note", "version = 7", "version = 8");
    let error = folder.fail(1, "etcd roles --config node.toml");
    assert!(error.contains("ku.dk.note: ") && error.contains("the text was changed"), "{error}");
    std::fs::remove_file(folder.at("documents/ku.dk.note")).unwrap();
    std::fs::remove_file(folder.at("documents/floor.note")).unwrap();
    let error = folder.fail(1, "etcd roles --config node.toml");
    assert!(error.contains("floor of nordunet"), "{error}");
    let error = folder.fail(1, "etcd roles --config node.toml --documents elsewhere");
    assert!(error.contains("elsewhere has no signed documents"), "{error}");
    folder.write("node.toml", "[node]\ncluster = 7\n");
    let error = folder.fail(1, "etcd roles --config node.toml");
    assert!(error.contains("node.toml:2: "), "{error}");
}
