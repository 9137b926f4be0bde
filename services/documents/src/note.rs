//! Signed notes: a text and its signatures (C2SP signed-note).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::characters::{deceptive_problem, escaped, first_deceptive};
use crate::hash::{DocumentHash, hex};
use crate::key::{PublicKey, is_name};
use crate::signing_key::SigningKey;

/// Longest note, bytes.
pub const MAX_NOTE_BYTES: usize = 512 * 1024;
/// Most signatures of a note.
pub const MAX_SIGNATURES: usize = 16;
/// A signature line begins with an em dash and a space.
const DASH: &str = "\u{2014} ";

/// Why a text is no signed note, or cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is too long.
    #[error("the note has {0} bytes; at most {MAX_NOTE_BYTES} are allowed")]
    TooLong(usize),
    /// It has a character that can make it look different from what it says.
    #[error("line {line}: {}", deceptive_problem(*character))]
    Character {
        /// Line, from 1.
        line: usize,
        /// The character.
        character: char,
    },
    /// The text to sign is empty or does not end with a newline.
    #[error("the text to sign must end with a newline")]
    NoNewline,
    /// There are no signatures.
    #[error(
        "the note has no signatures: after the text there must be an empty line, and then signature lines; sign it with `systirctl policy sign`"
    )]
    NoSignatures,
    /// A line after the text is no signature.
    #[error("line {line} is not a signature: {reason}; a signature line is \"\u{2014} name base64\"")]
    SignatureLine {
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There are too many signatures.
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
}

/// A signature line of a note. Nothing is known of it until a key verifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    key_id: [u8; 4],
    signature: Vec<u8>,
}

impl NoteSignature {
    /// The name of the key that the line states.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id that the line states.
    #[must_use]
    pub fn key_id(&self) -> [u8; 4] {
        self.key_id
    }

    /// The signature; 64 bytes if it is an Ed25519 signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Whether the line states that this key signed: same name and same id.
    #[must_use]
    pub fn is_by(&self, key: &PublicKey) -> bool {
        self.name == key.name() && self.key_id == key.id()
    }
}

impl fmt::Display for NoteSignature {
    /// The signer in a message: name and id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", escaped(&self.name), hex(&self.key_id))
    }
}

/// A text and its signatures, none of them verified. [`fmt::Display`] writes the exact note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Splits a note into its text and its signatures. What `Display` writes of it is the same note.
    ///
    /// # Errors
    /// When the text is no signed note.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong(note.len()));
        }
        check_characters(note)?;
        // The text may contain empty lines: the last one ends it.
        let at = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, lines) = (note.get(..=at).unwrap_or_default(), note.get(at + 2..).unwrap_or_default());
        let first_line = text.matches('\n').count() + 2;
        if lines.is_empty() {
            return Err(NoteError::NoSignatures);
        }
        if !lines.ends_with('\n') {
            let line = first_line + lines.matches('\n').count();
            return Err(NoteError::SignatureLine { line, reason: "it does not end with a newline" });
        }
        let mut signatures = Vec::new();
        for (line, number) in lines.split_terminator('\n').zip(first_line..) {
            let wrong = |reason| NoteError::SignatureLine { line: number, reason };
            let signature = signature_of(line).map_err(wrong)?;
            if signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::TooManySignatures);
            }
            signatures.push(signature);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Signs a text.
    ///
    /// # Errors
    /// When the text cannot be the text of a note: too long, forbidden characters, no newline at its end.
    pub fn sign(text: &str, key: &SigningKey) -> Result<Self, NoteError> {
        if text.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong(text.len()));
        }
        check_characters(text)?;
        if !text.ends_with('\n') {
            return Err(NoteError::NoNewline);
        }
        let mut note = Self { text: text.to_owned(), signatures: Vec::new() };
        note.add_signature(key)?;
        Ok(note)
    }

    /// Adds a signature; replaces one of the same key.
    ///
    /// # Errors
    /// When the note becomes too long or has too many signatures.
    pub fn add_signature(&mut self, key: &SigningKey) -> Result<(), NoteError> {
        let public = key.public();
        let mut signatures = self.signatures.clone();
        signatures.retain(|signature| !signature.is_by(&public));
        if signatures.len() >= MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        signatures.push(NoteSignature {
            name: public.name().to_owned(),
            key_id: public.id(),
            signature: key.sign(self.text.as_bytes()).to_vec(),
        });
        let signed = Self { text: self.text.clone(), signatures };
        let length = signed.to_string().len();
        if length > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong(length));
        }
        *self = signed;
        Ok(())
    }

    /// The text that is signed, with its last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, in their order.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// SHA-256 of the text, without signatures.
    #[must_use]
    pub fn hash(&self) -> DocumentHash {
        DocumentHash::of(&self.text)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for NoteSignature { name, key_id, signature } in &self.signatures {
            let bytes = [key_id.as_slice(), signature].concat();
            writeln!(f, "{DASH}{name} {}", STANDARD.encode(bytes))?;
        }
        Ok(())
    }
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    match first_deceptive(text) {
        Some((line, character)) => Err(NoteError::Character { line, character }),
        None => Ok(()),
    }
}

