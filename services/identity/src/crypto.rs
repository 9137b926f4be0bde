//! The cryptography of TLS.

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use std::sync::Arc;

/// The cryptography of all TLS here: aws-lc-rs.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
