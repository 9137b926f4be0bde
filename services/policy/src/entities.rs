//! Cedar entities of institutions, rooms, participants and nodes, built and checked against the schema once.

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema,
};

use crate::action::Action;
use crate::country::is_country;
use crate::names::KnownNames;
use crate::node::{NodeFacts, Nodes};
use crate::request::{Claims, RoomClass};

/// What Cedar rejected: a bug of this crate or an unusable name.
type BoxError = Box<dyn std::error::Error>;

/// Prebuilt entities and their ids.
#[derive(Debug)]
pub(crate) struct EntityStore {
    schema: Schema,
    types: EntityTypes,
    names: KnownNames,
    actions: HashMap<Action, EntityUid>,
    institutions: BTreeMap<String, InstitutionEntities>,
    nodes: BTreeMap<String, (NodeFacts, EntityUid)>,
    entities: Entities,
}

/// Entity ids of an institution. Policy distinguishes its rooms by class only, and its participants not at all.
#[derive(Debug)]
struct InstitutionEntities {
    uid: EntityUid,
    standard: EntityUid,
    confidential: EntityUid,
    participant: EntityUid,
}

#[derive(Debug)]
struct EntityTypes {
    country: EntityTypeName,
    institution: EntityTypeName,
    operator: EntityTypeName,
    host: EntityTypeName,
    class: EntityTypeName,
    room: EntityTypeName,
    participant: EntityTypeName,
    node: EntityTypeName,
    action: EntityTypeName,
}

impl EntityTypes {
    fn new() -> Result<Self, BoxError> {
        Ok(Self {
            country: "Country".parse()?,
            institution: "Institution".parse()?,
            operator: "Operator".parse()?,
            host: "Host".parse()?,
            class: "RoomClass".parse()?,
            room: "Room".parse()?,
            participant: "Participant".parse()?,
            node: "Node".parse()?,
            action: "Action".parse()?,
        })
    }
}

impl EntityStore {
    /// Entities of every known institution and of every node whose entry is complete.
    pub(crate) fn build(schema: Schema, names: KnownNames, nodes: &Nodes) -> Result<Self, BoxError> {
        let types = EntityTypes::new()?;
        let actions =
            Action::ALL.into_iter().map(|action| (action, uid(&types.action, action.as_str()))).collect();
        let mut store = Self {
            schema,
            types,
            names,
            actions,
            institutions: BTreeMap::new(),
            nodes: BTreeMap::new(),
            entities: Entities::empty(),
        };
        let mut entities = Vec::new();
        for name in &store.names.institutions {
            let institution = InstitutionEntities {
                uid: uid(&store.types.institution, name),
                standard: uid(&store.types.room, &format!("{name} standard")),
                confidential: uid(&store.types.room, &format!("{name} confidential")),
                participant: uid(&store.types.participant, name),
            };
            entities.extend(store.institution_entities(&institution)?);
            store.institutions.insert(name.clone(), institution);
        }
        for facts in nodes.iter().filter(|facts| facts.missing().next().is_none()) {
            let (uid, entity) = store.node(facts)?;
            entities.push(entity);
            store.nodes.insert(facts.id.clone(), (facts.clone(), uid));
        }
        store.entities = Entities::from_entities(entities, Some(&store.schema))?;
        Ok(store)
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn entities(&self) -> &Entities {
        &self.entities
    }

    pub(crate) fn action(&self, action: Action) -> Option<EntityUid> {
        self.actions.get(&action).cloned()
    }

    pub(crate) fn room(&self, institution: &str, class: RoomClass) -> Option<EntityUid> {
        self.institutions.get(institution).map(|institution| institution.room(class).clone())
    }

    pub(crate) fn participant(&self, institution: &str) -> Option<EntityUid> {
        self.institutions.get(institution).map(|institution| institution.participant.clone())
    }

    /// The node's id, if its entity was prebuilt from exactly these facts.
    pub(crate) fn known_node(&self, facts: &NodeFacts) -> Option<EntityUid> {
        self.nodes.get(&facts.id).filter(|(known, _)| known == facts).map(|(_, uid)| uid.clone())
    }

    /// The id of a node that was not prebuilt, and entities for it: the slow path for facts from another nodes file.
    pub(crate) fn with_node(
        &self,
        institution: &str,
        facts: &NodeFacts,
    ) -> Result<(EntityUid, Entities), BoxError> {
        let institution = self.institutions.get(institution).ok_or("the institution is not known")?;
        let (uid, entity) = self.node(facts)?;
        let entities = self.institution_entities(institution)?.into_iter().chain([entity]);
        Ok((uid, Entities::from_entities(entities, Some(&self.schema))?))
    }

    /// The first country, operator or host in `facts` that this engine does not know.
    pub(crate) fn unknown_in(&self, facts: &NodeFacts) -> Option<String> {
        let of = |what: &str, name: &str| Some(format!("{} states the {what} {name:?}", facts.id));
        for country in [&facts.country, &facts.operator_controlled_from, &facts.host_controlled_from] {
            if !is_country(country) {
                return of("country", country);
            }
        }
        for operator in [&facts.operator, &facts.declared_by] {
            if !self.names.operators.contains(operator) {
                return of("operator", operator);
            }
        }
        if self.names.hosts.contains(&facts.host) { None } else { of("host", &facts.host) }
    }

    /// The claims as the schema's `Claims`.
    pub(crate) fn context(&self, claims: Claims) -> Result<Context, BoxError> {
        let e2ee = ("e2ee".to_owned(), RestrictedExpression::new_bool(claims.e2ee));
        let load = claims
            .load_percent
            .map(|load| ("load_percent".to_owned(), RestrictedExpression::new_long(load.into())));
        Ok(Context::from_pairs([e2ee].into_iter().chain(load))?)
    }

    fn institution_entities(&self, institution: &InstitutionEntities) -> Result<Vec<Entity>, BoxError> {
        let parents = || HashSet::from([institution.uid.clone()]);
        let mut entities = vec![
            Entity::with_uid(institution.uid.clone()),
            Entity::new_no_attrs(institution.participant.clone(), parents()),
        ];
        for class in RoomClass::ALL {
            let class_uid = RestrictedExpression::new_entity_uid(uid(&self.types.class, class.as_str()));
            let attributes = HashMap::from([("class".to_owned(), class_uid)]);
            entities.push(Entity::new(institution.room(class).clone(), attributes, parents())?);
        }
        Ok(entities)
    }

    fn node(&self, facts: &NodeFacts) -> Result<(EntityUid, Entity), BoxError> {
        let types = &self.types;
        let of = |key: &str, kind: &EntityTypeName, name: &str| {
            (key.to_owned(), RestrictedExpression::new_entity_uid(uid(kind, name)))
        };
        let attributes = HashMap::from([
            of("country", &types.country, &facts.country),
            of("operator", &types.operator, &facts.operator),
            of("operator_controlled_from", &types.country, &facts.operator_controlled_from),
            of("host", &types.host, &facts.host),
            of("host_controlled_from", &types.country, &facts.host_controlled_from),
            of("declared_by", &types.operator, &facts.declared_by),
            ("own_machine".to_owned(), RestrictedExpression::new_bool(facts.own_machine())),
        ]);
        let node = uid(&types.node, &facts.id);
        Ok((node.clone(), Entity::new(node, attributes, HashSet::new())?))
    }
}

impl InstitutionEntities {
    fn room(&self, class: RoomClass) -> &EntityUid {
        match class {
            RoomClass::Standard => &self.standard,
            RoomClass::Confidential => &self.confidential,
        }
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