fn signature_of(line: &str) -> Result<NoteSignature, &'static str> {
    let rest = line.strip_prefix(DASH).ok_or("it does not begin with an em dash and a space")?;
    let (name, base64) = rest.split_once(' ').ok_or("it has no signature after the name")?;
    if !is_name(name) {
        return Err("the name of the key has a forbidden form");
    }
    let bytes = STANDARD.decode(base64).map_err(|_| "the signature is not base64")?;
    match bytes.split_first_chunk() {
        Some((key_id, signature)) if !signature.is_empty() => {
            Ok(NoteSignature { name: name.to_owned(), key_id: *key_id, signature: signature.to_vec() })
        }
        _ => Err("the signature is too short"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(number: u8) -> SigningKey {
        SigningKey::from_seed(&format!("ku.dk/{number}"), [number; 32]).unwrap()
    }

    fn refused(note: &str) -> String {
        Note::parse(note).unwrap_err().to_string()
    }

    #[test]
    fn a_note_of_two_signers_is_read_as_it_was_written() {
        let mut note = Note::sign("a\n\nb\n", &key(1)).unwrap();
        note.add_signature(&key(2)).unwrap();
        let read = Note::parse(&note.to_string()).unwrap();
        assert_eq!(read, note);
        assert_eq!(read.text(), "a\n\nb\n");
        let names: Vec<_> = read.signatures().iter().map(NoteSignature::name).collect();
        assert_eq!(names, ["ku.dk/1", "ku.dk/2"]);
        assert_eq!(read.hash(), DocumentHash::of("a\n\nb\n"));
        for (signature, signer) in read.signatures().iter().zip([key(1), key(2)]) {
            assert!(signature.is_by(&signer.public()));
            assert!(signer.public().verify(b"a\n\nb\n", signature.signature()));
        }
    }

    #[test]
    fn signing_again_replaces_the_signature_of_that_key() {
        let mut note = Note::sign("a\n", &key(1)).unwrap();
        let before = note.to_string();
        note.add_signature(&key(1)).unwrap();
        assert_eq!(note.to_string(), before);
    }

    #[test]
    fn an_empty_line_at_the_end_belongs_to_the_text() {
        let note = Note::sign("a\n\n", &key(1)).unwrap();
        assert_eq!(Note::parse(&note.to_string()).unwrap().text(), "a\n\n");
    }

    #[test]
    fn a_text_with_a_line_like_a_signature_keeps_it() {
        let inner = Note::sign("a\n", &key(1)).unwrap().to_string();
        let note = Note::sign(&inner, &key(2)).unwrap();
        let read = Note::parse(&note.to_string()).unwrap();
        assert_eq!((read.text(), read.signatures().len()), (inner.as_str(), 1));
    }

    #[test]
    fn a_note_that_is_too_long_is_refused_before_anything_else() {
        let long = "\0".repeat(MAX_NOTE_BYTES + 1);
        assert_eq!(Note::parse(&long), Err(NoteError::TooLong(MAX_NOTE_BYTES + 1)));
        assert_eq!(Note::sign(&long, &key(1)), Err(NoteError::TooLong(MAX_NOTE_BYTES + 1)));
        let almost = format!("{}\n", "x".repeat(MAX_NOTE_BYTES - 50));
        assert!(matches!(Note::sign(&almost, &key(1)), Err(NoteError::TooLong(_))));
    }

    #[test]
    fn control_characters_are_refused_with_their_line() {
        let note = Note::sign("a\nb\n", &key(1)).unwrap().to_string();
        for wrong in ['\t', '\r', '\0', '\u{7f}', '\u{202e}'] {
            let changed = note.replace('b', &wrong.to_string());
            assert_eq!(Note::parse(&changed), Err(NoteError::Character { line: 2, character: wrong }));
        }
        assert_eq!(
            refused(&note.replace('b', "\t")),
            "line 2: the character \\u{9} is not allowed in a signed text; replace tabs by spaces, and remove control \
             characters and invisible ones"
        );
        assert!(refused(&note.replace('\n', "\r\n")).contains("\\u{d}"));
        assert!(Note::sign("a\tb\n", &key(1)).is_err());
    }

    #[test]
    fn a_text_without_signatures_is_no_note() {
        for text in ["", "\n", "a\n", "a\nb\n", "a\n\n", "\n\n"] {
            assert!(refused(text).starts_with("the note has no signatures"), "{text:?}");
        }
        assert_eq!(Note::sign("", &key(1)), Err(NoteError::NoNewline));
        assert_eq!(Note::sign("a", &key(1)), Err(NoteError::NoNewline));
    }

    #[test]
    fn what_follows_the_text_must_be_signatures_alone() {
        let note = Note::sign("a\n", &key(1)).unwrap().to_string();
        let line = |note: &str| match Note::parse(note) {
            Err(NoteError::SignatureLine { line, reason }) => (line, reason),
            other => panic!("{note}: {other:?}"),
        };
        assert_eq!(line(&format!("{note}x")), (4, "it does not end with a newline"));
        assert_eq!(line(note.trim_end()), (3, "it does not end with a newline"));
        assert_eq!(line(&format!("{note}x\n")), (4, "it does not begin with an em dash and a space"));
        assert_eq!(line("a\n\n- ku.dk AAAAAAAA\n").1, "it does not begin with an em dash and a space");
        assert_eq!(line("a\n\n— ku.dk\n"), (3, "it has no signature after the name"));
        assert_eq!(line("a\n\n—  AAAAAAAA\n"), (3, "the name of the key has a forbidden form"));
        assert_eq!(line("a\n\n— a+b AAAAAAAA\n").1, "the name of the key has a forbidden form");
        assert_eq!(line("a\n\n— a AAAAAAAA x\n").1, "the signature is not base64");
        assert_eq!(line("a\n\n— a AAAAAA\n").1, "the signature is not base64");
        assert_eq!(line("a\n\n— a AAAAAB==\n").1, "the signature is not base64");
        assert_eq!(line("a\n\n— a AAAAAA==\n").1, "the signature is too short");
        assert_eq!(line("a\n\n— a \n").1, "the signature is too short");
        // The empty line at the end is the last one, so there are no signatures after it.
        assert!(refused(&format!("{note}\n")).starts_with("the note has no signatures"));
    }

    #[test]
    fn signatures_of_other_types_and_keys_are_kept_and_bounded() {
        let unknown = "— witness.example/1 AAECAwQ=\n";
        let note = format!("a\n\n{}", unknown.repeat(MAX_SIGNATURES));
        let read = Note::parse(&note).unwrap();
        assert_eq!(read.signatures().len(), MAX_SIGNATURES);
        assert_eq!(read.to_string(), note);
        assert_eq!(Note::parse(&format!("{note}{unknown}")), Err(NoteError::TooManySignatures));
        let mut full = read;
        assert_eq!(full.add_signature(&key(1)), Err(NoteError::TooManySignatures));
        assert_eq!(full.to_string(), note);
    }

    proptest! {
        #[test]
        fn any_note_is_written_as_it_was_read(
            text in "(\\PC|\n){0,40}", lines in proptest::collection::vec("(— )?\\PC{0,12}( [A-Za-z0-9+/]{0,12}={0,2})?", 0..4)
        ) {
            let note = format!("{text}\n\n{}\n", lines.join("\n"));
            if let Ok(read) = Note::parse(&note) {
                prop_assert_eq!(read.to_string(), note);
            }
        }

        #[test]
        fn any_text_that_can_be_signed_is_read_from_its_note(text in "(\\PC|\n){0,60}\n", signers in 1_u8..5) {
            let Ok(mut note) = Note::sign(&text, &key(1)) else { return Ok(()) };
            for number in 2..=signers {
                note.add_signature(&key(number)).unwrap();
            }
            prop_assert_eq!(note.text(), text.as_str());
            prop_assert_eq!(Note::parse(&note.to_string()), Ok(note));
        }
    }
}
