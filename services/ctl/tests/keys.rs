//! `systirctl key`.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use systir_documents::{PublicKey, SigningKey};
use systir_room_tag::RoomKey;

#[allow(dead_code, reason = "each test file uses a part")]
mod common;

use common::Folder;

#[test]
fn a_created_key_is_a_secret_file_and_a_public_one() {
    let folder = Folder::new();
    let shown = folder.run("key create --name ku.dk/2026 --out keys");
    let secret: SigningKey = folder.read("keys/ku.dk-2026.key").trim_end().parse().unwrap();
    let public: PublicKey = folder.read("keys/ku.dk-2026.pub").trim_end().parse().unwrap();
    assert_eq!(secret.public(), public);
    assert_eq!(public.name(), "ku.dk/2026");
    assert_eq!(fs::metadata(folder.at("keys/ku.dk-2026.key")).unwrap().permissions().mode() & 0o777, 0o600);
    for expected in ["ku.dk/2026".to_owned(), public.to_string(), public.fingerprint(), "(secret)".to_owned()]
    {
        assert!(shown.contains(&expected), "{shown}");
    }
    assert!(!shown.contains("PRIVATE+KEY"), "{shown}");
}

#[test]
fn a_room_key_is_a_secret_file() {
    let folder = Folder::new();
    let shown = folder.run("key room --out keys/rooms.key");
    let key: RoomKey = folder.read("keys/rooms.key").parse().unwrap();
    assert_eq!(fs::metadata(folder.at("keys/rooms.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(shown.contains("keys/rooms.key (secret)") && !shown.contains(&*key.to_text()), "{shown}");
    let error = folder.fail(1, "key room --out keys/rooms.key");
    assert!(error.contains("keys/rooms.key cannot be created"), "{error}");
    folder.run("key room --out keys/other.key");
    assert_ne!(folder.read("keys/other.key").parse(), Ok(key), "keys are random");
}

#[test]
fn an_existing_key_is_never_overwritten() {
    let folder = Folder::new();
    folder.run("key create --name ku.dk/2026 --out keys");
    let (key, public) = (folder.read("keys/ku.dk-2026.key"), folder.read("keys/ku.dk-2026.pub"));
    let error = folder.fail(1, "key create --name ku.dk/2026 --out keys");
    assert!(error.contains("keys/ku.dk-2026.key cannot be created"), "{error}");
    assert_eq!((key, public), (folder.read("keys/ku.dk-2026.key"), folder.read("keys/ku.dk-2026.pub")));
}

#[test]
fn both_files_of_a_key_show_the_same() {
    let folder = Folder::new();
    let made = folder.key("ku.dk/2026");
    for file in ["ku.dk-2026.key", "ku.dk-2026.pub"] {
        let shown = folder.json(&format!("key show keys/{file}"));
        for field in ["name", "public_key", "fingerprint"] {
            assert_eq!(shown[field], made[field], "{file}");
        }
    }
    assert!(!folder.run("key show keys/ku.dk-2026.key").contains("PRIVATE+KEY"));
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    let folder = Folder::new();
    folder.key("ku.dk/2026");
    fs::set_permissions(folder.at("keys/ku.dk-2026.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = folder.fail(1, "key show keys/ku.dk-2026.key");
    assert!(error.contains("mode 644") && error.contains("chmod 600 keys/ku.dk-2026.key"), "{error}");
}

#[test]
fn a_malformed_key_is_refused_without_showing_it() {
    let folder = Folder::new();
    folder.key("ku.dk/2026");
    let secret = folder.read("keys/ku.dk-2026.key").trim_end().rsplit('+').next().unwrap().to_owned();
    folder.change("keys/ku.dk-2026.key", "ku.dk", "au.dk");
    let error = folder.fail(1, "key show keys/ku.dk-2026.key");
    assert!(error.contains("the hash of the key au.dk/2026 is wrong") && !error.contains(&secret), "{error}");
    folder.write("x.pub", "ku.dk/2026\n");
    assert!(folder.fail(1, "key show x.pub").contains("x.pub: it is not a public key"));
    assert!(folder.fail(1, "key show nowhere.pub").contains("nowhere.pub cannot be read"));
    assert!(folder.fail(1, "key create --name a+b").contains("cannot be the name of a key"));
}

#[test]
fn a_key_that_a_node_created_earlier_is_kept_and_shown() {
    let folder = Folder::new();
    let create = "key create --keep --name nordu.net/cph-1 --out keys";
    let made = folder.run(create);
    let (key, public) = (folder.read("keys/nordu.net-cph-1.key"), folder.read("keys/nordu.net-cph-1.pub"));
    // An earlier start was interrupted before the public key was written.
    fs::remove_file(folder.at("keys/nordu.net-cph-1.pub")).unwrap();
    assert_eq!(folder.run(create), made);
    assert_eq!(
        (key, public),
        (folder.read("keys/nordu.net-cph-1.key"), folder.read("keys/nordu.net-cph-1.pub"))
    );
    fs::rename(folder.at("keys/nordu.net-cph-1.key"), folder.at("keys/nordu.net-cph-2.key")).unwrap();
    let error = folder.fail(1, "key create --keep --name nordu.net/cph-2 --out keys");
    assert!(error.contains("holds the key nordu.net/cph-1, not nordu.net/cph-2"), "{error}");
}
