//! Runs the examples; each asserts what it prints.

#[path = "../examples/sign_and_verify.rs"]
mod sign_and_verify;

#[test]
fn sign_and_verify_runs() -> Result<(), Box<dyn std::error::Error>> {
    sign_and_verify::main()
}
