//! The program `authferry`.

use std::process::ExitCode;

fn main() -> ExitCode {
    authferry::cli::main()
}
