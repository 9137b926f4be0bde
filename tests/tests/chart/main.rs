//! The Helm chart `helm/systir`: what it renders, what it refuses, and that real relays run with it. Helm and the schemas
//! come from `tests/chart/tools`. `make chart` runs these tests, `make chart-renew` writes the expected objects and the
//! chart's table of values anew.

mod documents;
mod examples;
mod files;
mod helm;
mod metrics;
mod node_config;
mod pod;
mod pods;
mod refusals;
mod rolls;
mod running;
