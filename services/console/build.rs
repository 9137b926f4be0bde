//! Bundles the meeting page with npm and esbuild into `OUT_DIR`; `src/lib.rs` embeds the result.

use std::path::Path;
use std::process::Command;

fn main() {
    for path in ["web/src", "web/build.mjs", "web/package.json", "web/package-lock.json"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let Ok(out) = std::env::var("OUT_DIR") else {
        fail("OUT_DIR is not set: build this crate with cargo");
    };
    // `node_modules` is complete only if this file equals the lock file; otherwise install again.
    let installed = Path::new("web/node_modules/.installed-lock.json");
    let lock = std::fs::read(Path::new("web/package-lock.json")).unwrap_or_default();
    if std::fs::read(installed).ok().as_deref() != Some(&lock) {
        run("npm", &["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
        if let Err(error) = std::fs::write(installed, &lock) {
            fail(&format!("{} cannot be written: {error}", installed.display()));
        }
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
