fn main() -> std::process::ExitCode {
    buildfleet::cli::run(std::env::args_os())
}
