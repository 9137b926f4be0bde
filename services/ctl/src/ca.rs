//! A certificate authority for development. In production use another one (step-ca, SPIRE, cert-manager);
//! the files have the same format.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::{Subcommand, value_parser};
use systir_identity::{TrustDomain, ca};

/// Subcommands of `systirctl ca`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Creates an authority for a trust domain: DIR/ca.pem and DIR/ca.key.
    Create {
        /// The trust domain, such as nordu.net.
        #[arg(long)]
        trust_domain: String,
        /// Folder to write the files to.
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Issues a node's certificate: DIR/NODE.pem and DIR/NODE.key, with one SPIFFE id.
    Issue {
        /// Folder with the files of `ca create`.
        #[arg(long, value_name = "DIR", default_value = ".")]
        ca: PathBuf,
        /// The authority's trust domain.
        #[arg(long)]
        trust_domain: String,
        /// The node's name, such as cph-1.
        #[arg(long)]
        node: String,
        /// Hours until it expires; at most 8760 (a year, as for the authority).
        #[arg(long, default_value_t = 24, value_parser = value_parser!(u64).range(1..=8760))]
        hours: u64,
        /// Folder to write the files to.
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
}

/// Runs a `ca` subcommand.
pub(crate) fn run(command: &Command) -> Result<()> {
    let now = SystemTime::now();
    let mut terminal = std::io::stdout();
    match command {
        Command::Create { trust_domain, out } => {
            let made = ca::create(&TrustDomain::new(trust_domain)?, now)?;
            // The key first: if one exists, this fails and the certificate is not overwritten either.
            write(&out.join("ca.key"), &made.key, true)?;
            write(&out.join("ca.pem"), &made.certificate, false)?;
            writeln!(terminal, "{}\n{}", out.join("ca.pem").display(), out.join("ca.key").display())?;
        }
        Command::Issue { ca: folder, trust_domain, node, hours, out } => {
            let read = |name: &str| {
                let path = folder.join(name);
                fs::read_to_string(&path)
                    .with_context(|| format!("{}: create it with `systirctl ca create`", path.display()))
            };
            let authority = ca::Pem { certificate: read("ca.pem")?, key: read("ca.key")? };
            let id = TrustDomain::new(trust_domain)?.relay(node)?;
            let issued = ca::issue(&authority, &id, now, Duration::from_secs(hours * 3600))?;
            write(&out.join(format!("{node}.pem")), &issued.certificate, false)?;
            write(&out.join(format!("{node}.key")), &issued.key, true)?;
            writeln!(terminal, "{id}\n{}", out.join(format!("{node}.pem")).display())?;
        }
    }
    Ok(())
}

// An existing CA key is never overwritten: certificates in use may be signed with it.
fn write(path: &Path, text: &str, secret: bool) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be created", folder.display()))?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(if secret { 0o600 } else { 0o644 });
    if secret && path.ends_with("ca.key") {
        options.create_new(true);
    } else {
        options.truncate(true);
    }
    let mut file = options.open(path).with_context(|| format!("{} cannot be written", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
