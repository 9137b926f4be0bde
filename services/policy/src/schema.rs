//! The Cedar schema.

use cedar_policy::Schema;

use crate::problem::Problem;

/// The Cedar schema that every policy must match.
pub const SCHEMA: &str = include_str!("../policies/schema.cedarschema");

/// The schema, parsed.
pub(crate) fn schema() -> Result<Schema, Vec<Problem>> {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| schema_problem(&error))?;
    Ok(schema)
}

pub(crate) fn schema_problem(error: &dyn std::fmt::Display) -> Vec<Problem> {
    vec![Problem::at("schema", error.to_string())]
}
