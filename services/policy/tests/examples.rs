//! Runs the examples; each asserts what it prints.

#[path = "../examples/decide_and_explain.rs"]
mod decide_and_explain;

#[test]
fn decide_and_explain_runs() -> Result<(), Box<dyn std::error::Error>> {
    decide_and_explain::main()
}
