//! Certificates from files, read again when either file changes. A pair that does not fit, which a
//! renewal may show for a moment, changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use systir_livekit::token::Redacted;

/// How often the files are looked at. New content is taken when it was seen twice.
const LOOK: Duration = Duration::from_secs(1);

/// A certificate chain and its key, as files.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// What is in them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: Redacted<String>,
}

impl Files {
    /// Reads both.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(crate) fn read(&self) -> Result<Pair> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
        };
        Ok(Pair { certificate: read(&self.certificate)?, key: Redacted::new(read(&self.key)?) })
    }
}

/// TLS for clients, by a certificate.
///
/// # Errors
/// When there is none in it, or the key is not the certificate's.
pub(crate) fn config(pair: &Pair) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow::anyhow!("the certificate is no PEM: {error}"))?;
    anyhow::ensure!(!chain.is_empty(), "the certificate file holds no certificate (PEM)");
    let key = PrivateKeyDer::from_pem_slice(pair.key.expose().as_bytes())
        .map_err(|_| anyhow::anyhow!("the key file holds no private key (PEM, unencrypted)"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => anyhow::anyhow!("the key is not the certificate's"),
            error => anyhow::anyhow!("certificate and key cannot be used: {error}"),
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The front door's certificate from now on; connections that stand keep theirs.
pub(crate) fn renewed_http(tls: RustlsConfig) -> impl FnMut(&Pair) -> Result<()> {
    move |pair| {
        tls.reload_from_config(config(pair)?);
        Ok(())
    }
}

/// Follows the files for ever and hands on what is new in them. `whose` is for the log.
pub(crate) async fn follow(
    whose: &'static str,
    files: Files,
    mut known: Pair,
    mut renew: impl FnMut(&Pair) -> Result<()>,
) {
    let mut seen = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let again = files.clone();
        // A file that is missing is about to be replaced.
        let Ok(Ok(now)) = tokio::task::spawn_blocking(move || again.read()).await else { continue };
        if now == known {
            seen = None;
            continue;
        }
        // Half of a renewal is not yet one.
        if seen.as_ref() != Some(&now) {
            seen = Some(now);
            continue;
        }
        match renew(&now) {
            Ok(()) => tracing::info!(whose, "a certificate was read again"),
            Err(error) => {
                tracing::warn!(
                    whose,
                    error = format!("{error:#}"),
                    "a new certificate cannot be used; the old one stays"
                );
            }
        }
        known = now;
        seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str) -> Pair {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        Pair { certificate: made.cert.pem(), key: Redacted::new(made.signing_key.serialize_pem()) }
    }

    #[test]
    fn a_key_of_another_certificate_is_told_so() {
        let (one, other) = (pair("localhost"), pair("localhost"));
        assert!(config(&one).is_ok());
        let mixed = Pair { key: other.key, ..one.clone() };
        assert_eq!(config(&mixed).unwrap_err().to_string(), "the key is not the certificate's");
        let swapped = Pair { certificate: one.key.expose().clone(), key: one.key };
        assert!(config(&swapped).unwrap_err().to_string().contains("no certificate"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_key_alone_is_noticed_and_half_a_renewal_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        let write = |pair: &Pair| {
            std::fs::write(&files.certificate, &pair.certificate).unwrap();
            std::fs::write(&files.key, pair.key.expose()).unwrap();
        };
        let (old, new) = (pair("localhost"), pair("localhost"));
        write(&old);
        let (taken, mut told) = tokio::sync::mpsc::unbounded_channel();
        let renew = move |pair: &Pair| {
            config(pair)?;
            let _ = taken.send(pair.clone());
            Ok(())
        };
        let task = tokio::spawn(follow("test", files.clone(), old.clone(), renew));
        // A key alone: it does not fit, and that was noticed when the certificate that fits it comes.
        std::fs::write(&files.key, new.key.expose()).unwrap();
        tokio::time::sleep(LOOK * 5).await;
        assert!(told.try_recv().is_err(), "the pair does not fit");
        write(&new);
        assert!(told.recv().await.is_some_and(|pair| pair == new));
        task.abort();
    }
}
