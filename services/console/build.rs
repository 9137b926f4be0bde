//! Bundles the meeting page with npm and esbuild into `OUT_DIR`, from where it is embedded.

use std::path::Path;
use std::process::Command;

fn main() {
    for path in ["web/src", "web/build.mjs", "web/package.json", "web/package-lock.json"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let Ok(out) = std::env::var("OUT_DIR") else {
        fail("OUT_DIR is not set: build this crate with cargo");
    };
    if !Path::new("web/node_modules/livekit-client").is_dir() {
        run("npm", &["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
    }
    run("node", &["build.mjs", &out]);
}

fn run(program: &str, arguments: &[&str]) {
    match Command::new(program).args(arguments).current_dir("web").status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("`{program} {}` in services/console/web: {status}", arguments.join(" "))),
        Err(error) => {
            fail(&format!(
                "{program} is needed for the meeting page ({error}): install Node.js 18 or newer with npm"
            ));
        }
    }
}

fn fail(why: &str) -> ! {
    eprintln!("systir-console: {why}");
    std::process::exit(1);
}
