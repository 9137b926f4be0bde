//! Certificates from files, reloaded when either file changes. A pair that does not match, as in the middle
//! of a renewal, is not used.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use systir_livekit::token::Redacted;

use crate::changed_files;

/// Paths of a certificate chain and its key.
#[derive(Debug, Clone)]
pub(crate) struct CertificateFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Contents of a certificate chain and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CertificatePair {
    pub(crate) certificate: String,
    pub(crate) key: Redacted<String>,
}

impl CertificateFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(crate) fn read(&self) -> Result<CertificatePair> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
        };
        Ok(CertificatePair { certificate: read(&self.certificate)?, key: Redacted::new(read(&self.key)?) })
    }
}

/// The TLS server configuration for a certificate.
///
/// # Errors
/// When the PEM holds no certificate or no key, or the key does not match the certificate.
pub(crate) fn config(pair: &CertificatePair) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow::anyhow!("the certificate is not valid PEM: {error}"))?;
    anyhow::ensure!(!chain.is_empty(), "the certificate file holds no certificate (PEM)");
    let key = PrivateKeyDer::from_pem_slice(pair.key.expose().as_bytes())
        .map_err(|_| anyhow::anyhow!("the key file holds no private key (PEM, unencrypted)"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => anyhow::anyhow!("the key does not match the certificate"),
            error => anyhow::anyhow!("certificate and key cannot be used: {error}"),
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Replaces the certificate of the HTTP port; open connections keep the old one.
pub(crate) fn renewed_http(tls: RustlsConfig) -> impl FnMut(&CertificatePair) -> Result<()> {
    move |pair| {
        tls.reload_from_config(config(pair)?);
        Ok(())
    }
}

/// Reloads the files when they change, forever, and calls `renew` with new contents. `port` is for the log.
pub(crate) async fn follow(
    port: &'static str,
    files: CertificateFiles,
    known: CertificatePair,
    mut renew: impl FnMut(&CertificatePair) -> Result<()>,
) {
    changed_files::follow(
        known,
        move || files.read(),
        move |pair| match renew(pair) {
            Ok(()) => tracing::info!(port, "a certificate was reloaded"),
            Err(error) => {
                tracing::warn!(
                    port,
                    error = format!("{error:#}"),
                    "a new certificate cannot be used; the old one stays in use"
                );
            }
        },
    )
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changed_files::CHECK_INTERVAL;

    fn pair(name: &str) -> CertificatePair {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        CertificatePair { certificate: made.cert.pem(), key: Redacted::new(made.signing_key.serialize_pem()) }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, other) = (pair("localhost"), pair("localhost"));
        assert!(config(&one).is_ok());
        let mixed = CertificatePair { key: other.key, ..one.clone() };
        assert_eq!(config(&mixed).unwrap_err().to_string(), "the key does not match the certificate");
        let swapped = CertificatePair { certificate: one.key.expose().clone(), key: one.key };
        assert!(config(&swapped).unwrap_err().to_string().contains("no certificate"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_pair_is_used_and_half_a_renewal_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files =
            CertificateFiles { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        let write = |pair: &CertificatePair| {
            std::fs::write(&files.certificate, &pair.certificate).unwrap();
            std::fs::write(&files.key, pair.key.expose()).unwrap();
        };
        let (old, new) = (pair("localhost"), pair("localhost"));
        write(&old);
        let (renewed, mut renewals) = tokio::sync::mpsc::unbounded_channel();
        let renew = move |pair: &CertificatePair| {
            config(pair)?;
            let _ = renewed.send(pair.clone());
            Ok(())
        };
        let task = tokio::spawn(follow("test", files.clone(), old.clone(), renew));
        // The new key alone does not match; the pair is used once the matching certificate is there too.
        std::fs::write(&files.key, new.key.expose()).unwrap();
        tokio::time::sleep(CHECK_INTERVAL * 5).await;
        assert!(renewals.try_recv().is_err(), "the pair does not match");
        write(&new);
        assert!(renewals.recv().await.is_some_and(|pair| pair == new));
        task.abort();
    }
}
