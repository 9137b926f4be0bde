//! What decides for one institution: its bundle and the floor.

use cedar_policy::Schema;
use systir_documents::{Bundle, DocumentHash, Floor, Validity, Vocabulary};
use systir_reason::Reason;

use crate::classes::RoomClasses;
use crate::decision::{Denial, PolicyVersion};
use crate::guarantee::LoadedGuarantee;
use crate::lint::PolicyLayer;
use crate::loader::{LoadedPart, LoadedPolicy, PolicySource};
use crate::node::NodeFacts;
use crate::problem::Problem;
use crate::schema::{SCHEMA, schema};
use crate::source::{SourceDocument, place};
use crate::statement::PolicyStatement;

/// What decides for one institution.
#[derive(Debug)]
pub(crate) struct InstitutionPolicy {
    pub(crate) loaded: LoadedPolicy,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) classes: RoomClasses,
    /// Those of the floor, then the bundle's own.
    pub(crate) guarantees: Vec<LoadedGuarantee>,
    pub(crate) statement: PolicyStatement,
    /// The bundle and the floor, each with its validity.
    pub(crate) validity: [(String, Validity); 2],
}

impl InstitutionPolicy {
    pub(crate) fn load(
        bundle: &SourceDocument<'_, Bundle>,
        floor: &SourceDocument<'_, Floor>,
        floor_rules: &LoadedPart,
        directories: &[&DocumentHash],
        schema: &Schema,
    ) -> Result<Self, Vec<Problem>> {
        let (document, floor_document) = (bundle.document, floor.document);
        let place = place::bundle(&document.institution);
        let mut problems = check_names(&place, document);
        let classes = RoomClasses::new(&place, &document.classes).map_err(|found| problems.extend(found));
        let own = bundle_source(document, &place).load(schema, floor_rules.len());
        let own = own.map_err(|found| problems.extend(found));
        let (Ok(classes), Ok(own), true) = (classes, own, problems.is_empty()) else { return Err(problems) };
        let documents: Vec<&DocumentHash> =
            [&floor.hash, &bundle.hash].into_iter().chain(directories.iter().copied()).collect();
        let version = PolicyVersion::new(document.version, SCHEMA, &documents);
        Ok(Self {
            loaded: LoadedPolicy::combine(&place, version.clone(), SCHEMA, floor_rules, &own)?,
            vocabulary: document.vocabulary.clone(),
            classes,
            guarantees: floor_rules.guarantees.iter().chain(&own.guarantees).cloned().collect(),
            statement: PolicyStatement {
                institution: document.institution.clone(),
                version,
                signers: bundle.fingerprints(),
                floor_operator: floor_document.operator.clone(),
                floor_version: floor_document.version,
                floor_signers: floor.fingerprints(),
            },
            validity: [(place, bundle.validity), (place::floor(&floor_document.operator), floor.validity)],
        })
    }

    pub(crate) fn version(&self) -> &PolicyVersion {
        &self.statement.version
    }

    pub(crate) fn check_validity(&self) -> Result<(), Denial> {
        let expired = self.validity.iter().find(|(_, validity)| *validity == Validity::Expired);
        match expired {
            Some((document, _)) => Err((
                Reason::PolicyExpired,
                format!("the {document} has expired: nothing is allowed until a newer version is published"),
            )),
            None => Ok(()),
        }
    }

    /// Does the bundle know the node's operator and host? Else its rules were not written for such a node.
    pub(crate) fn check_vocabulary(&self, facts: &NodeFacts) -> Result<(), Denial> {
        let known = &self.vocabulary;
        let unknown = if !known.operators.contains(&facts.operator) {
            format!("the operator {:?}", facts.operator)
        } else if !known.hosts.contains(&facts.host) {
            format!("the host {:?}", facts.host)
        } else {
            return Ok(());
        };
        let institution = &self.statement.institution;
        let why = format!("{} has {unknown}, which the policy of {institution} does not know", facts.id);
        Err((Reason::UnknownEntity, why))
    }
}

/// Everything that is wrong in a bundle by itself.
pub(crate) fn check_bundle(bundle: &Bundle) -> Result<(), Vec<Problem>> {
    let place = place::bundle(&bundle.institution);
    let mut problems = check_names(&place, bundle);
    problems.extend(RoomClasses::new(&place, &bundle.classes).err().unwrap_or_default());
    problems.extend(bundle_source(bundle, &place).load(&schema()?, 0).err().unwrap_or_default());
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Everything that is wrong in a floor by itself.
pub(crate) fn check_floor(floor: &Floor) -> Result<(), Vec<Problem>> {
    floor_source(floor, &place::floor(&floor.operator)).load(&schema()?, 0)?;
    Ok(())
}

fn bundle_source<'a>(bundle: &'a Bundle, place: &'a str) -> PolicySource<'a> {
    PolicySource {
        place,
        layer: PolicyLayer::Institution(&bundle.institution),
        text: &bundle.policy,
        zones: &bundle.zones,
        vocabulary: &bundle.vocabulary,
        guarantees: &bundle.guarantees,
    }
}

pub(crate) fn floor_source<'a>(floor: &'a Floor, place: &'a str) -> PolicySource<'a> {
    PolicySource {
        place,
        layer: PolicyLayer::Floor,
        text: &floor.policy,
        zones: &floor.zones,
        vocabulary: &floor.vocabulary,
        guarantees: &floor.guarantees,
    }
}

/// Institutions are named by their domains.
fn check_names(place: &str, bundle: &Bundle) -> Vec<Problem> {
    let is_domain =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    let names = bundle.vocabulary.institutions.iter().chain([&bundle.institution]);
    let wrong = names.filter(|name| !is_domain(name));
    wrong
        .map(|name| {
            Problem::at(place, format!("{name:?}: an institution is named by its domain, like ku.dk"))
        })
        .collect()
}
