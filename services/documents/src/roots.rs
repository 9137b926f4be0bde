//! The roots of a trust domain in a directory.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject as _, SectionKind};

/// Most roots of a trust domain.
const MAX_ROOTS: usize = 16;

/// Refuses a text that is not PEM with 1 to 16 certificates that can be roots, or has anything else, such as a
/// private key.
pub(crate) fn check_roots(pem: &str) -> Result<(), String> {
    let mut count = 0;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()) {
        let (kind, der) = section.map_err(|error| format!("the roots are not PEM: {error}"))?;
        if kind != SectionKind::Certificate {
            return Err(format!("the roots contain a {kind:?}; only certificates belong here"));
        }
        webpki::anchor_from_trusted_cert(&CertificateDer::from(der))
            .map_err(|error| format!("certificate {} cannot be a root: {error}", count + 1))?;
        count += 1;
    }
    match count {
        0 => Err("there is no certificate in the roots; write the PEM of the trust domain's CA".to_owned()),
        1..=MAX_ROOTS => Ok(()),
        _ => Err(format!("there are {count} roots; at most {MAX_ROOTS} are allowed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::ROOTS;

    #[test]
    fn roots_are_certificates_and_nothing_else() {
        assert_eq!(check_roots(ROOTS), Ok(()));
        assert_eq!(check_roots(&format!("the new one:\n{ROOTS}\nthe old one:\n{ROOTS}")), Ok(()));
        let refused = |pem: &str| check_roots(pem).unwrap_err();
        assert!(refused("").contains("there is no certificate in the roots"));
        assert!(refused(&ROOTS.repeat(MAX_ROOTS + 1)).contains("there are 17 roots"));
        assert!(refused(&ROOTS[..200]).contains("the roots are not PEM"));
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(refused(&format!("{ROOTS}{key}")).contains("only certificates belong here"));
        assert!(
            refused(&key.replace("PRIVATE KEY", "CERTIFICATE")).contains("certificate 1 cannot be a root")
        );
    }
}
