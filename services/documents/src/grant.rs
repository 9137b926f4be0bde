//! The grant of a room: its home node binds it to nodes, and orders changes of its home.

use std::sync::Arc;

use crate::error::DocumentError;
use crate::field_lines::{FieldReader, FieldWriter};
use crate::grant_terms::GrantTerms;
use crate::hash::DocumentHash;
use crate::key::PublicKey;
use crate::names::{check_name, check_trust_domain};
use crate::node_note::{NodeNoteRefused, sign, verify};
use crate::signing_key::SigningKey;

/// The first line of a grant.
const FIRST_LINE: &str = "systir.org/grant/v1";
/// Longest life of a grant, milliseconds.
pub const MAX_GRANT_LIFE_MS: u64 = 600_000;
/// Most nodes in one role.
const MAX_NODES: usize = 256;
/// Longest room key and room id, bytes.
const MAX_KEY_BYTES: usize = 1024;

/// A grant. It authorises nobody: a node of these lists may do what its role needs only if policy allows it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Owner of the room.
    pub institution: String,
    /// Key of the room in the cluster. It has no space.
    pub room: String,
    /// The room's `RM_` id.
    pub sid: String,
    /// Increases with each home.
    pub epoch: u64,
    /// Increases with each grant of one epoch.
    pub serial: u64,
    /// The home node, which signs.
    pub home: String,
    /// The home of the epoch before; none in a room's first epoch.
    pub successor_of: Option<String>,
    /// The nodes that may be used, and by which documents.
    pub terms: GrantTerms,
    /// When it was signed, Unix milliseconds.
    pub issued_ms: u64,
    /// When it ends, Unix milliseconds.
    pub not_after_ms: u64,
}

/// A grant that its home's node key signed; only [`SignedGrant::sign`] and [`SignedGrant::verify`] make one. Cheap to
/// clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedGrant {
    grant: Arc<Grant>,
    note: Arc<str>,
    hash: DocumentHash,
}

impl Grant {
    fn text(&self) -> String {
        let terms = &self.terms;
        let mut text = FieldWriter::new(FIRST_LINE);
        text.field("trust_domain", &terms.trust_domain);
        text.field("institution", &self.institution);
        text.field("room", &self.room);
        text.field("sid", &self.sid);
        text.field("epoch", self.epoch);
        text.field("serial", self.serial);
        text.field("home", &self.home);
        text.field("successor_of", self.successor_of.as_deref().unwrap_or("-"));
        text.list("homes", terms.homes.iter().map(String::as_str));
        text.list("spill", terms.spill.iter().map(String::as_str));
        text.list("gateways", terms.gateways.iter().map(String::as_str));
        text.field("class", &terms.class);
        text.field("e2ee", if terms.e2ee { "required" } else { "optional" });
        text.field("policy_version", terms.policy_version);
        text.field("policy_hash", terms.policy_hash);
        text.field("directory_version", terms.directory_version);
        text.field("directory_hash", terms.directory_hash);
        text.field("issued", self.issued_ms);
        text.field("not_after", self.not_after_ms);
        text.finish()
    }

    fn parse(text: &str) -> Result<Self, DocumentError> {
        let mut fields = FieldReader::new(text, FIRST_LINE)?;
        let trust_domain = fields.checked("trust_domain", check_trust_domain)?;
        let institution = fields.checked("institution", check_name)?;
        let room = fields.checked("room", check_key)?;
        let sid = fields.checked("sid", check_key)?;
        let (epoch, serial) = (fields.number("epoch")?, fields.number("serial")?);
        let home = fields.checked("home", check_name)?;
        let successor_of = fields.checked("successor_of", |name| match name {
            "-" => Ok(()),
            name => check_name(name),
        })?;
        let terms = GrantTerms {
            trust_domain,
            homes: fields.list("homes", check_name)?,
            spill: fields.list("spill", check_name)?,
            gateways: fields.list("gateways", check_name)?,
            class: fields.checked("class", check_name)?,
            e2ee: match fields.field("e2ee")? {
                "required" => true,
                "optional" => false,
                _ => return Err(fields.wrong("\"e2ee\" is required or optional")),
            },
            policy_version: fields.number("policy_version")?,
            policy_hash: hash(&mut fields, "policy_hash")?,
            directory_version: fields.number("directory_version")?,
            directory_hash: hash(&mut fields, "directory_hash")?,
        };
        let (issued_ms, not_after_ms) = (fields.number("issued")?, fields.number("not_after")?);
        let successor_of = Some(successor_of).filter(|name| name != "-");
        let grant = Self {
            institution,
            room,
            sid,
            epoch,
            serial,
            home,
            successor_of,
            terms,
            issued_ms,
            not_after_ms,
        };
        fields.end()?;
        grant.check().map_err(|problem| DocumentError::new(None, problem))?;
        Ok(grant)
    }

