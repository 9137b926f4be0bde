//! Keys of institutions, operators and nodes.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Subcommand;
use serde_json::json;
use systir_documents::{PublicKey, SigningKey};
use systir_room_tag::RoomKey;
use zeroize::Zeroizing;

use crate::files;

/// Subcommands of `systirctl key`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Creates a key: DIR/NAME.key (secret) and DIR/NAME.pub, with '-' for each '/' of the name.
    Create {
        /// The key's name, such as ku.dk/2026. Documents state it beside each signature.
        #[arg(long)]
        name: String,
        /// Folder to write the files to.
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
        /// Keeps a key of this name that is there already, and shows it: for nodes that create their key when they first
        /// start.
        #[arg(long)]
        keep: bool,
    },
    /// Creates a room key: FILE (secret). All nodes that the institution approves as gateway or home hold the same one, and
    /// seal the names of its rooms with it.
    Room {
        /// File to write it to.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Shows name, public key and fingerprint of a .key or .pub file.
    Show {
        /// The file.
        file: PathBuf,
    },
}

/// Runs a `key` subcommand.
pub(crate) fn run(command: &Command, json: bool) -> Result<()> {
    match command {
        Command::Create { name, out, keep } => {
            let file = name.replace('/', "-");
            let (secret, public) = (out.join(format!("{file}.key")), out.join(format!("{file}.pub")));
            if *keep && secret.exists() {
                return show_kept(name, &secret, &public, json);
            }
            let key = SigningKey::from_seed(name, *random_seed()?)?;
            // The secret first: if one exists, this fails and the public key stays as it is too.
            files::create(&secret, &Zeroizing::new(format!("{}\n", *key.to_text())), true)?;
            files::create(&public, &format!("{}\n", key.public()), false)?;
            show(&key.public(), Some(&secret), json)
        }
        Command::Room { out } => {
            let key = RoomKey::from_bytes(*random_seed()?);
            files::create(out, &Zeroizing::new(format!("{}\n", *key.to_text())), true)?;
            let file = out.display().to_string();
            if json {
                writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&json!({ "file": file }))?)?;
            } else {
                writeln!(std::io::stdout(), "room key  {file} (secret)")?;
            }
            Ok(())
        }
        Command::Show { file } => {
            let text = files::read(file)?;
            let key = if text.starts_with("PRIVATE+KEY") {
                signing_key(file)?.public()
            } else {
                public_key_in(file, &text)?
            };
            show(&key, None, json)
        }
    }
}

/// Shows a key that was there already. Its public key is written again if it is missing: an earlier run may have been
/// interrupted.
fn show_kept(name: &str, secret: &Path, public: &Path, json: bool) -> Result<()> {
    // A group may read it: Kubernetes gives volumes one.
    let text = Zeroizing::new(files::read(secret)?);
    let key: SigningKey =
        text.strip_suffix('\n').unwrap_or(&text).parse().with_context(|| secret.display().to_string())?;
    let key = key.public();
    if key.name() != name {
        bail!("{} holds the key {}, not {name}; choose another folder", secret.display(), key.name());
    }
    if !public.exists() {
        files::create(public, &format!("{key}\n"), false)?;
    }
    show(&key, Some(secret), json)
}

fn random_seed() -> Result<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(seed.as_mut_slice())
        .map_err(|_| anyhow!("the operating system gave no random numbers"))?;
    Ok(seed)
}

/// The signing key of a .key file.
pub(crate) fn signing_key(file: &Path) -> Result<SigningKey> {
    let text = Zeroizing::new(files::read_secret(file)?);
    text.strip_suffix('\n').unwrap_or(&text).parse().with_context(|| file.display().to_string())
}

/// A public key: its text, or the file that holds it.
pub(crate) fn public_key(text_or_file: &str) -> Result<PublicKey> {
    if let Ok(key) = text_or_file.parse() {
        return Ok(key);
    }
    let file = Path::new(text_or_file);
    let text = files::read(file).with_context(|| {
        format!("{text_or_file} is neither a public key (name+hash+base64) nor a .pub file")
    })?;
    public_key_in(file, &text)
}

fn public_key_in(file: &Path, text: &str) -> Result<PublicKey> {
    text.strip_suffix('\n').unwrap_or(text).parse().with_context(|| file.display().to_string())
}

fn show(key: &PublicKey, file: Option<&Path>, json: bool) -> Result<()> {
    let mut out = std::io::stdout();
    let file = file.map(|file| file.display().to_string());
    if json {
        let fields = json!({
            "name": key.name(), "public_key": key.to_string(), "fingerprint": key.fingerprint(), "file": file,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&fields)?)?;
        return Ok(());
    }
    writeln!(out, "name         {}\npublic key   {key}\nfingerprint  {}", key.name(), key.fingerprint())?;
    if let Some(file) = file {
        writeln!(out, "signing key  {file} (secret)")?;
    }
    Ok(())
}
