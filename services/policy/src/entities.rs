//! The entities that decisions are made on, built and checked against the schema once.

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema,
};

use crate::action::Action;
use crate::country::is_country;
use crate::names::KnownNames;
use crate::node::{NodeFacts, Nodes};
use crate::request::{Claims, RoomClass};

/// Anything that Cedar would not take. The texts are ours, so this is a fault of this crate or of a name.
type Fault = Box<dyn std::error::Error>;

/// Prebuilt entities and the ids to ask about them.
#[derive(Debug)]
pub(crate) struct Store {
    schema: Schema,
    types: Types,
    names: KnownNames,
    actions: HashMap<Action, EntityUid>,
    institutions: BTreeMap<String, Owner>,
    nodes: BTreeMap<String, (NodeFacts, EntityUid)>,
    entities: Entities,
}

/// An institution's ids: its rooms differ for policy in their class only, its people in nothing.
#[derive(Debug)]
struct Owner {
    uid: EntityUid,
    standard: EntityUid,
    confidential: EntityUid,
    participant: EntityUid,
}

#[derive(Debug)]
struct Types {
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

impl Types {
    fn new() -> Result<Self, Fault> {
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

impl Store {
    /// Entities of every known institution and of every node whose entry is complete.
    pub(crate) fn build(schema: Schema, names: KnownNames, nodes: &Nodes) -> Result<Self, Fault> {
        let types = Types::new()?;
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
        for institution in &store.names.institutions {
            let owner = Owner {
                uid: uid(&store.types.institution, institution),
                standard: uid(&store.types.room, &format!("{institution} standard")),
                confidential: uid(&store.types.room, &format!("{institution} confidential")),
                participant: uid(&store.types.participant, institution),
            };
            entities.extend(store.owned(&owner)?);
            store.institutions.insert(institution.clone(), owner);
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
        self.institutions.get(institution).map(|owner| owner.room(class).clone())
    }

    pub(crate) fn participant(&self, institution: &str) -> Option<EntityUid> {
        self.institutions.get(institution).map(|owner| owner.participant.clone())
    }

    /// The id of the node, when exactly these facts were prebuilt.
    pub(crate) fn known_node(&self, facts: &NodeFacts) -> Option<EntityUid> {
        self.nodes.get(&facts.id).filter(|(known, _)| known == facts).map(|(_, uid)| uid.clone())
    }

    /// Entities for a node that was not prebuilt, and its id: the slow path for facts of another source.
    pub(crate) fn with_node(
        &self,
        institution: &str,
        facts: &NodeFacts,
    ) -> Result<(EntityUid, Entities), Fault> {
        let owner = self.institutions.get(institution).ok_or("the institution is not known")?;
        let (uid, entity) = self.node(facts)?;
        let entities = self.owned(owner)?.into_iter().chain([entity]);
        Ok((uid, Entities::from_entities(entities, Some(&self.schema))?))
    }

    /// What the node states that nobody here knows.
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

    /// What others claim, as the schema's `Claims`.
    pub(crate) fn context(&self, claims: Claims) -> Result<Context, Fault> {
        let e2ee = ("e2ee".to_owned(), RestrictedExpression::new_bool(claims.e2ee));
        let load = claims
            .load_percent
            .map(|load| ("load_percent".to_owned(), RestrictedExpression::new_long(load.into())));
        Ok(Context::from_pairs([e2ee].into_iter().chain(load))?)
    }

    fn owned(&self, owner: &Owner) -> Result<Vec<Entity>, Fault> {
        let parents = || HashSet::from([owner.uid.clone()]);
        let mut entities = vec![
            Entity::with_uid(owner.uid.clone()),
            Entity::new_no_attrs(owner.participant.clone(), parents()),
        ];
        for class in RoomClass::ALL {
            let class_uid = RestrictedExpression::new_entity_uid(uid(&self.types.class, class.as_str()));
            let attributes = HashMap::from([("class".to_owned(), class_uid)]);
            entities.push(Entity::new(owner.room(class).clone(), attributes, parents())?);
        }
        Ok(entities)
    }

    fn node(&self, facts: &NodeFacts) -> Result<(EntityUid, Entity), Fault> {
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

impl Owner {
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
