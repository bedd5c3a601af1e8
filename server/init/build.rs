//! Builds the program from `src/start.rs`, by rustc itself: cargo cannot give one program of a workspace another
//! way to panic and to be linked than the rest. It needs nothing but `core` and no file of the image it will run
//! in, so nothing of the build's own flags matters to it either.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

/// No C library, no start-up code but our own, nothing to be loaded or relocated.
const LINK: [&str; 5] = [
    "-nostdlib",
    "-nostartfiles",
    "-static",
    "-Wl,--build-id=none",
    "-Wl,-z,noexecstack",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=src");
    let program = PathBuf::from(env::var("OUT_DIR")?).join("wharf-init");
    let mut rustc = Command::new(env::var("RUSTC")?);
    rustc
        .args(["--edition=2024", "--crate-type=bin"])
        .args(["--crate-name=wharf_init_program", "src/start.rs", "-o"])
        .arg(&program)
        .args(["--target", &env::var("TARGET")?])
        // With all of it optimized at once, `core` leaves no trace of unwinding.
        .args(["-Cpanic=abort", "-Clto=fat", "-Ccodegen-units=1"])
        .args(["-Copt-level=s", "-Cstrip=symbols"])
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static"])
        .args(LINK.map(|argument| format!("-Clink-arg={argument}")));
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    // Flags of the build, such as instrumentation for coverage, may need more than `core`.
    rustc.env_remove("RUSTFLAGS");
    if !rustc.status()?.success() {
        return Err("wharf-init does not build".into());
    }
    // What is not there is not embedded.
    fs::metadata(program)?;
    Ok(())
}
