//! Replaces the node key while the node runs, so that nobody is interrupted: open connections prove the new key, grants and
//! tickets are signed anew.

use std::path::PathBuf;
use std::sync::Arc;

use systir_documents::{NodeKey, PublicKey, SigningKey};
use systir_livekit::token::Redacted;
use systir_policy::Authority;
use tokio::sync::watch;

use crate::changed_files;
use crate::startup_files::{is_listed, read};

/// Follows the key's file, and the keys that the directory lists for this node, until the node stops. A key that no
/// directory lists is not used: other nodes would refuse this node. `changes` tells when the key was replaced.
pub(crate) async fn follow(
    file: PathBuf,
    authority: Arc<Authority>,
    key: NodeKey,
    changes: watch::Sender<u64>,
) {
    // The error too is content: it is logged once.
    let content = {
        let authority = authority.clone();
        move || {
            let text = read("node.key", &file).map(Redacted::new).map_err(|error| error.to_string());
            Ok((text, listed_keys(&authority)))
        }
    };
    // Nothing is known at first: the file may have been replaced while the node started.
    let unknown = (Err(String::new()), Vec::new());
    changed_files::follow(
        unknown,
        content,
        |(text, listed): &(Result<Redacted<String>, String>, Vec<PublicKey>)| match next_key(
            text,
            listed,
            &key.public(),
        ) {
            Ok(Some(next)) => {
                tracing::info!(key = next.public().fingerprint(), "this node's key was replaced");
                key.replace(next);
                changes.send_modify(|number| *number += 1);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(error, "the changed node key is not used; the old one stays in use")
            }
        },
    )
    .await;
}

fn listed_keys(authority: &Authority) -> Vec<PublicKey> {
    authority.facts(authority.own_id()).map(|facts| facts.keys.clone()).unwrap_or_default()
}

/// The key of the file, if it is another one than that in force.
fn next_key(
    text: &Result<Redacted<String>, String>,
    listed: &[PublicKey],
    current: &PublicKey,
) -> Result<Option<SigningKey>, String> {
    let text = text.as_ref().map_err(Clone::clone)?;
    let key = text.expose().trim().parse::<SigningKey>().map_err(|error| format!("node.key: {error}"))?;
    let public = key.public();
    if public.as_bytes() == current.as_bytes() {
        return Ok(None);
    }
    if !is_listed(&public, listed) {
        return Err(format!(
            "no directory lists its public key {public} for this node; publish a directory that lists both keys first"
        ));
    }
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_key_that_the_directory_lists_is_used() {
        let key = |seed| SigningKey::from_seed("nordu.net/cph-1", [seed; 32]).unwrap();
        let (old, new) = (key(1).public(), key(2).public());
        let file = |seed| Ok(Redacted::new(format!("{}\n", *key(seed).to_text())));
        let next = |text: &Result<Redacted<String>, String>, listed: &[PublicKey]| {
            next_key(text, listed, &old).map(|key| key.map(|key| key.public()))
        };
        let both = [old.clone(), new.clone()];
        assert_eq!(next(&file(1), &both), Ok(None));
        assert_eq!(next(&file(2), &both), Ok(Some(new.clone())));
        let relabelled = PublicKey::new("other/label", *new.as_bytes()).unwrap();
        assert_eq!(next(&file(2), &[relabelled]), Ok(Some(new)), "the bytes decide");
        assert!(next(&file(2), &both[..1]).unwrap_err().contains("lists both keys first"));
        assert!(next(&Ok(Redacted::new("x".to_owned())), &both).is_err());
        assert!(next(&Err("cannot be read".to_owned()), &both).is_err());
    }
}
