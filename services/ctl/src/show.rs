//! Shows a document and who signed it.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use comfy_table::{Attribute, Cell};
use serde_json::{Value, json};
use systir_documents::{Directory, Document, PublicKey, RoomClassRule, Vocabulary, rfc3339};
use systir_policy::{Rule, RuleEffect};

use crate::document_file::DocumentFile;
use crate::policy::rules;
use crate::tables::{fit_width, printable, table};
use crate::{dates, key};

/// Arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The document, signed or not.
    pub(crate) file: PathBuf,
    /// A public key, or its .pub file: its signature is verified. May be given several times.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
}

/// What is known of one signature.
struct Signer {
    /// Name and id, as the note states them.
    stated: String,
    /// The key, if it was given and signed this text.
    verified: Option<PublicKey>,
    /// The key was given and did not sign this text.
    is_forged: bool,
}

/// Shows owner, version, dates, signers, and what the document says.
pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let file = DocumentFile::read(&arguments.file)?;
    let keys: Vec<PublicKey> = arguments.key.iter().map(|key| key::public_key(key)).collect::<Result<_>>()?;
    let signers = signers(&file, &keys);
    let rules = rules(&file.document)?;
    let text = if json {
        serde_json::to_string_pretty(&as_json(&file, &signers, &rules))?
    } else {
        as_text(&file, &signers, &rules)
    };
    writeln!(std::io::stdout(), "{text}")?;
    if let Some(forged) = signers.iter().find(|signer| signer.is_forged) {
        anyhow::bail!(
            "the signature of {} is not valid: the text was changed after it was signed",
            forged.stated
        );
    }
    Ok(())
}

fn signers(file: &DocumentFile, keys: &[PublicKey]) -> Vec<Signer> {
    let signatures = file.note.iter().flat_map(|note| note.signatures());
    let signer = |signature: &systir_documents::NoteSignature| {
        let key = keys.iter().find(|key| signature.is_by(key));
        let verified = key.filter(|key| key.verify(file.text.as_bytes(), signature.signature()));
        let is_forged = key.is_some() && verified.is_none();
        Signer { stated: signature.to_string(), verified: verified.cloned(), is_forged }
    };
    signatures.map(signer).collect()
}

fn actions(rule: &Rule) -> String {
    rule.actions.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(", ")
}

fn as_json(file: &DocumentFile, signers: &[Signer], rules: &[Rule]) -> Value {
    let (document, lifetime) = (&file.document, file.document.lifetime());
    let signer = |signer: &Signer| {
        let fingerprint = signer.verified.as_ref().map(PublicKey::fingerprint);
        json!({"key": signer.stated, "verified": signer.verified.is_some(), "fingerprint": fingerprint})
    };
    let rule = |rule: &Rule| {
        json!({
            "id": rule.id, "effect": rule.effect, "tier": rule.tier, "actions": rule.actions, "why": rule.why(),
        })
    };
    let mut fields = json!({
        "kind": document.kind(), "owner": document.owner(), "version": document.version(), "hash": file.hash(),
        "issued": rfc3339(lifetime.issued), "renew_by": rfc3339(lifetime.renew_by),
        "not_after": rfc3339(lifetime.not_after), "validity": lifetime.validity(dates::now()),
        "signatures": signers.iter().map(signer).collect::<Vec<_>>(),
    });
    match document {
        Document::Bundle(bundle) => {
            let class = |class: &RoomClassRule| json!({"pattern": class.pattern, "class": class.class, "e2ee": class.e2ee});
            fields["vocabulary"] = vocabulary_json(&bundle.vocabulary);
            fields["zones"] = json!(bundle.zones);
            fields["classes"] = bundle.classes.iter().map(class).collect();
            fields["rules"] = rules.iter().map(rule).collect();
        }
        Document::Floor(floor) => {
            fields["vocabulary"] = vocabulary_json(&floor.vocabulary);
            fields["zones"] = json!(floor.zones);
            fields["rules"] = rules.iter().map(rule).collect();
        }
        Document::Directory(directory) => {
            fields["trust_domain"] = json!(directory.trust_domain);
            fields["controlled_from"] = json!(directory.controlled_from);
            fields["nodes"] = directory
                .nodes
                .iter()
                .map(|node| {
                    let prefixes: Vec<String> = node.prefixes.iter().map(ToString::to_string).collect();
                    json!({
                        "id": node.id, "spiffe_id": node.spiffe_id, "keys": node.keys, "prefixes": prefixes,
                        "site": node.site, "region": node.region, "country": node.country, "host": node.host,
                        "host_controlled_from": node.host_controlled_from,
                    })
                })
                .collect();
        }
    }
    fields
}

