use std::process::ExitCode;

use buildfleet::backend::local::child;

fn main() -> ExitCode {
    // Before any thread and any other thing: this process is about to become another program.
    if std::env::args_os().nth(1).is_some_and(|word| word == child::SUBCOMMAND) {
        let error = child::exec_from_arguments(std::env::args_os().skip(2));
        eprintln!("buildfleet: {}", buildfleet::report::chain(&error));
        return ExitCode::FAILURE;
    }
    buildfleet::cli::run(std::env::args_os())
}
