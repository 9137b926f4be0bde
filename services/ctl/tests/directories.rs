//! `systirctl directory`.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

use systir_documents::{Directory, Document, Note, OperatorPin, PinnedKeys, Pins, PublicKey};

#[allow(dead_code, reason = "each test file uses a part")]
mod common;

use common::Folder;

fn directory(folder: &Folder, file: &str) -> Directory {
    let text = folder.read(file);
    let text = Note::parse(&text).map_or(text, |note| note.text().to_owned());
    match Document::parse(&text).unwrap() {
        Document::Directory(directory) => directory,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_directory_is_started_filled_signed_and_verified() {
    let folder = Folder::new();
    folder.build_directory("nordunet.note");
    let built = directory(&folder, "nordunet.note");
    assert_eq!((built.version, built.nodes.len()), (4, 3));
    let node = built.node_of("spiffe://nordu.net/relay/cph-1").unwrap();
    assert_eq!((node.host.as_str(), node.host_controlled_from.as_str()), ("nordunet", "DK"));
    assert_eq!(node.keys, [folder.read("keys/cph-1-1.pub").trim_end().parse().unwrap()]);
    let prefixes: Vec<String> = node.prefixes.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["192.0.2.0/24", "2001:db8::/32"]);

    let key: PublicKey = folder.key("nordunet/2026")["public_key"].as_str().unwrap().parse().unwrap();
    let signed = folder.run("directory sign nordunet.note --key keys/nordunet-2026.key");
    assert!(signed.contains("directory of nordunet") && signed.contains(&key.fingerprint()), "{signed}");
    let keys = PinnedKeys::new(vec![key.clone()], 1).unwrap();
    let pin = OperatorPin { trust_domain: "nordu.net".to_owned(), keys };
    let pins = Pins { operators: [("nordunet".to_owned(), pin)].into(), ..Pins::default() };
    assert_eq!(pins.verify(&folder.read("nordunet.note")).unwrap().signers(), std::slice::from_ref(&key));

    let shown = folder.run("directory show nordunet.note --key keys/nordunet-2026.pub");
    for expected in
        ["directory of nordunet, version 4", "aws-sto-1", "amazon", &key.fingerprint(), "192.0.2.0/24"]
    {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let json = folder.json("directory show nordunet.note");
    assert_eq!((&json["trust_domain"], &json["nodes"][0]["id"]), (&"nordu.net".into(), &"cph-1".into()));
}

#[test]
fn a_node_is_changed_and_what_is_not_given_stays() {
    let folder = Folder::new();
    folder.build_directory("nordunet.note");
    let before = directory(&folder, "nordunet.note");
    folder.key("cph-1/2");
    let changed = folder.run(
        "directory add nordunet.note --id cph-1 --key keys/cph-1-1.pub --key keys/cph-1-2.pub --site Lyngby --not-after \
         2099-03-01",
    );
    assert!(changed.contains("version 5, nodes: 3, not signed yet"), "{changed}");
    let after = directory(&folder, "nordunet.note");
    let (old, new) = (&before.nodes[0], &after.nodes[0]);
    assert_eq!((new.keys.len(), new.site.as_str()), (2, "Lyngby"));
    assert_eq!((&new.prefixes, &new.region, &new.spiffe_id), (&old.prefixes, &old.region, &old.spiffe_id));
    assert_eq!(after.nodes[1..], before.nodes[1..]);
    assert!(
        after.lifetime.issued >= before.lifetime.issued
            && after.lifetime.not_after > before.lifetime.not_after
    );
    // Of a new host nothing is known.
    let error = folder.fail(1, "directory add nordunet.note --id cph-1 --host dtu");
    assert!(error.contains("give --host-controlled-from"), "{error}");
}

#[test]
fn the_roots_are_replaced_in_two_steps_and_the_nodes_stay() {
    let folder = Folder::new();
    folder.build_directory("nordunet.note");
    let before = directory(&folder, "nordunet.note");
    folder.run("ca create --trust-domain nordu.net --out next-ca");
    folder.run("directory roots nordunet.note --roots ca.pem --roots next-ca/ca.pem");
    let both = directory(&folder, "nordunet.note");
    assert_eq!(both.roots, format!("{}{}", folder.read("ca.pem"), folder.read("next-ca/ca.pem")));
    folder.run("directory roots nordunet.note --roots next-ca/ca.pem");
    let after = directory(&folder, "nordunet.note");
    assert_eq!((after.version, &after.roots), (before.version + 2, &folder.read("next-ca/ca.pem")));
    assert_eq!(after.nodes, before.nodes);
    let error = folder.fail(1, "directory roots nordunet.note --roots ku.dk.cedar");
    assert!(error.contains("there is no certificate in the roots"), "{error}");
}

#[test]
fn the_next_version_of_a_signed_directory_goes_to_another_file() {
    let folder = Folder::new();
    folder.build_directory("nordunet.note");
    folder.key("nordunet/2026");
    folder.run("directory sign nordunet.note --key keys/nordunet-2026.key");
    let signed = folder.read("nordunet.note");
    let error = folder.fail(1, "directory remove nordunet.note --id aws-sto-1");
    assert!(error.contains("write it to another file with --out"), "{error}");
    folder.run("directory remove nordunet.note --id aws-sto-1 --out next.note");
    assert_eq!(folder.read("nordunet.note"), signed);
    let next = directory(&folder, "next.note");
    assert_eq!((next.version, next.nodes.len()), (5, 2));
    let error = folder.fail(1, "directory remove nordunet.note --id x --out next.note");
    assert!(error.contains("next.note exists"), "{error}");
}

#[test]
fn mistakes_are_told_and_nothing_is_written() {
    let folder = Folder::new();
    folder.build_directory("nordunet.note");
    folder.build_bundle(1, "ku.dk.note");
    folder.key("osl-1/1");
    let before = folder.read("nordunet.note");
    let add = "directory add nordunet.note --id osl-1 --site Oslo --region no-oslo";
    let cases = [
        (format!("{add} --country NO --key keys/osl-1-1.pub"), "give its --key and --prefix"),
        (format!("{add} --key keys/osl-1-1.pub --prefix 192.0.2.0/24"), "give --country"),
        (format!("{add} --country NO --key keys/osl-1-1.pub --prefix 192.0.2.1/24"), "write 192.0.2.0/24"),
        (format!("{add} --country NO --key keys/cph-1-1.pub --prefix 192.0.2.0/24"), "this key comes twice"),
        (format!("{add} --country NO --key nowhere.pub --prefix 192.0.2.0/24"), "is neither a public key"),
        (format!("{add} --country NO --key keys/osl-1-1.key --prefix 192.0.2.0/24"), "it is a signing key"),
        (format!("{add} --country XX --key keys/osl-1-1.pub --prefix 192.0.2.0/24"), "XX"),
        (
            format!(
                "{add} --country NO --key keys/osl-1-1.pub --prefix 192.0.2.0/24 --spiffe-id spiffe://x.no/relay/a"
            ),
            "is not in the trust domain nordu.net",
        ),
        ("directory remove nordunet.note --id osl-1".to_owned(), "there is no node osl-1"),
        (
            "directory add ku.dk.note --id osl-1".to_owned(),
            "is the bundle of ku.dk, and a directory is wanted",
        ),
    ];
    for (line, expected) in cases {
        let error = folder.fail(1, &line);
        assert!(error.contains(expected), "{line}: {error}");
        assert_eq!(folder.read("nordunet.note"), before);
    }
    let new = "directory new --operator nordunet --trust-domain nordu.net --controlled-from DK --roots ca.pem --renew-by \
               2099-01-01 --not-after 2099-02-01 --out";
    assert!(folder.fail(1, &format!("{new} nordunet.note")).contains("it is not overwritten"));
    folder.write("ca.pem", "no certificate\n");
    assert!(folder.fail(1, &format!("{new} new.note")).contains("there is no certificate in the roots"));
    assert!(!folder.at("new.note").exists());
}