    /// Checks what concerns several fields.
    fn check(&self) -> Result<(), String> {
        let life = self.not_after_ms.checked_sub(self.issued_ms);
        if !life.is_some_and(|life| life > 0 && life <= MAX_GRANT_LIFE_MS) {
            return Err(format!(
                "a grant ends after it was issued, and at most {MAX_GRANT_LIFE_MS} ms later"
            ));
        }
        if self.epoch == 0 || self.serial == 0 {
            return Err("the first epoch and the first serial are 1".to_owned());
        }
        let GrantTerms { homes, spill, gateways, .. } = &self.terms;
        if !homes.contains(&self.home) {
            return Err("\"home\" is not in \"homes\"".to_owned());
        }
        if [homes, spill, gateways].iter().any(|nodes| nodes.len() > MAX_NODES) {
            return Err(format!("a role has more than {MAX_NODES} nodes"));
        }
        Ok(())
    }

    /// Milliseconds between its issue and its end.
    #[must_use]
    pub fn life_ms(&self) -> u64 {
        self.not_after_ms.saturating_sub(self.issued_ms)
    }
}

impl SignedGrant {
    /// Signs a grant with the home's node key.
    ///
    /// # Errors
    /// When a field has a form that no reader accepts.
    pub fn sign(grant: Grant, key: &SigningKey) -> Result<Self, NodeNoteRefused> {
        let text = grant.text();
        // What was not read back as it is would be another grant to its readers.
        if Grant::parse(&text)? != grant {
            return Err(DocumentError::new(None, "it is not read as written").into());
        }
        let hash = DocumentHash::of(&text);
        Ok(Self { note: sign(&text, key)?.into(), grant: Arc::new(grant), hash })
    }

    /// Verifies a note with the node keys of its home. `keys_of` returns those that a directory lists for a node of
    /// that name.
    ///
    /// # Errors
    /// When the note is no grant, or no listed key of its home signed it.
    pub fn verify(note: &str, keys_of: impl FnOnce(&str) -> Vec<PublicKey>) -> Result<Self, NodeNoteRefused> {
        let (grant, hash) =
            verify(note, Grant::parse, |grant: &Grant| (grant.home.clone(), keys_of(&grant.home)))?;
        Ok(Self { grant: Arc::new(grant), note: note.into(), hash })
    }

    /// The grant.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The whole note, to keep or to send to others.
    #[must_use]
    pub fn note(&self) -> &Arc<str> {
        &self.note
    }

    /// SHA-256 of the text, without the signature.
    #[must_use]
    pub fn hash(&self) -> DocumentHash {
        self.hash
    }
}

fn hash(fields: &mut FieldReader<'_>, key: &str) -> Result<DocumentHash, DocumentError> {
    let value = fields.field(key)?;
    value.parse().map_err(|error: crate::hash::NotAHash| fields.wrong(error.to_string()))
}

