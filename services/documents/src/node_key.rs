//! The key with which a node signs while it runs.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::key::PublicKey;
use crate::signing_key::SigningKey;

/// A node's own signing key. It can be replaced while the node runs; all clones follow.
#[derive(Clone, Debug)]
pub struct NodeKey(Arc<ArcSwap<SigningKey>>);

impl NodeKey {
    /// The key to sign with now.
    #[must_use]
    pub fn current(&self) -> Arc<SigningKey> {
        self.0.load_full()
    }

    /// Its public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.0.load().public()
    }

    /// Signs with another key from now on.
    pub fn replace(&self, key: SigningKey) {
        self.0.store(Arc::new(key));
    }
}

impl From<SigningKey> for NodeKey {
    fn from(key: SigningKey) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_sign_with_the_key_that_replaced_the_first() {
        let key = |seed| SigningKey::from_seed("nordu.net/cph-1", [seed; 32]).unwrap();
        let first = NodeKey::from(key(1));
        let second = first.clone();
        first.replace(key(2));
        assert_eq!((second.public(), second.current().public()), (key(2).public(), key(2).public()));
    }
}
