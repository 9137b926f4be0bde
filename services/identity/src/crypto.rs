//! The crypto provider of TLS.

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use std::sync::Arc;

/// The crypto provider of all TLS between nodes: aws-lc-rs.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