fn vocabulary_json(vocabulary: &Vocabulary) -> Value {
    let Vocabulary { operators, hosts, nodes, institutions } = vocabulary;
    json!({"operators": operators, "hosts": hosts, "nodes": nodes, "institutions": institutions})
}

fn as_text(file: &DocumentFile, signers: &[Signer], rules: &[Rule]) -> String {
    let lifetime = file.document.lifetime();
    let mut out = format!(
        "{}\nhash        {}\nissued      {}\nrenew by    {}\nnot after   {} ({})\n",
        file.title(),
        file.hash(),
        rfc3339(lifetime.issued),
        rfc3339(lifetime.renew_by),
        rfc3339(lifetime.not_after),
        lifetime.validity(dates::now()),
    );
    if signers.is_empty() {
        out.push_str("not signed\n");
    }
    for Signer { stated, verified, is_forged } in signers {
        let known = match (verified, is_forged) {
            (Some(key), _) => key.fingerprint(),
            (None, true) => "NOT VALID".to_owned(),
            (None, false) => "not verified; give its public key with --key".to_owned(),
        };
        out.push_str(&format!("signed by   {}  {known}\n", printable(stated)));
    }
    match &file.document {
        Document::Bundle(bundle) => {
            for RoomClassRule { pattern, class, e2ee } in &bundle.classes {
                let e2ee = if *e2ee { ", end-to-end encrypted" } else { "" };
                out.push_str(&format!("rooms       {}: {class}{e2ee}\n", printable(pattern)));
            }
            out.push_str(&rules_table(rules));
        }
        Document::Floor(_) => out.push_str(&rules_table(rules)),
        Document::Directory(directory) => out.push_str(&nodes_table(directory)),
    }
    out
}

fn rules_table(rules: &[Rule]) -> String {
    let titles = ["rule", "effect", "actions", "tier", "why"];
    let mut table = table(&titles);
    for rule in rules {
        let effect = match rule.effect {
            RuleEffect::Permit => "permit",
            RuleEffect::Forbid => "forbid",
        };
        table.add_row(vec![
            Cell::new(printable(rule.id.as_str())).add_attribute(Attribute::Bold),
            Cell::new(effect),
            Cell::new(actions(rule)),
            Cell::new(rule.tier.map_or_else(|| "-".to_owned(), |tier| tier.to_string())),
            Cell::new(printable(&rule.why())),
        ]);
    }
    fit_width(&mut table, &["actions", "why"], &titles);
    table.to_string()
}

fn nodes_table(directory: &Directory) -> String {
    let mut out = format!("trust       {}\n", directory.trust_domain);
    out.push_str(&format!("operator    controlled from {}\n", directory.controlled_from));
    let titles = ["node", "site", "country", "host", "controlled from", "prefixes", "keys"];
    let mut table = table(&titles);
    for node in &directory.nodes {
        let prefixes: Vec<String> = node.prefixes.iter().map(ToString::to_string).collect();
        let keys: Vec<String> = node.keys.iter().map(PublicKey::fingerprint).collect();
        table.add_row(vec![
            Cell::new(printable(&node.id)).add_attribute(Attribute::Bold),
            Cell::new(printable(&node.site)),
            Cell::new(printable(&node.country)),
            Cell::new(printable(&node.host)),
            Cell::new(printable(&node.host_controlled_from)),
            Cell::new(prefixes.join(", ")),
            Cell::new(keys.join(", ")),
        ]);
    }
    fit_width(&mut table, &["prefixes", "keys"], &titles);
    out.push_str(&table.to_string());
    out
}
