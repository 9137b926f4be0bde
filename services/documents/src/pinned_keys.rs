//! The keys of one signer, and how many of them must sign.

use crate::key::PublicKey;
use crate::note::Note;

/// Keys of which `threshold` must sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedKeys {
    keys: Vec<PublicKey>,
    threshold: usize,
}

/// Why keys cannot be pinned together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The threshold is not between 1 and the number of keys.
    #[error(
        "the threshold is {threshold}, and {keys} keys are pinned: it must be from 1 to the number of keys"
    )]
    Threshold {
        /// How many must sign.
        threshold: usize,
        /// How many keys there are.
        keys: usize,
    },
    /// One key under one or two names would count twice.
    #[error("{0} and {1} are the same key ({print}): pin each key once", print = .0.fingerprint())]
    SameKey(PublicKey, PublicKey),
    /// Two keys that a signature line cannot tell apart.
    #[error("{0} and {1} have the same name and id: create a key with another name")]
    SameId(PublicKey, PublicKey),
}

/// Why the signatures of a note are not enough.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefused {
    /// A line states one of the keys, and the key did not sign this text.
    #[error(
        "the signature of {0} is not valid for this text: the text was changed after it was signed, or the signature is forged"
    )]
    Invalid(PublicKey),
    /// Fewer keys signed than must.
    #[error("{} of {threshold} needed signatures are there; signatures of the note: {}", signed.len(), list(stated))]
    TooFew {
        /// The pinned keys that signed.
        signed: Vec<PublicKey>,
        /// How many must sign.
        threshold: usize,
        /// The signers that the note states, as `name+id`.
        stated: Vec<String>,
    },
}

fn list(names: &[String]) -> String {
    names.join(", ")
}