/// A key of a room: visible ASCII without spaces.
fn check_key(key: &str) -> Result<(), String> {
    if key.len() <= MAX_KEY_BYTES && key.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err(format!("a room's key has 1 to {MAX_KEY_BYTES} visible ASCII characters"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&format!("node-{seed}"), [seed; 32]).unwrap()
    }

    pub(crate) fn sample() -> Grant {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Grant {
            institution: "ku.dk".to_owned(),
            room: "a3UuZGs/bGVjdHVyZQ".to_owned(),
            sid: "RM_1".to_owned(),
            epoch: 1,
            serial: 1,
            home: "cph-1".to_owned(),
            successor_of: None,
            terms: GrantTerms {
                trust_domain: "nordu.net".to_owned(),
                homes: names(&["cph-1"]),
                spill: names(&["sto-1"]),
                gateways: names(&["cph-1", "sto-1"]),
                class: "standard".to_owned(),
                e2ee: false,
                policy_version: 7,
                policy_hash: DocumentHash::of("policy"),
                directory_version: 3,
                directory_hash: DocumentHash::of("directory"),
            },
            issued_ms: 1_795_939_200_000,
            not_after_ms: 1_795_939_800_000,
        }
    }

    #[test]
    fn a_grant_is_written_as_specified() {
        let signed = SignedGrant::sign(sample(), &key(1)).unwrap();
        let text = "systir.org/grant/v1\ntrust_domain nordu.net\ninstitution ku.dk\nroom a3UuZGs/bGVjdHVyZQ\n\
            sid RM_1\nepoch 1\nserial 1\nhome cph-1\nsuccessor_of -\nhomes cph-1\nspill sto-1\n\
            gateways cph-1 sto-1\nclass standard\ne2ee optional\npolicy_version 7\n";
        assert!(signed.note().starts_with(text), "{}", signed.note());
        assert!(
            signed.note().contains("\nissued 1795939200000\nnot_after 1795939800000\n\n\u{2014} node-1 "),
            "{}",
            signed.note()
        );
    }

    #[test]
    fn only_a_listed_key_of_its_home_signs_a_grant() {
        let signed = SignedGrant::sign(sample(), &key(1)).unwrap();
        let verify = |note: &str, keys: &[&SigningKey]| {
            SignedGrant::verify(note, |home| {
                assert_eq!(home, "cph-1");
                keys.iter().map(|key| key.public()).collect()
            })
        };
        assert_eq!(verify(signed.note(), &[&key(2), &key(1)]), Ok(signed.clone()));
        assert_eq!(verify(signed.note(), &[&key(2)]), Err(NodeNoteRefused::Signer("cph-1".to_owned())));
        assert_eq!(verify(signed.note(), &[]), Err(NodeNoteRefused::Signer("cph-1".to_owned())));
        // The directory's name of a key is a label: the bytes decide.
        let relabelled = PublicKey::new("other/label", *key(1).public().as_bytes()).unwrap();
        assert_eq!(SignedGrant::verify(signed.note(), |_| vec![relabelled.clone()]), Ok(signed.clone()));
        let twice = format!("{}{}", signed.note(), signed.note().rsplit_once("\n\n").unwrap().1);
        assert_eq!(verify(&twice, &[&key(1)]), Err(NodeNoteRefused::Signatures));
    }

    #[test]
    fn grants_that_no_home_may_sign_are_refused() {
        let refused = |change: fn(&mut Grant)| {
            let mut grant = sample();
            change(&mut grant);
            SignedGrant::sign(grant, &key(1)).unwrap_err().to_string()
        };
        assert!(refused(|grant| grant.not_after_ms += 1).contains("600000 ms"));
        assert!(refused(|grant| grant.not_after_ms = grant.issued_ms).contains("ends after"));
        assert!(refused(|grant| grant.epoch = 0).contains("epoch"));
        assert!(refused(|grant| grant.home = "sto-1".to_owned()).contains("homes"));
        assert!(refused(|grant| grant.room = "a b".to_owned()).contains("room"));
        assert!(refused(|grant| grant.successor_of = Some("-".to_owned())).contains("not read as written"));
        assert!(refused(|grant| grant.institution = "ku.dk\nroom x".to_owned()).contains("\"sid\""));
        assert!(
            refused(|grant| grant.terms.spill = (0..257).map(|n| format!("n{n}")).collect()).contains("256")
        );
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_refused(at in 0usize..1000, flip in 1u8..) {
            let signed = SignedGrant::sign(sample(), &key(1)).unwrap();
            let mut bytes = signed.note().as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            let note = String::from_utf8_lossy(&bytes);
            let verified = SignedGrant::verify(&note, |_| vec![key(1).public()]);
            prop_assert!(verified.is_err(), "{note}");
        }

        #[test]
        fn what_was_signed_is_verified(
            room in "[!-~]{1,40}", epoch in 1u64.., serial in 1u64.., issued in 0..u64::MAX / 2, life in 1..=MAX_GRANT_LIFE_MS,
            homes in proptest::collection::btree_set("[a-z0-9]{1,8}", 1..5), spill in proptest::collection::btree_set("[a-z0-9]{1,8}", 0..5),
        ) {
            let grant = Grant {
                room, epoch, serial, home: homes.first().unwrap().clone(), terms: GrantTerms { homes, spill, ..sample().terms },
                issued_ms: issued, not_after_ms: issued + life, ..sample()
            };
            let signed = SignedGrant::sign(grant.clone(), &key(1)).unwrap();
            prop_assert_eq!(signed.grant(), &grant);
            let verified = SignedGrant::verify(signed.note(), |_| vec![key(1).public()]);
            prop_assert_eq!(verified, Ok(signed));
        }

        #[test]
        fn no_text_makes_verification_panic(text in "(?s).{0,300}") {
            let _ = SignedGrant::verify(&text, |_| vec![key(1).public()]);
            let _ = Grant::parse(&format!("{FIRST_LINE}\n{text}"));
        }
    }
}
