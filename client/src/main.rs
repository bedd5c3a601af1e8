//! `wharf`, the command line: docker's habits over the `wharf.v1` API.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
