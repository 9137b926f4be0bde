//! The pinned keys of the configuration.

use systir_documents::{OperatorPin, PinnedKeys, Pins, PublicKey};

use super::{FieldError, PolicySection};

impl PolicySection {
    /// The keys that sign documents.
    ///
    /// # Errors
    /// With the field, when a text is no public key, or a threshold cannot be met.
    pub(crate) fn pins(&self) -> Result<Pins, FieldError> {
        let mut pins = Pins::default();
        for (name, operator) in &self.operators {
            let keys = keys(&format!("policy.operators.{name}"), &operator.keys, operator.threshold)?;
            let trust_domain = operator.trust_domain.clone();
            pins.operators.insert(name.clone(), OperatorPin { trust_domain, keys });
        }
        for (name, institution) in &self.institutions {
            let keys =
                keys(&format!("policy.institutions.{name}"), &institution.keys, institution.threshold)?;
            pins.institutions.insert(name.clone(), keys);
        }
        Ok(pins)
    }
}

fn keys(section: &str, texts: &[String], threshold: Option<usize>) -> Result<PinnedKeys, FieldError> {
    let field = format!("{section}.keys");
    if texts.is_empty() {
        return Err(FieldError::new(field, "pin at least one public key (systirctl key show FILE)"));
    }
    let keys = texts.iter().zip(1..).map(|(text, position)| {
        text.parse::<PublicKey>().map_err(|error| FieldError::new(&field, format!("key {position}: {error}")))
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let threshold = match threshold {
        Some(threshold) => threshold,
        None if keys.len() == 1 => 1,
        None => {
            let problem = format!("set how many of the {} keys must sign", keys.len());
            return Err(FieldError::new(format!("{section}.threshold"), problem));
        }
    };
    PinnedKeys::new(keys, threshold).map_err(|error| FieldError::new(field, error.to_string()))
}
