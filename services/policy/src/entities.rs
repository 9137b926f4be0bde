//! Cedar entities of institutions, rooms, participants and nodes, built and checked against the schema once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema,
};

use crate::action::Action;
use crate::node::NodeFacts;
use crate::nodes::DirectoryNodes;
use crate::request::{Claims, RoomAttributes, RoomClass};
use crate::time::PolicyTime;
use crate::time_conditions;

/// What Cedar rejected: a bug of this crate or an unusable name.
type BoxError = Box<dyn std::error::Error>;

/// Prebuilt entities and their ids.
#[derive(Debug)]
pub(crate) struct EntityStore {
    schema: Schema,
    actions: HashMap<Action, EntityUid>,
    institutions: BTreeMap<String, InstitutionEntities>,
    nodes: BTreeMap<String, EntityUid>,
    entities: Entities,
}

/// Entity ids of an institution. Policy distinguishes its rooms by their attributes only, and its participants not at all.
#[derive(Debug)]
struct InstitutionEntities {
    uid: EntityUid,
    rooms: Vec<(RoomAttributes, EntityUid)>,
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
    /// Entities of these institutions and of every node whose attributes are complete.
    pub(crate) fn build(
        schema: Schema,
        institutions: &BTreeSet<&str>,
        nodes: &DirectoryNodes,
    ) -> Result<Self, BoxError> {
        let types = EntityTypes::new()?;
        let actions =
            Action::ALL.into_iter().map(|action| (action, uid(&types.action, action.as_str()))).collect();
        let mut store = Self {
            schema,
            actions,
            institutions: BTreeMap::new(),
            nodes: BTreeMap::new(),
            entities: Entities::empty(),
        };
        let mut entities = Vec::new();
        for name in institutions {
            let room = |attributes: RoomAttributes| {
                let encryption = if attributes.e2ee { "encrypted" } else { "open" };
                (attributes, uid(&types.room, &format!("{name} {} {encryption}", attributes.class.as_str())))
            };
            let all = RoomClass::ALL
                .into_iter()
                .flat_map(|class| [false, true].map(|e2ee| RoomAttributes { class, e2ee }));
            let institution = InstitutionEntities {
                uid: uid(&types.institution, name),
                rooms: all.map(room).collect(),
                participant: uid(&types.participant, name),
            };
            entities.extend(institution_entities(&types, &institution)?);
            store.institutions.insert((*name).to_owned(), institution);
        }
        for facts in nodes.iter().filter(|facts| facts.missing().next().is_none()) {
            let (uid, entity) = node(&types, facts)?;
            entities.push(entity);
            store.nodes.insert(facts.id.clone(), uid);
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

    pub(crate) fn room(&self, institution: &str, attributes: RoomAttributes) -> Option<EntityUid> {
        let rooms = &self.institutions.get(institution)?.rooms;
        rooms.iter().find(|(known, _)| *known == attributes).map(|(_, uid)| uid.clone())
    }

    pub(crate) fn participant(&self, institution: &str) -> Option<EntityUid> {
        self.institutions.get(institution).map(|institution| institution.participant.clone())
    }

    pub(crate) fn node(&self, id: &str) -> Option<EntityUid> {
        self.nodes.get(id).cloned()
    }

    /// The time, if it is known, and the claims as the schema's `Circumstances`.
    pub(crate) fn context(&self, now: Option<PolicyTime>, claims: Claims) -> Result<Context, BoxError> {
        let time = now.map(time_conditions::attributes).transpose()?;
        let e2ee = ("e2ee".to_owned(), RestrictedExpression::new_bool(claims.e2ee));
        let load = claims
            .load_percent
            .map(|load| ("load_percent".to_owned(), RestrictedExpression::new_long(load.into())));
        Ok(Context::from_pairs([e2ee].into_iter().chain(load).chain(time.into_iter().flatten()))?)
    }
}

fn institution_entities(
    types: &EntityTypes,
    institution: &InstitutionEntities,
) -> Result<Vec<Entity>, BoxError> {
    let parents = || HashSet::from([institution.uid.clone()]);
    let mut entities = vec![
        Entity::with_uid(institution.uid.clone()),
        Entity::new_no_attrs(institution.participant.clone(), parents()),
    ];
    for (attributes, room) in &institution.rooms {
        let class = uid(&types.class, attributes.class.as_str());
        let values = HashMap::from([
            ("class".to_owned(), RestrictedExpression::new_entity_uid(class)),
            ("e2ee".to_owned(), RestrictedExpression::new_bool(attributes.e2ee)),
        ]);
        entities.push(Entity::new(room.clone(), values, parents())?);
    }
    Ok(entities)
}

fn node(types: &EntityTypes, facts: &NodeFacts) -> Result<(EntityUid, Entity), BoxError> {
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

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
