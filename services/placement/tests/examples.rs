//! Runs the examples; each asserts what it prints.

#[path = "../examples/full_home.rs"]
mod full_home;

#[test]
fn full_home_runs() -> Result<(), Box<dyn std::error::Error>> {
    full_home::main()
}