impl PinnedKeys {
    /// Pins keys.
    ///
    /// # Errors
    /// When a key comes twice, or the threshold is not between 1 and the number of keys.
    pub fn new(keys: Vec<PublicKey>, threshold: usize) -> Result<Self, PinError> {
        if threshold == 0 || threshold > keys.len() {
            return Err(PinError::Threshold { threshold, keys: keys.len() });
        }
        for (at, key) in keys.iter().enumerate() {
            for other in keys.iter().take(at) {
                if other.as_bytes() == key.as_bytes() {
                    return Err(PinError::SameKey(other.clone(), key.clone()));
                }
                if other.name() == key.name() && other.id() == key.id() {
                    return Err(PinError::SameId(other.clone(), key.clone()));
                }
            }
        }
        Ok(Self { keys, threshold })
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// How many of them must sign.
    #[must_use]
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// The keys that signed the note, each once, if there are enough of them. Signatures of other keys are ignored.
    ///
    /// # Errors
    /// When too few of the keys signed, or a signature that states one of them is not valid.
    pub fn verify(&self, note: &Note) -> Result<Vec<PublicKey>, SignatureRefused> {
        let mut signed: Vec<PublicKey> = Vec::new();
        for signature in note.signatures() {
            let Some(key) = self.keys.iter().find(|key| signature.is_by(key)) else { continue };
            if !key.verify(note.text().as_bytes(), signature.signature()) {
                return Err(SignatureRefused::Invalid(key.clone()));
            }
            if !signed.contains(key) {
                signed.push(key.clone());
            }
        }
        if signed.len() < self.threshold {
            let stated = note.signatures().iter().map(ToString::to_string).collect();
            return Err(SignatureRefused::TooFew { signed, threshold: self.threshold, stated });
        }
        Ok(signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing_key::SigningKey;

    fn key(number: u8) -> SigningKey {
        SigningKey::from_seed(&format!("ku.dk/{number}"), [number; 32]).unwrap()
    }

    fn note(signers: &[&SigningKey]) -> Note {
        let mut note = Note::sign("a\n", signers[0]).unwrap();
        for signer in &signers[1..] {
            note.add_signature(signer).unwrap();
        }
        note
    }

    #[test]
    fn two_of_three_keys_must_sign() {
        let keys = [key(1), key(2), key(3)];
        let pinned = PinnedKeys::new(keys.iter().map(SigningKey::public).collect(), 2).unwrap();
        assert_eq!((pinned.threshold(), pinned.keys().len()), (2, 3));
        let signed = pinned.verify(&note(&[&keys[2], &keys[0]])).unwrap();
        assert_eq!(signed, [keys[2].public(), keys[0].public()]);
        let refused = pinned.verify(&note(&[&keys[1], &key(9)])).unwrap_err().to_string();
        assert!(
            refused.starts_with("1 of 2 needed signatures are there; signatures of the note: ku.dk/2+"),
            "{refused}"
        );
        assert!(refused.contains(", ku.dk/9+"), "{refused}");
    }

    #[test]
    fn one_signer_is_counted_once_for_a_threshold() {
        let pinned = PinnedKeys::new(vec![key(1).public(), key(2).public()], 2).unwrap();
        let once = note(&[&key(1)]).to_string();
        let line = once.lines().last().unwrap();
        let thrice = Note::parse(&format!("{once}{line}\n{line}\n")).unwrap();
        assert_eq!(thrice.signatures().len(), 3);
        assert!(matches!(
            pinned.verify(&thrice),
            Err(SignatureRefused::TooFew { signed, threshold: 2, .. }) if signed == [key(1).public()]
        ));
    }

    #[test]
    fn one_key_under_two_names_cannot_be_pinned() {
        let (first, second) =
            (key(1).public(), SigningKey::from_seed("ku.dk/rector", [1; 32]).unwrap().public());
        assert_ne!(first.id(), second.id());
        let error = PinnedKeys::new(vec![first.clone(), second.clone()], 2).unwrap_err();
        assert_eq!(error, PinError::SameKey(first.clone(), second));
        assert!(error.to_string().ends_with("pin each key once"), "{error}");
        // Not pinned, the second name counts nothing.
        let pinned = PinnedKeys::new(vec![first, key(2).public()], 2).unwrap();
        let both_names = note(&[&key(1), &SigningKey::from_seed("ku.dk/rector", [1; 32]).unwrap()]);
        assert!(matches!(pinned.verify(&both_names), Err(SignatureRefused::TooFew { .. })));
    }

    #[test]
    fn thresholds_are_from_one_to_the_number_of_keys() {
        for (keys, threshold) in [(0, 0), (0, 1), (1, 0), (1, 2), (2, 3)] {
            let pinned = PinnedKeys::new((1..=keys).map(|number| key(number).public()).collect(), threshold);
            assert_eq!(pinned, Err(PinError::Threshold { threshold, keys: usize::from(keys) }));
        }
    }

    #[test]
    fn a_forged_signature_of_a_pinned_key_refuses_the_whole_note() {
        let pinned = PinnedKeys::new(vec![key(1).public(), key(2).public()], 1).unwrap();
        let mut text = note(&[&key(1), &key(2)]).to_string();
        let forged = note(&[&key(2)]).to_string().replace("a\n\n", "b\n\n");
        let other = Note::sign("b\n", &key(2)).unwrap().to_string();
        let (ours, theirs) = (text.lines().last().unwrap().to_owned(), other.lines().last().unwrap());
        text = text.replace(&ours, theirs);
        let error = pinned.verify(&Note::parse(&text).unwrap()).unwrap_err();
        assert_eq!(error, SignatureRefused::Invalid(key(2).public()));
        assert!(error.to_string().contains("was changed after it was signed"), "{error}");
        let changed = pinned.verify(&Note::parse(&forged).unwrap()).unwrap_err();
        assert_eq!(changed, SignatureRefused::Invalid(key(2).public()));
    }

    #[test]
    fn a_key_with_the_name_of_a_pinned_key_is_another_key() {
        let pinned = PinnedKeys::new(vec![key(1).public()], 1).unwrap();
        let impostor = SigningKey::from_seed("ku.dk/1", [9; 32]).unwrap();
        assert!(matches!(pinned.verify(&note(&[&impostor])), Err(SignatureRefused::TooFew { .. })));
        assert_eq!(pinned.verify(&note(&[&impostor, &key(1)])), Ok(vec![key(1).public()]));
    }
}
